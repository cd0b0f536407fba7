"""Write a detector as a file that runs without this package: StableHLO or ONNX.

    python scripts/export.py --checkpoint out/ --format onnx --output model.onnx --images photos/
    python scripts/export.py --checkpoint out/ --format stablehlo --output model.stablehlo
    python scripts/export.py --checkpoint out/ --format onnx --output m.onnx --size 800x1216

The file is read back and run beside the model on --images (else on made-up pictures); the largest
differences are printed, and if they are too large there is no file. docs/deployment.md says what
goes in and what comes out. ONNX needs an extra: pip install "anchor_detr_jax[onnx]".
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.output_file import check_output_file

if TYPE_CHECKING:
    from PIL import Image

    from anchor_detr_jax import Detector
    from anchor_detr_jax.export.exporting import ExportReport

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector or a run, or a .pth.", required=True
)
_FORMAT = flags.DEFINE_enum("format", None, ["stablehlo", "onnx"], "What to write.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "File to write.", required=True)
_BATCH = flags.DEFINE_string("batch", "dynamic", "Images at a time: a number, or dynamic.")
_SIZE = flags.DEFINE_string(
    "size", "dynamic", "Of the images: HEIGHTxWIDTH, buckets (six sizes; stablehlo) or dynamic."
)
_PADDING = flags.DEFINE_bool(
    "padding", True, "An input that says how much of each image is real; else all of it is."
)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "What is computed in; onnx: float32."
)
_PREPROCESS = flags.DEFINE_bool("preprocess", True, "Take uint8, and normalise; else normalised.")
_POSTPROCESS = flags.DEFINE_bool(
    "postprocess", True, "Give the best detections, in pixels; else logits and boxes."
)
_TOP_K = flags.DEFINE_integer("top_k", 100, "Detections of an image.", 1)
_WEIGHTS = flags.DEFINE_enum(
    "weights",
    "beside",
    ["beside", "inside"],
    "Beside the programs in the file, or in each; stablehlo.",
)
_SHORT_SIDE = flags.DEFINE_integer("short_side", 800, "Short side of the resized images.", 1)
_LONG_SIDE = flags.DEFINE_integer("long_side", 1333, "Limit of their long side.", 1)
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "Pictures to verify on, folders of them, or quoted patterns; more may follow."
)
_TIME = flags.DEFINE_integer(
    "time", 0, "Run file and model in turn so many times on the first picture.", 0
)


def main(arguments: list[str]) -> None:
    """Export, and say how near to the model the file is."""
    from anchor_detr_jax.export.exporting import export_detector
    from anchor_detr_jax.export.form import ExportForm, parsed_batch, parsed_sizes

    output = Path(_OUTPUT.value)
    check_output_file("output", output)
    sides = (_SHORT_SIDE.value, _LONG_SIDE.value)
    form = ExportForm(
        batch=parsed_batch(_BATCH.value),
        sizes=parsed_sizes(_SIZE.value, *sides),
        padding=_PADDING.value,
        preprocess=_PREPROCESS.value,
        postprocess=_POSTPROCESS.value,
        top_k=_TOP_K.value,
        short_side=sides[0],
        long_side=sides[1],
    )
    pictures = _pictures([*(_IMAGES.value or []), *arguments])
    detector = _detector(form)
    report = export_detector(
        detector,
        output,
        pictures,
        file_format=_FORMAT.value,
        form=form,
        weights_inside=_WEIGHTS.value == "inside",
    )
    _tell(report, output)
    if _TIME.value:
        _time(report, detector, pictures[0])


def _detector(form) -> "Detector":
    """The detector, once it is known that it can be exported."""
    import anchor_detr_jax as ad
    from anchor_detr_jax.export.onnx_file import check_onnx_packages

    if _FORMAT.value == "onnx":
        check_onnx_packages()
    return ad.load(_CHECKPOINT.value, dtype=None if _PRECISION.value == "float32" else "bfloat16")


def _pictures(names: Sequence[str]) -> "list[Image.Image]":
    """What the file is verified on, in RGB."""
    from anchor_detr_jax.data.picture_files import PICTURES, named_files
    from anchor_detr_jax.data.shapes import make_shapes
    from anchor_detr_jax.data.transforms import open_rgb

    if names:
        files = named_files(names, PICTURES)
        return [open_rgb(file, apply_exif_rotation=True) for file in files]
    print("verified on made-up pictures; --images says others, such as photographs")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "shapes"
        make_shapes(made, train=1, val=3, size=256)
        files = sorted((made / "val2017").iterdir())
        return [open_rgb(file, apply_exif_rotation=True) for file in files]


def _tell(report: "ExportReport", output: Path) -> None:
    description = report.detector.description
    print(f"{output}: {report.megabytes:.1f} MB, {_FORMAT.value} {description.program}")
    for name, like in description.inputs.items():
        print(f"  in   {name}: {like['dtype']} {like['shape']}")
    print(f"  out  {', '.join(description.outputs)}")
    print(f"beside the model, on {report.differences}")
    if report.exact is not None:
        print(f"beside the same function before the export: {report.exact} in any number")


def _time(report: "ExportReport", detector: "Detector", picture: "Image.Image") -> None:
    """File and detector in turn, so that whatever else is busy slows both."""
    form = report.detector.description.form
    runs = {
        "file": lambda: report.detector(picture),
        "model": lambda: detector.predict(
            [picture], short_side=form.short_side, long_side=form.long_side
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for count in range(_TIME.value + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if count:  # the first one compiles
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    print(
        f"{picture.width}x{picture.height}, reading and resizing included: file "
        f"{median['file']:.3f} s, model {median['model']:.3f} s, medians of {_TIME.value}: "
        f"the file takes {median['file'] / median['model']:.2f} of the model's time"
    )


if __name__ == "__main__":
    run_command(main)
