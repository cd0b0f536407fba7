r"""Look inside a detector: its queries, its layers, and what the decoder looks at.

    python scripts/visualize.py --checkpoint out/ --images a.jpg dir/ --output drawn/
    python scripts/visualize.py --checkpoint out/ --images a.jpg --output drawn/ \
        --what attention --detection 3 --layer 5 --head 2
    python scripts/visualize.py --checkpoint out/ --output drawn/ \
        --what truth,scatter --data path/to/coco --split val2017 --count 200

--what, several with commas between: `anchors`: all points over the picture that queries start from;
`patterns`: what each pattern finds; `layers`: how the decoder's layers refine it; `attention`: the
row attention, the column attention and their product for one detection, in one layer, and in small
for all layers and heads; `gaussians`: what modulates the attention of SMCA's queries; `scatter`:
where and how large the boxes are, over all pictures, of each pattern; `queries`: where each query's
boxes are; `truth`: the ground truth of --data beside what is found. All numbers count from 0,
detections from the best. What a family does not have (DETR's queries start from no points, and only
Anchor DETR's have patterns) is not drawn.
"""

import difflib
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import ImageSizeFlags

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anchor_detr_jax import Detections, Detector
    from anchor_detr_jax.detector import ImageSource
    from anchor_detr_jax.insight.observation import Observation

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector, or a .pth.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the figures.", required=True)
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "Pictures, folders of them, or quoted patterns; more may follow."
)
_DATA = flags.DEFINE_string("data", None, "A data set, to take pictures from.")
_SPLIT = flags.DEFINE_string("split", "val2017", "Which part of --data.")
_COUNT = flags.DEFINE_integer("count", 20, "Most pictures of --data.", 1)
_WHAT = flags.DEFINE_list("what", None, "What to draw. By default, all that there is.")
_DETECTION = flags.DEFINE_integer(
    "detection", 0, "Whose attention and Gaussians; 0 is the best one.", 0
)
_LAYER = flags.DEFINE_integer("layer", -1, "Which layer's attention; -1: the last.")
_HEAD = flags.DEFINE_string("head", "mean", "Which head's attention, or `mean`: of all heads.")
_THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Lowest score of a detection.", 0.0, 1.0)
_SIZE = ImageSizeFlags()

_ALL = (
    *("truth", "anchors", "patterns", "layers", "attention", "gaussians"),
    *("scatter", "queries"),
)


@dataclass(frozen=True)
class _Picture:
    """A picture to look at; `truth` where it is known."""

    name: str
    opened: Callable[[], "ImageSource"]
    truth: "Detections | None" = None


def main(arguments: list[str]) -> None:
    """Observe each picture, draw its figures, and one of all of them."""
    import anchor_detr_jax as ad
    from anchor_detr_jax.insight.box_sets import collect_boxes
    from anchor_detr_jax.insight.query_boxes import query_figure
    from anchor_detr_jax.insight.scatter import scatter_figure

    what, output = _wanted(), Path(_OUTPUT.value)
    files = _named_files(arguments)
    output.mkdir(parents=True, exist_ok=True)
    # Pillow's warning of a picture that may fill the memory: such a picture is one that failed.
    warnings.filterwarnings("error", message=".*decompression bomb")
    detector = ad.load(_CHECKPOINT.value)
    what = _there(what, detector)
    head = _checked_numbers(detector) if "attention" in what else None
    pictures = _from_files(files) if files else _from_data(detector)
    errors: list[str] = []
    boxes = collect_boxes(_observed(detector, pictures, what, head, errors))
    if boxes and "scatter" in what and (len(boxes.boxes) or _WHAT.value):
        _save(scatter_figure(boxes), output / "scatter.png")
    if boxes and "queries" in what:
        _save(query_figure(boxes), output / "queries.png")
    if errors:
        raise ValueError(f"{len(errors)} of {len(pictures)} pictures failed, as said above")


