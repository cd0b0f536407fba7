"""Find objects in pictures, and draw them.

    python scripts/predict.py --checkpoint out/ --images a.jpg dir/ "other/*.png" --output drawn/

Each picture is drawn into --output under its own name (a second one of that name gets a number;
tiny ones are enlarged), and `detections.json` there has what was found: for each file its boxes
(x1, y1, x2, y2 in pixels of the upright picture), scores, category ids and names. A file that
cannot be read has its error there instead, and the exit code is 1.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from anchor_detr_jax.command import run_command

if TYPE_CHECKING:
    from anchor_detr_jax import Detections

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector, or a .pth.", required=True
)
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "Pictures, folders of them, or quoted patterns; more may follow.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the drawn pictures.", required=True)
_THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Lowest score to show.", 0.0, 1.0)
_TOP_K = flags.DEFINE_integer("top_k", 100, "Most detections of a picture.", 1)
_SHORT_SIDE = flags.DEFINE_integer("short_side", 800, "Short side of the resized images.", 1)
_LONG_SIDE = flags.DEFINE_integer("long_side", 1333, "Limit of their long side.", 1)

_SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".mpo", ".jp2", ".avif", ".webp", ".png", ".gif"),
    *(".bmp", ".tif", ".tiff", ".pbm", ".pgm", ".pnm", ".ppm"),
}
_LONGEST_JPEG = 65500


def main(arguments: list[str]) -> None:
    """Detect in all pictures, then draw."""
    import anchor_detr_jax as ad

    files = _files([*_IMAGES.value, *arguments])
    output = Path(_OUTPUT.value)
    _check_output(output, files)
    detector = ad.load(_CHECKPOINT.value)
    # Pillow's warning of a picture that may fill the memory: such a picture is one that failed.
    warnings.filterwarnings("error", message=".*decompression bomb")
    errors: dict[Path, Exception] = {}
    found = detector.predict(
        files,
        threshold=_THRESHOLD.value,
        top_k=_TOP_K.value,
        short_side=_SHORT_SIDE.value,
        long_side=_LONG_SIDE.value,
        progress=True,
        on_error=lambda index, error: errors.setdefault(files[index], error),
    )
    for file, name, detections in zip(files, _names(files), found, strict=True):
        if file not in errors:
            try:
                drawn = _draw(file, detections, output / name)
                print(f"{drawn}: {len(detections)} objects {sorted(set(detections.names))}")
            except (ValueError, OSError) as error:
                errors[file] = error
    _write_json(output / "detections.json", files, found, errors)
    if errors:
        lines = [f"error: {error}" for error in errors.values()]
        print(*lines, sep="\n", file=sys.stderr)
        raise ValueError(f"{len(errors)} of {len(files)} pictures failed, as said above")


def _files(names: list[str]) -> list[Path]:
    """The pictures that were named, those in the folders that were, and those of the patterns."""
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_file():
            files.append(path)
            continue
        if path.is_dir():
            what, among = "folder", path.iterdir()
        elif any(sign in name for sign in "*?["):
            what, among = "pattern", _matches(path)
        else:
            raise ValueError(f"--images {path}: there is no such file or folder")
        inside = sorted(filter(_may_be_picture, among))
        if not inside:
            raise ValueError(f"--images {path}: the {what} has no pictures")
        files += inside
    return list(dict.fromkeys(files))


def _matches(pattern: Path) -> Iterator[Path]:
    start = Path(pattern.anchor)
    return start.glob(str(pattern.relative_to(start)))


def _may_be_picture(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in _SUFFIXES and not hidden and not path.is_dir()


def _check_output(output: Path, files: list[Path]) -> None:
    """Make the folder and see that it takes files, before anything is computed."""
    if output.resolve() in {file.parent.resolve() for file in files}:
        raise ValueError(f"--output {output} has pictures of --images; say another folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ValueError(f"--output {output} is no folder to write to: {error}") from None


def _names(files: list[Path]) -> Iterator[str]:
    """A name for each drawing, no two alike, on any file system."""
    taken = set()
    for file in files:
        name, count = f"{file.stem}.jpg", 1
        while name.lower() in taken:
            count += 1
            name = f"{file.stem}_{count}.jpg"
        taken.add(name.lower())
        yield name


def _draw(file: Path, detections: "Detections", path: Path) -> Path:
    """Draw a file's detections; what is too long for a JPEG becomes a PNG."""
    from anchor_detr_jax.data.transforms import open_rgb
    from anchor_detr_jax.visualize import draw_detections, legible_scale

    image = open_rgb(file, apply_exif_rotation=True)
    picture = draw_detections(image, detections, scale=legible_scale(image.size))
    if max(picture.size) > _LONGEST_JPEG:
        path = path.with_suffix(".png")
    options: dict[str, Any] = {"quality": 92, "subsampling": 0} if path.suffix == ".jpg" else {}
    picture.save(path, **options)
    return path


def _write_json(
    path: Path, files: list[Path], found: list["Detections"], errors: dict[Path, Exception]
) -> None:
    listed = {}
    for file, detections in zip(files, found, strict=True):
        listed[str(file)] = {
            "boxes": detections.boxes.tolist(),
            "scores": detections.scores.tolist(),
            "labels": detections.labels.tolist(),
            "names": detections.names,
        }
    listed |= {str(file): {"error": str(error)} for file, error in errors.items()}
    path.write_text(json.dumps(listed, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{path}: all of them")


if __name__ == "__main__":
    run_command(main)
