"""Exported sister models find what they find themselves."""

import numpy as np
import pytest
from conftest import make_detector
from families import NARROW_SISTERS
from PIL import Image
from test_export import FORMATS

import anchor_detr_jax as ad
from anchor_detr_jax.export.exporting import export_detector
from anchor_detr_jax.export.form import ExportForm

CASES = [
    ("detr", True),
    ("detr", False),
    ("conditional_detr", True),
    ("smca_type4_mixed", False),
]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(("name", "ranked"), CASES)
def test_a_loaded_file_finds_what_the_detector_finds(name, file_format, ranked, pictures, tmp_path):
    """Ranked inside, or by the loader."""
    detector = make_detector(NARROW_SISTERS[name])
    sides = {"short_side": 96, "long_side": 160}
    form = ExportForm(batch=2, sizes=((96, 160),), postprocess=ranked, top_k=10)
    photographs = [Image.fromarray(array).resize((160, 96)) for array in pictures.values()]
    path = tmp_path / f"model.{file_format}"
    report = export_detector(detector, path, photographs, file_format=file_format, form=form)
    assert report.differences.labels == 0
    loaded = ad.load_exported(path)
    arrays = [np.asarray(one) for one in photographs]
    expected = detector.predict(arrays, threshold=0.0, top_k=10, **sides)
    for found, right in zip(loaded(arrays, threshold=0.0), expected, strict=True):
        np.testing.assert_allclose(found.scores, right.scores, atol=1e-4)
        assert len(found) == 10