def _wanted() -> list[str]:
    """What to draw, in the order in which it is drawn."""
    possible = [what for what in _ALL if what != "truth" or _DATA.value]
    asked = [what.strip() for what in _WHAT.value or possible]
    for what in asked:
        if what not in _ALL:
            near = difflib.get_close_matches(what, _ALL, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected some of {','.join(_ALL)}"
            raise ValueError(f"--what {what}: {hint}")
    if "truth" in asked and not _DATA.value:
        raise ValueError("--what truth needs --data, a data set with annotations")
    return [what for what in _ALL if what in asked]


def _there(what: list[str], detector: "Detector") -> list[str]:
    """What of it the detector's family has; refuses what was asked for by name and is not there."""
    from anchor_detr_jax.insight.query_points import query_kind

    kind = query_kind(detector.config)
    missing = {
        "anchors": "" if kind.points else "start from no points",
        "patterns": "" if kind.patterns else "have no patterns",
        "gaussians": "" if kind.gaussians else "have no Gaussians",
    }
    there = [one for one in what if not missing.get(one)]
    for one in what:
        if _WHAT.value and one not in there:
            expected = ",".join(one for one in _ALL if not missing.get(one))
            raise ValueError(
                f"--what {one}: this detector's queries {missing[one]}; choose of {expected}"
            )
    return there


def _named_files(arguments: list[str]) -> list[Path]:
    from anchor_detr_jax.data.picture_files import PICTURES, named_files

    names = [*(_IMAGES.value or ()), *arguments]
    if bool(names) == bool(_DATA.value):
        raise ValueError("say either --images, or --data (with --split)")
    return named_files(names, PICTURES)


def _from_files(files: list[Path]) -> list[_Picture]:
    from anchor_detr_jax.data.picture_files import distinct_stems

    stems = distinct_stems(files)
    return [_Picture(stem, lambda file=file: file) for file, stem in zip(files, stems, strict=True)]


def _from_data(detector: "Detector") -> list[_Picture]:
    """Pictures as they are stored, to which their boxes belong."""
    from anchor_detr_jax.data.picture_files import distinct_stems
    from anchor_detr_jax.evaluation.sets import read_evaluation_set

    dataset, truth = read_evaluation_set(
        str(_DATA.value), _SPLIT.value, columns=detector.categories, on_bad="skip"
    )
    images = dataset.images[: _COUNT.value]
    stems = distinct_stems(image.path for image in images)
    return [
        _Picture(stem, image.opened, truth.of_image(image.id))
        for image, stem in zip(images, stems, strict=True)
    ]


def _checked_numbers(detector: "Detector") -> int | None:
    """The head, None for the mean; refuses what no picture could have, before any work."""
    from anchor_detr_jax.insight.observation import checked_number

    checked_number("--layer", _LAYER.value, detector.config.decoder_layers)
    if _HEAD.value == "mean":
        return None
    heads = detector.config.num_heads
    if not _HEAD.value.lstrip("-").isdecimal():
        raise ValueError(f"--head is {_HEAD.value!r}, and must be `mean` or from 0 to {heads - 1}")
    return checked_number("--head", int(_HEAD.value), heads)


def _observed(
    detector: "Detector",
    pictures: list[_Picture],
    what: list[str],
    head: int | None,
    errors: list[str],
) -> Iterator["Observation"]:
    """Each picture observed and drawn; what is wrong with one is said, and the others are done."""
    from anchor_detr_jax.insight.observation import observe

    for picture in tqdm(pictures, unit="image", disable=len(pictures) == 1):
        seen = None
        try:
            seen = observe(
                detector,
                picture.opened(),
                threshold=_THRESHOLD.value,
                **_SIZE.value,
            )
            found = ", ".join(f"{i} {one.name} {one.score:.2f}" for i, one in enumerate(seen.found))
            tqdm.write(f"{picture.name}: {found or 'nothing found'}")
            for suffix, figure in _figures(seen, picture, what, head):
                _save(figure, Path(_OUTPUT.value) / f"{picture.name}_{suffix}.png")
        except (ValueError, OSError) as error:
            errors.append(f"{picture.name}: {error}")
            tqdm.write(f"error: {errors[-1]}", file=sys.stderr)
        if seen is not None:
            yield seen


def _figures(
    seen: "Observation", picture: _Picture, what: list[str], head: int | None
) -> Iterator[tuple[str, "Figure"]]:
    """What is wanted of one picture, each with what to call it."""
    from anchor_detr_jax.insight.anchors import anchor_figure
    from anchor_detr_jax.insight.attention import attention_figure, attention_grid_figure
    from anchor_detr_jax.insight.gaussians import gaussian_figure
    from anchor_detr_jax.insight.patterns import layer_figure, pattern_figure
    from anchor_detr_jax.insight.truth import truth_figure

    if "truth" in what and picture.truth is not None:
        yield "truth", truth_figure(seen, picture.truth)
    if "anchors" in what:
        yield "anchors", anchor_figure(seen)
    if not len(seen.found) and not _WHAT.value:
        return  # the rest is of what was found, and nobody asked for it by name
    if "patterns" in what:
        yield "patterns", pattern_figure(seen)
    if "layers" in what:
        yield "layers", layer_figure(seen)
    if "attention" in what:
        number = _DETECTION.value
        for level, level_name in enumerate(seen.levels):
            name = f"attention_{number}" + (f"_{level_name}" if len(seen.levels) > 1 else "")
            figure = attention_figure(
                seen, detection=number, layer=_LAYER.value, head=head, level=level
            )
            yield name, figure
            yield f"{name}_all", attention_grid_figure(seen, detection=number, level=level)
    if "gaussians" in what:
        yield f"gaussians_{_DETECTION.value}", gaussian_figure(seen, detection=_DETECTION.value)


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path)
    tqdm.write(str(path))


if __name__ == "__main__":
    run_command(main)
