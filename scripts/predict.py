"""Find objects in pictures, and draw them.

    python scripts/predict.py --checkpoint out/ --images a.jpg dir/ --output drawn/

Each picture is drawn into --output under its own name, and `detections.json` there has what was
found: for each file its boxes (x1, y1, x2, y2 in pixels), scores, category ids and names.
"""

import json
from pathlib import Path

from absl import flags

from anchor_detr_jax.command import run_command

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of a detector, or a .pth.", required=True
)
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "Pictures, or folders of them; more may follow.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the drawn pictures.", required=True)
_THRESHOLD = flags.DEFINE_float("threshold", 0.5, "Lowest score to show.", 0.0, 1.0)
_TOP_K = flags.DEFINE_integer("top_k", 100, "Most detections of a picture.", 1)
_SHORT_SIDE = flags.DEFINE_integer("short_side", 800, "Short side of the resized images.", 1)
_LONG_SIDE = flags.DEFINE_integer("long_side", 1333, "Limit of their long side.", 1)

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def main(arguments: list[str]) -> None:
    """Detect in all pictures, then draw."""
    import anchor_detr_jax as ad
    from anchor_detr_jax.data.transforms import open_rgb

    files = _files([*_IMAGES.value, *arguments])
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    detector = ad.load(_CHECKPOINT.value)
    found = detector.predict(
        files,
        threshold=_THRESHOLD.value,
        top_k=_TOP_K.value,
        short_side=_SHORT_SIDE.value,
        long_side=_LONG_SIDE.value,
        progress=True,
    )
    listed = {}
    for file, detections in zip(files, found, strict=True):
        drawn = output / f"{file.stem}.jpg"
        image = open_rgb(file, apply_exif_rotation=True)
        ad.draw_detections(image, detections).save(drawn, quality=92)
        listed[str(file)] = {
            "boxes": detections.boxes.tolist(),
            "scores": detections.scores.tolist(),
            "labels": detections.labels.tolist(),
            "names": detections.names,
        }
        print(f"{drawn}: {len(detections)} objects {sorted(set(detections.names))}")
    (output / "detections.json").write_text(json.dumps(listed, indent=1, ensure_ascii=False))
    print(f"{output / 'detections.json'}: all of them")


def _files(names: list[str]) -> list[Path]:
    """The pictures that were named, and those in the folders that were."""
    files = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
            if not inside:
                raise ValueError(f"--images {path}: the folder has no pictures")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise ValueError(f"--images {path}: there is no such file or folder")
    return files


if __name__ == "__main__":
    run_command(main)
