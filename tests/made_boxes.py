"""Truth and results from a few numbers, for tests of what is said of them."""

from pathlib import Path

import numpy as np

from anchor_detr_jax.evaluation.truth import CocoTruth

NAMES = {3: "cat", 5: "dog", 8: "cow"}


def box(image, category, xyxy, **more):
    """A true box, or with a score one that was found, in COCO's format."""
    x1, y1, x2, y2 = xyxy
    bbox = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def truth_of(boxes, *, images=(1, 2), names=NAMES):
    """A data set with these boxes, and two images by default."""
    annotations = [
        {"iscrowd": 0, "difficult": 0, "area": b["bbox"][2] * b["bbox"][3], **b, "id": i}
        for i, b in enumerate(boxes, start=1)
    ]
    return CocoTruth(Path("made up"), list(images), dict(names), annotations)


def random_boxes(seed, *, images=25, categories=5):
    """Truth with crowds and difficult boxes, and results with all kinds of errors.

    No two scores are the same.
    """
    rng = np.random.default_rng(seed)
    names = {3 * k + 2: f"kind {k}" for k in range(categories)}
    ids = [int(i) for i in rng.permutation(images) * 7 + 3]
    there, found = [], []
    for image in ids:
        for _ in range(rng.integers(0, 7)):
            x, y, w, h = *rng.integers(0, 300, 2), *rng.integers(5, 150, 2)
            kind = int(rng.choice(list(names)))
            crowd, difficult = (int(rng.random() < share) for share in (0.1, 0.2))
            corners = (x, y, x + w, y + h)
            there.append(box(image, kind, corners, iscrowd=crowd, difficult=difficult))
            for shift in (0.0, 0.2, 0.5):
                moved = np.rint(np.array(corners) + shift * rng.normal(size=4) * [w, h, w, h])
                moved[2:] = np.maximum(moved[2:], moved[:2] + 1)
                other = int(rng.choice(list(names)))
                found.append(box(image, other if rng.random() < 2 * shift / 3 else kind, moved))
        for _ in range(rng.integers(0, 10)):
            corner = rng.integers(0, 400, 2)
            corners = (*corner, *(corner + rng.integers(1, 200, 2)))
            found.append(box(image, int(rng.choice(list(names))), corners))
    scores = rng.permutation(len(found)) / max(len(found), 1)
    results = [{**b, "score": float(score)} for b, score in zip(found, scores, strict=True)]
    return truth_of(there, images=ids, names=names), results
