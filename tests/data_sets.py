"""One small data set in every layout, and targets as training has them."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

NAMES = ("cone", "kerb", "lamp")
"""In the order of their names, as VOC folders count them."""

PICTURES = {
    "train": {
        "a.png": ((60, 80), [("kerb", 10, 5, 40, 30), ("cone", 0, 0, 80, 60)]),
        "b.png": ((50, 90), [("lamp", 3, 2, 4, 50)]),
        "c.png": ((64, 64), []),
        "d.png": ((40, 70), [("kerb", 60, 30, 70, 40), ("kerb", 1, 1, 9, 8)]),
        "e.png": ((90, 50), [("cone", 20, 10, 30, 80)]),
    },
    "val": {
        "f.png": ((60, 60), [("cone", 5, 6, 30, 40), ("lamp", 10, 10, 50, 50)]),
        "g.png": ((55, 75), [("lamp", 30, 10, 60, 50)]),
    },
}
"""By split and file: height and width, and boxes x1, y1, x2, y2 in whole pixels."""


def write_pictures(folder: Path, split: str) -> None:
    """The pictures of a split; noise, the same in every layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (hw, _) in PICTURES[split].items():
        rng = np.random.default_rng(ord(name[0]))
        Image.fromarray(rng.integers(0, 255, (*hw, 3), np.uint8)).save(folder / name)


def write_coco(root: Path) -> Path:
    """annotations/instances_SPLIT.json, SPLIT/; ids count from 1."""
    (root / "annotations").mkdir(parents=True)
    for split in PICTURES:
        write_pictures(root / split, split)
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(coco_content(split)))
    return root


def write_roboflow(root: Path) -> Path:
    """SPLIT/_annotations.coco.json beside the pictures, as Roboflow exports it."""
    for split, folder in (("train", "train"), ("val", "valid")):
        write_pictures(root / folder, split)
        (root / folder / "_annotations.coco.json").write_text(json.dumps(coco_content(split)))
    return root


def coco_content(split: str) -> dict:
    images, annotations = [], []
    for name, ((h, w), boxes) in PICTURES[split].items():
        images.append({"id": len(images) + 1, "file_name": name, "height": h, "width": w})
        annotations += [
            {
                "image_id": len(images),
                "category_id": NAMES.index(category) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
            }
            for category, x1, y1, x2, y2 in boxes
        ]
    numbered = [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)]
    return {"images": images, "annotations": numbered, "categories": categories}


def write_voc(root: Path, *, lists: bool = True) -> Path:
    """Annotations/*.xml, JPEGImages/*, ImageSets/Main/SPLIT.txt."""
    (root / "Annotations").mkdir(parents=True)
    for split, pictures in PICTURES.items():
        write_pictures(root / "JPEGImages", split)
        for name, (hw, boxes) in pictures.items():
            stem = name.removesuffix(".png")
            (root / f"Annotations/{stem}.xml").write_text(voc_xml(name, hw, boxes))
        if lists:
            stems = "".join(f"{name.removesuffix('.png')}\n" for name in pictures)
            (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
            (root / f"ImageSets/Main/{split}.txt").write_text(stems)
    return root


def voc_xml(name: str, hw: tuple[int, int], boxes: list, *, more: str = "") -> str:
    """Corners count from 1, and are both inside."""
    objects = "".join(
        f"<object><name>{escape(category)}</name><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>{more}</object>"
        for category, x1, y1, x2, y2 in boxes
    )
    size = f"<size><width>{hw[1]}</width><height>{hw[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def write_yolo(root: Path) -> Path:
    """data.yaml, images/SPLIT/, labels/SPLIT/."""
    for split, pictures in PICTURES.items():
        write_pictures(root / "images" / split, split)
        (root / "labels" / split).mkdir(parents=True)
        for name, (hw, boxes) in pictures.items():
            lines = "".join(yolo_line(hw, *box) for box in boxes)
            if lines:
                label_file = root / "labels" / split / name.replace(".png", ".txt")
                label_file.write_text(lines)
    names = ", ".join(NAMES)
    text = f"train: images/train\nval: images/val\nnc: {len(NAMES)}\nnames: [{names}]\n"
    (root / "data.yaml").write_text(text)
    return root


def yolo_line(hw: tuple[int, int], category: str, x1: int, y1: int, x2: int, y2: int) -> str:
    h, w = hw
    numbers = (x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h
    return f"{NAMES.index(category)} {' '.join(f'{number:.8f}' for number in numbers)}\n"


def pack_targets(boxes: list, labels: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`boxes_xyxy_px`, `labels` and `starts` of an `AnnotatedDataset`, of each picture's own."""
    starts = np.cumsum([0, *map(len, labels)])
    flat_boxes = np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32)
    return flat_boxes, np.concatenate([[], *labels]).astype(np.int32), starts
