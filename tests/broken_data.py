"""Small data sets for the dataset doctor: one without a fault, others with a known list of them."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = 96, 64
"""Width and height of the pictures."""


@dataclass(frozen=True)
class Fault:
    """What is to be found: its kind, and words that must be in where it is."""

    kind: str
    named: str


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Blurred blocks of random colours; no two seeds look alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **{"quality": 95, **options})
    return buffer.getvalue()


@dataclass
class CocoFolder:
    """A COCO folder in the making: pictures are written at once, annotations at the end."""

    root: Path
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seed: int = 0

    def add(
        self,
        name: str,
        *,
        split: str = "train2017",
        content: bytes | None = None,
        size: tuple[int, int] = SIZE,
        boxes: tuple[tuple[Any, ...], ...] = ((10, 10, 30, 20),),
        category: int = 1,
    ) -> int:
        """A picture and its boxes; its id. Boxes have the ids 100 * id, 100 * id + 1, ..."""
        parts = self.splits.setdefault(split, {"images": [], "annotations": []})
        id_ = 1 + sum(len(parts["images"]) for parts in self.splits.values())
        self.seed += 1
        path = self.root / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(picture(self.seed)) if content is None else content)
        width, height = size
        parts["images"].append({"id": id_, "file_name": name, "width": width, "height": height})
        for i, box in enumerate(boxes):
            parts["annotations"].append(
                {"id": 100 * id_ + i, "image_id": id_, "category_id": category, "bbox": list(box)}
            )
        return id_

    def fault(self, kind: str, named: object) -> None:
        """One more that is to be found."""
        self.faults.append(Fault(kind, str(named)))

    def write(self, categories: list[dict[str, Any]]) -> None:
        """Finish the folder."""
        (self.root / "annotations").mkdir()
        for split, parts in self.splits.items():
            file = self.root / f"annotations/instances_{split}.json"
            file.write_text(json.dumps({**parts, "categories": categories}))


CATEGORIES = [{"id": 1, "name": "cell"}, {"id": 2, "name": "plate"}]


def clean_coco(root: Path) -> None:
    """Two splits, two categories, no fault."""
    folder = CocoFolder(root)
    for i in range(6):
        split = "val2017" if i > 3 else "train2017"
        folder.add(f"{i}.jpg", split=split, category=1 + i % 2)
    folder.write(CATEGORIES)


def broken_coco(root: Path) -> list[Fault]:
    """A folder that is broken in every way that a COCO folder can be; what is to be found."""
    folder = CocoFolder(root)
    for i in range(3):
        folder.add(f"good{i}.jpg")
    folder.add("val.jpg", split="val2017")
    _broken_boxes(folder)
    _broken_ids(folder)
    _broken_files(folder)
    _broken_sizes(folder)
    _twins(folder)
    folder.add("rare.jpg", split="val2017", category=3)
    folder.fault("category not in training", "instances_train2017.json")
    folder.fault("unused category", "instances_train2017.json")
    folder.fault("duplicate category name", "instances_train2017.json")
    folder.fault("category without a name", "instances_train2017.json")
    others = [(3, "rare"), (4, "<script>never</script>"), (5, "cell"), (6, " ")]
    folder.write([*CATEGORIES, *({"id": i, "name": name} for i, name in others)])
    return folder.faults


_BOXES = {
    "box without area": (10, 10, 0, 20),
    "inverted box": (50, 10, -20, 20),
    "unreadable box": (1, 2, 3),
    "box partly outside": (80, 10, 30, 20),
    "box slightly outside": (80, 10, 16.5, 20),
    "box outside": (100, 10, 20, 20),
    "box far outside": (10, 10, 900, 20),
    "tiny box": (10, 10, 1, 20),
}


def _broken_boxes(folder: CocoFolder) -> None:
    for kind, box in _BOXES.items():
        id_ = folder.add(f"{kind}.jpg", boxes=((10, 40, 20, 20), box))
        folder.fault(kind, f"annotation {100 * id_ + 1}")
    id_ = folder.add("nan.jpg", boxes=((float("nan"), 2, 3, 4),))
    folder.fault("unreadable box", f"annotation {100 * id_}")
    id_ = folder.add("twice.jpg", boxes=((10, 10, 40, 40), (10, 10, 40, 40.5)))
    folder.fault("duplicate box", f"annotation {100 * id_ + 1}")
    id_ = folder.add("classes.jpg", boxes=((10, 10, 40, 40), (10, 10, 40, 40)))
    folder.splits["train2017"]["annotations"][-1]["category_id"] = 2
    folder.fault("box with two classes", f"annotation {100 * id_ + 1}")
    grid = tuple((x, y, 8, 8) for x in range(0, 88, 10) for y in range(0, 56, 10))
    id_ = folder.add("crowded.jpg", boxes=grid)
    folder.fault("too many boxes", f"image {id_}")
    id_ = folder.add("background.jpg", boxes=())
    folder.fault("picture without boxes", f"image {id_}")


def _broken_ids(folder: CocoFolder) -> None:
    annotations = folder.splits["train2017"]["annotations"]
    images = folder.splits["train2017"]["images"]
    id_ = folder.add("unknown.jpg", category=77)
    folder.fault("unknown category", f"annotation {100 * id_}")
    id_ = folder.add("repeated.jpg", boxes=((10, 10, 20, 20), (40, 10, 20, 20)))
    annotations[-1]["id"] = 100 * id_
    folder.fault("annotation id", f"annotation {100 * id_}")
    annotations.append({"id": 7001, "image_id": 999, "category_id": 1, "bbox": [1, 2, 30, 40]})
    folder.fault("annotation of no image", "annotation 7001")
    annotations.append({"id": 7002, "image_id": images[0]["id"], "bbox": [1, 2, 30, 40]})
    folder.fault("annotation", "annotation 7002")
    id_ = folder.add("same_id.jpg")
    folder.add("nameless.jpg")
    images.append({**images[-2], "file_name": "other.jpg"})
    folder.fault("image id", f"image {id_}")
    del images[-2]["file_name"]
    folder.fault("file name", f"image {images[-2]['id']}")


def _broken_files(folder: CocoFolder) -> None:
    whole = jpeg(picture(900))
    contents = {
        "damaged picture": whole[: len(whole) // 2],
        "no picture": b"<html>404 not found</html>",
        "empty file": b"",
    }
    for kind, content in contents.items():
        folder.fault(kind, f"image {folder.add(f'{kind}.jpg', content=content)}")
    id_ = folder.add("gone.jpg")
    (folder.root / "train2017/gone.jpg").unlink()
    folder.fault("missing picture", f"image {id_}")
    picture(901).save(folder.root / "train2017/lonely.png")
    folder.fault("unreferenced file", "train2017/lonely.png")
    for i, mode in enumerate(("L", "CMYK")):
        id_ = folder.add(f"{mode}.jpg", content=jpeg(picture(910 + i).convert(mode)))
        folder.fault("colour mode", f"image {id_}")
    buffer = io.BytesIO()
    picture(920).save(buffer, "PNG")
    folder.fault(
        "file ending", f"image {folder.add('really_a_png.jpg', content=buffer.getvalue())}"
    )


def _broken_sizes(folder: CocoFolder) -> None:
    folder.fault("wrong size", f"image {folder.add('half.jpg', size=(48, 32))}")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = folder.add("turned.jpg", content=jpeg(picture(930), exif=exif))
    folder.fault("EXIF rotation", f"image {turned}")
    turned = folder.add("declared_turned.jpg", content=jpeg(picture(931), exif=exif), size=(64, 96))
    folder.fault("rotated size", f"image {turned}")
    small = folder.add("small.jpg", content=jpeg(picture(932, (24, 24))), size=(24, 24),
                       boxes=((2, 2, 10, 10),))  # fmt: skip
    folder.fault("tiny picture", f"image {small}")
    long = folder.add("long.jpg", content=jpeg(picture(933, (400, 36))), size=(400, 36))
    folder.fault("very long picture", f"image {long}")


def _twins(folder: CocoFolder) -> None:
    train = folder.root / "train2017"
    id_ = folder.add("good0_copy.jpg", content=(train / "good0.jpg").read_bytes())
    folder.fault("picture twice", f"image {id_}")
    leaked = (train / "good1.jpg").read_bytes()
    id_ = folder.add("leak.jpg", split="val2017", content=leaked)
    folder.fault("picture in two splits", f"image {id_}")
    with Image.open(train / "good2.jpg") as image:
        again = jpeg(image, quality=60)
    id_ = folder.add("leak_saved_again.jpg", split="val2017", content=again)
    folder.fault("similar pictures in two splits", f"image {id_}")
    with Image.open(train / "good1.jpg") as image:
        again = jpeg(image, quality=60)
    folder.fault("similar pictures", f"image {folder.add('saved_again.jpg', content=again)}")


def broken_voc(root: Path) -> list[Fault]:
    """A Pascal VOC folder with faults that only its layout can have."""
    objects = {
        "good": _voc_object(10, 10, 40, 40),
        "inverted": _voc_object(40, 10, 10, 40),
        "no_area": _voc_object(10, 10, 9, 40),
        "no_box": "<object><name>cell</name></object>",
        "words": _voc_object("left", 10, 40, 40),
    }
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for i, (name, inside) in enumerate(objects.items()):
        (root / f"JPEGImages/{name}.jpg").write_bytes(jpeg(picture(i)))
        (root / f"Annotations/{name}.xml").write_text(_voc_file(name, inside))
    shutil.copy(root / "JPEGImages/good.jpg", root / "JPEGImages/malformed.jpg")
    (root / "Annotations/malformed.xml").write_text("<annotation><object>")
    names = [*objects, "malformed", "absent", "good"]
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names))
    return [
        Fault("inverted box", "inverted.xml"),
        Fault("box without area", "no_area.xml"),
        Fault("unreadable box", "no_box.xml"),
        Fault("unreadable box", "words.xml"),
        Fault("annotation file", "malformed.xml"),
        Fault("no annotation file", "train.txt"),
        Fault("listed twice", "train.txt"),
    ]


def _voc_object(xmin: object, ymin: object, xmax: object, ymax: object) -> str:
    return (
        f"<object><name>cell</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


def _voc_file(name: str, inside: str) -> str:
    width, height = SIZE
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width>"
        f"<height>{height}</height><depth>3</depth></size>{inside}</annotation>"
    )


def broken_yolo(root: Path) -> list[Fault]:
    """A YOLO folder with faults that only its layout can have."""
    lines = {
        "good": "0 0.5 0.5 0.2 0.2",
        "short": "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2",
        "words": "cell 0.5 0.5 0.2 0.2",
        "unknown": "7 0.5 0.5 0.2 0.2",
        "outside": "0 0.95 0.5 0.4 0.2",
        "flat": "0 0.5 0.5 0.0 0.2",
    }
    for folder in ("images/train", "labels/train"):
        (root / folder).mkdir(parents=True)
    for i, (name, text) in enumerate(lines.items()):
        (root / f"images/train/{name}.jpg").write_bytes(jpeg(picture(i)))
        (root / f"labels/train/{name}.txt").write_text(f"{text}\n")
    (root / "labels/train/lost.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [cell]\n")
    return [
        Fault("unreadable box", "short.txt:2"),
        Fault("unreadable box", "words.txt:1"),
        Fault("unknown category", "unknown.txt:1"),
        Fault("box partly outside", "outside.txt:1"),
        Fault("box without area", "flat.txt:1"),
        Fault("label file without picture", "lost.txt"),
    ]
