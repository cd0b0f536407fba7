"""A checkpoint that the reference trained: the same AP, and the same file back."""

import json

import numpy as np
import pytest

import anchor_detr_jax as ad
from anchor_detr_jax.conversion.torch_file import read_torch_file
from anchor_detr_jax.data.formats.coco import read_coco
from anchor_detr_jax.evaluation.coco_ap import score_results
from anchor_detr_jax.evaluation.runner import detect_dataset

pytestmark = pytest.mark.slow

BFLOAT16 = 0.01
"""Of any of the 12 numbers, on 12 photographs: what a single detection weighs."""


@pytest.fixture(scope="module")
def overfit(shared):
    return shared / "checkpoints/overfit"


@pytest.fixture(scope="module")
def detector(overfit):
    return ad.load(overfit / "anchor_detr_r50_c5_overfit.pth")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_references_twelve_numbers(overfit, shared, detector, batch_size):
    dataset = read_coco(overfit / "instances.json", shared / "coco_by/val2017")
    results = detect_dataset(
        detector, dataset, short_side=256, long_side=426, batch_size=batch_size
    )
    stats = score_results(results, dataset.annotations).stats
    np.testing.assert_allclose(stats, json.loads((overfit / "stats.json").read_text()), atol=5e-5)

    theirs = json.loads((overfit / "detections.json").read_text())
    for image in dataset.images:
        ours = [r for r in results if r["image_id"] == image.id]
        for one in (r for r in theirs if r["image_id"] == image.id and r["score"] > 0.05):
            assert any(
                mine["category_id"] == one["category_id"]
                and abs(mine["score"] - one["score"]) < 1e-4
                and np.abs(np.subtract(mine["bbox"], one["bbox"])).max() < 0.05
                for mine in ours
            ), one


@pytest.mark.parametrize(
    ("how", "most"),
    [
        ({"rcda_impl": "whole"}, 5e-5),
        ({"rcda_impl": "chunks"}, 5e-5),
        ({"rcda_impl": "pallas"}, 5e-5),
        ({"dtype": "bfloat16"}, BFLOAT16),
    ],
    ids=lambda how: "-".join(how.values()) if isinstance(how, dict) else "",
)
def test_the_numbers_however_they_are_computed(overfit, shared, how, most):
    detector = ad.load(overfit / "anchor_detr_r50_c5_overfit.pth", **how)
    dataset = read_coco(overfit / "instances.json", shared / "coco_by/val2017")
    results = detect_dataset(detector, dataset, short_side=256, long_side=426)
    stats = score_results(results, dataset.annotations).stats
    difference = np.abs(np.subtract(stats, json.loads((overfit / "stats.json").read_text())))
    print(how, "largest difference", difference.max(), "AP", stats[0])
    assert difference.max() < most


def test_and_back_to_the_bit(overfit, detector, tmp_path):
    detector.save_torch(tmp_path / "back.pth")
    back = read_torch_file(tmp_path / "back.pth")
    original = read_torch_file(overfit / "anchor_detr_r50_c5_overfit.pth")
    assert back.tensors.keys() == original.tensors.keys()
    for name, tensor in original.tensors.items():
        np.testing.assert_array_equal(back.tensors[name], tensor, strict=True)
    assert back.args["dilation"] == original.args["dilation"]


def test_torch_loads_it_back(overfit, detector, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    detector.save_torch(tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    original = read_torch_file(overfit / "anchor_detr_r50_c5_overfit.pth").tensors
    assert back.keys() == original.keys()
    assert all(np.array_equal(back[name].numpy(), tensor) for name, tensor in original.items())
