"""What a person sees in a notebook: detectors, and what they find."""

import dataclasses
import io
import json
import sys

import jax
import numpy as np
import pytest
from conftest import NARROW, make_detector
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.checkpoint import StoredDetector
from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.describe import described_model

SIDES = {"short_side": 96, "long_side": 160}


@pytest.fixture
def found() -> ad.Detections:
    return ad.Detections(
        boxes=np.array([[12, 30, 64, 58], [40, 8, 52, 60], [0, 0, 5, 5]], np.float32),
        scores=np.array([0.93, 0.34, 0.25], np.float32),
        labels=np.array([3, 1, 3]),
        names=["car", "<person>", "car"],
    )


def test_a_published_model_says_what_it_is():
    source = {"file": "run/checkpoints/40", "ap": 0.4416, "averaged": True}
    config = AnchorDETRConfig(backbone=ResNetConfig(dilation=True))
    lines = described_model(config, coco_columns(), source, "7 parameters").splitlines()
    assert lines == [
        "Detector: anchor_detr R50-DC5, 7 parameters",
        "  finds 80 categories: person, bicycle, car, motorcycle, airplane, bus, ...",
        "  by 900 queries (3 patterns at 300 learned anchor points), rcda attention",
        "  from run/checkpoints/40 (AP 0.442, moving average of the weights)",
    ]


def test_repr_follows_the_detector(narrow):
    size = sum(leaf.size for leaf in jax.tree.leaves(narrow.variables["params"]))
    first, finds, *_, origin = repr(narrow).splitlines()
    assert "ResNet(1+1+1+1 bottleneck blocks, width 8)-C5" in first
    assert first.endswith(f"{size:,} parameters, float32 on {jax.default_backend()}")
    assert finds.endswith("kind 0, kind 1, kind 2, kind 3, kind 4")
    assert origin == "  from no file"
    stored = StoredDetector(NARROW, narrow.variables, narrow.categories, {"file": "a.pth"})
    half = repr(Detector(stored, dtype="bfloat16"))
    assert "bfloat16" in half
    assert half.endswith("from a.pth")


def test_detections_are_a_sequence(found):
    assert repr(found) == "Detections(car 0.93, <person> 0.34, car 0.25)"
    assert found[-1] == ad.Detection("car", 0.25, (0.0, 0.0, 5.0, 5.0), 3)
    assert list(found) == [found[0], found[1], found[2]]
    assert repr(found[found.scores > 0.3]) == repr(found[:2]) == repr(found[[0, 1]])
    cars = found[[one.name == "car" for one in found]]
    np.testing.assert_array_equal(cars.boxes, found.boxes[[0, 2]])
    assert (cars.names, cars.labels.tolist()) == (["car", "car"], [3, 3])
    assert repr(found[:0]) == repr(found[[]]) == "Detections(nothing)"
    assert repr(found[[0] * 10]).endswith("car 0.93, and 2 more)")
    with pytest.raises(IndexError):
        found[3]


def test_conversions(found):
    first, second, _ = json.loads(json.dumps(found.to_coco(image_id=7)))
    assert first == {
        "image_id": 7,
        "category_id": 3,
        "bbox": [12.0, 30.0, 52.0, 28.0],
        "score": float(np.float32(0.93)),
    }
    assert second["bbox"] == [40.0, 8.0, 12.0, 52.0]
    rows = found.to_numpy()
    assert rows.shape == (3, 6)
    np.testing.assert_array_equal(rows[1], [40, 8, 52, 60, np.float32(0.34), 1])
    table = found.to_pandas()
    assert table.columns.tolist() == ["name", "score", "x1", "y1", "x2", "y2", "label"]
    assert table.groupby("name")["score"].max().to_dict() == {
        "car": np.float32(0.93),
        "<person>": np.float32(0.34),
    }
    nothing = found[:0]
    assert (nothing.to_coco(1), nothing.to_numpy().shape) == ([], (0, 6))
    assert nothing.to_pandas().columns.tolist() == table.columns.tolist()


def test_without_pandas_it_is_asked_for(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        found.to_pandas()


def test_a_picture_in_a_notebook(narrow, tmp_path):
    """It shows what `draw_detections` draws, for each kind of source; a filter draws less."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 80, (60, 90, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    file = tmp_path / "one.png"
    Image.fromarray(pixels).save(file)
    sources = [file, str(file), pixels, Image.fromarray(pixels)]
    for source in sources:
        (found,) = narrow.predict(source, threshold=0.0, top_k=3, **SIDES)
        expected = np.asarray(ad.draw_detections(pixels, found))
        np.testing.assert_array_equal(np.asarray(found.draw()), expected)
        assert found._repr_html_() is None
    one = np.asarray(found[:1].draw())
    assert (one != expected).any()
    np.testing.assert_array_equal(one, np.asarray(ad.draw_detections(pixels, found[:1])))
    shown = Image.open(io.BytesIO(found._repr_jpeg_()))
    np.testing.assert_allclose(np.asarray(shown), expected, atol=120)
    assert np.abs(np.asarray(shown).astype(float) - expected).mean() < 4
    (found,) = narrow.predict(file, threshold=0.0, top_k=3, **SIDES)
    file.unlink()
    assert found._repr_jpeg_() is None
    with pytest.raises(FileNotFoundError):
        found.draw()


def test_a_large_picture_is_shown_smaller(narrow):
    (found,) = narrow.predict(np.zeros((1000, 2400, 3), np.uint8), threshold=1.0, **SIDES)
    assert found.draw().size == (2400, 1000)
    assert Image.open(io.BytesIO(found._repr_jpeg_())).size == (1200, 500)


def test_a_table_in_a_notebook(found):
    """Where no picture is known."""
    assert found._repr_jpeg_() is None
    table = found._repr_html_()
    assert "<th>&lt;person&gt;</th><td>0.34</td><td>40.0</td>" in table
    assert table.count("<tr>") == 4
    with pytest.raises(ValueError, match="draw_detections"):
        found.draw()


def test_a_stream_keeps_no_picture(narrow):
    pixels = np.zeros((40, 60, 3), np.uint8)
    (found,) = narrow.predict_stream([pixels], threshold=0.0, top_k=3, **SIDES)
    assert found.drawer is None


def test_coco_results_are_those_of_evaluation():
    """What `to_coco` says of a picture is what an evaluation of it is scored with."""
    from conftest import DATA

    from anchor_detr_jax.data.formats.coco import read_coco_split
    from anchor_detr_jax.evaluation.runner import run_dataset

    detector = make_detector()
    dataset = read_coco_split(DATA / "coco", "val2017")
    dataset = dataclasses.replace(dataset, images=dataset.images[:2])
    results = run_dataset(detector, dataset, **SIDES).results
    pictures = [image.opened() for image in dataset.images]
    found = detector.predict(pictures, threshold=0.0, top_k=100, **SIDES)
    pairs = zip(found, dataset.images, strict=True)
    mine = [result for one, image in pairs for result in one.to_coco(image.id)]
    assert len(mine) == len(results) > 100
    for a, b in zip(mine, results, strict=True):
        assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
        np.testing.assert_allclose(a["bbox"], b["bbox"], atol=1e-3)
        np.testing.assert_allclose(a["score"], b["score"], atol=1e-6)


def test_a_path_that_goes_up(narrow, tmp_path, monkeypatch):
    narrow.save(tmp_path / "out")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert repr(ad.load("../out")) == repr(narrow)
