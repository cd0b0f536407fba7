"""Find objects in pictures and videos, and draw them.

    python scripts/predict.py --checkpoint out/ --images a.jpg dir/ "other/*.png" --output drawn/
    python scripts/predict.py --checkpoint out/ --images clip.mp4 --output drawn/

Everything is drawn into --output as it comes, under its own name (a second one of that name gets a
number; tiny ones are enlarged). `detections.json` there has what was found in pictures: for each
file its boxes (x1, y1, x2, y2 in pixels of the upright picture), scores, category ids and names;
`detections.jsonl` what was found in videos, a line for each frame. Videos need an extra:
pip install "anchor_detr_jax[video]". What cannot be read has its error there instead; the rest is
done, and the exit code is 1.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from absl import flags
from tqdm import tqdm

from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import ImageSizeFlags

if TYPE_CHECKING:
    from anchor_detr_jax import Detections

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector, or a .pth.", required=True
)
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "Pictures, videos, folders of them, or quoted patterns; more may follow.",
    required=True,
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for what is drawn.", required=True)
_THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Lowest score to show.", 0.0, 1.0)
_TOP_K = flags.DEFINE_integer("top_k", 100, "Most detections of a picture.", 1)
_SIZE = ImageSizeFlags()
_WARMUP = flags.DEFINE_bool("warmup", False, "Compile for images of every shape before the first.")

_LONGEST_JPEG = 65500

Detect = Callable[..., Iterator["Detections"]]


def main(arguments: list[str]) -> None:
    """Detect and draw, pictures first."""
    import anchor_detr_jax as ad
    from anchor_detr_jax.data.picture_files import (
        PICTURES,
        VIDEOS,
        distinct_stems,
        named_files,
    )
    from anchor_detr_jax.data.video import check_video_support

    files = named_files([*_IMAGES.value, *arguments], PICTURES | VIDEOS, kind="pictures or videos")
    output = Path(_OUTPUT.value)
    _check_output(output, files)
    named = list(zip(files, distinct_stems(files), strict=True))
    videos = [(file, stem) for file, stem in named if file.suffix.lower() in VIDEOS]
    pictures = [(file, stem) for file, stem in named if file.suffix.lower() not in VIDEOS]
    if videos:
        check_video_support()
    detector = ad.load(_CHECKPOINT.value)
    if _WARMUP.value:
        print(
            detector.warm_up(
                **_SIZE.value,
                top_k=_TOP_K.value,
                progress=True,
            )
        )
    # Pillow's warning of a picture that may fill the memory: such a picture is one that failed.
    warnings.filterwarnings("error", message=".*decompression bomb")
    detect = partial(
        detector.predict_stream,
        threshold=_THRESHOLD.value,
        top_k=_TOP_K.value,
        **_SIZE.value,
    )
    failed = (_draw_pictures(pictures, output, detect) if pictures else 0) + (
        _draw_videos(videos, output, detect) if videos else 0
    )
    if failed:
        kind = "files" if videos else "pictures"
        raise ValueError(f"{failed} of {len(files)} {kind} failed, as said above")


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


def _draw_pictures(named: list[tuple[Path, str]], output: Path, detect: Detect) -> int:
    """Draw each picture once it is known what is in it; how many failed."""
    errors: dict[int, Exception] = {}
    found = detect([file for file, _ in named], on_error=errors.__setitem__)
    failed = 0
    path = output / "detections.json"
    with _json_object(path) as add, tqdm(total=len(named), unit="image") as bar:
        for i, ((file, stem), detections) in enumerate(zip(named, found, strict=True)):
            content: dict[str, Any] = _as_lists(detections)
            try:
                if i in errors:
                    raise errors.pop(i)
                drawn = _draw(file, detections, output / f"{stem}.jpg")
                names = sorted(set(detections.names))
                tqdm.write(f"{drawn}: {len(detections)} objects {names}")
            except (ValueError, OSError) as error:
                failed, content = failed + 1, {"error": str(error)}
                _say_error(str(error))
            add(str(file), content)
            bar.update()
    print(f"{path}: all of them")
    return failed


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


def _draw_videos(named: list[tuple[Path, str]], output: Path, detect: Detect) -> int:
    """Draw videos, frame by frame; how many of them failed, wholly or in parts."""
    failed = 0
    path = output / "detections.jsonl"
    with path.open("w", encoding="utf-8", errors="backslashreplace") as listing:
        for file, stem in named:
            try:
                faults = _draw_video(file, output / f"{stem}.mp4", detect, listing)
            except (ValueError, OSError) as error:
                faults = [str(error)]
                listing.write(_json({"video": str(file), "error": str(error)}) + "\n")
            failed += bool(faults)
            if faults:
                more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
                _say_error(faults[0] + more)
    print(f"{path}: all of them, a line for each frame")
    return failed


def _draw_video(file: Path, target: Path, detect: Detect, listing: TextIO) -> list[str]:
    """Draw one video; what was wrong with it."""
    from anchor_detr_jax.data.video import VideoReader
    from anchor_detr_jax.insight.videos import annotate_video

    faults: list[str] = []

    def note_damage(seconds: float, what: str) -> None:
        faults.append(f"{file}: at {seconds:.2f} s: {what}")
        line = {"video": str(file), "seconds": round(seconds, 6), "error": what}
        listing.write(_json(line) + "\n")

    count = objects = 0
    with VideoReader(file) as video, tqdm(total=video.count, unit="frame", desc=file.name) as bar:
        for frame, found in annotate_video(video, target, detect, on_damage=note_damage):
            line = {"video": str(file), "frame": frame.number, "seconds": float(frame.seconds)}
            listing.write(_json(line | _as_lists(found)) + "\n")
            listing.flush()
            count, objects = count + 1, objects + len(found)
            bar.update()
    if count == 0:
        return [f"{file}: no frame of this video can be decoded", *faults]
    sound = "; its sound is left out" if video.has_sound else ""
    print(f"{target}: {count} frames, {objects} objects{sound}")
    return faults


def _as_lists(detections: "Detections") -> dict[str, list[Any]]:
    return {
        "boxes": detections.boxes.tolist(),
        "scores": detections.scores.tolist(),
        "labels": detections.labels.tolist(),
        "names": detections.names,
    }


@contextmanager
def _json_object(path: Path) -> Iterator[Callable[[str, Any], None]]:
    """A JSON file that is written key by key, and whole even where an error ends it."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        separator = "{\n"

        def add(key: str, content: Any) -> None:
            nonlocal separator
            file.write(f"{separator}{_json(key)}: {_json(content)}")
            separator = ",\n"

        try:
            yield add
        finally:
            file.write("{}\n" if separator == "{\n" else "\n}\n")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def _say_error(message: str) -> None:
    tqdm.write(f"error: {message}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
