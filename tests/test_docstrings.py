"""The examples in docstrings, run as they stand."""

import doctest
import importlib

import numpy as np
import pytest
from PIL import Image

import anchor_detr_jax as ad

MODULES = ["detector", "structures.detections"]


@pytest.fixture
def example_folder(narrow, tmp_path, monkeypatch):
    """A folder that has what the examples speak of: a detector in out/, and a picture."""
    narrow.save(tmp_path / "out")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "street.jpg")
    monkeypatch.chdir(tmp_path)
    return pixels


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, narrow, example_folder):
    module = importlib.import_module(f"anchor_detr_jax.{name}")
    known = {"ad": ad, "np": np, "detector": narrow, "pixels": example_folder}
    failed, tried = doctest.testmod(module, extraglobs=known, optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0
