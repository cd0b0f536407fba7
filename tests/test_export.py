"""Exported files: the same detections, without the model."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import NARROW, make_detector
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.export import exporting, onnx_file
from anchor_detr_jax.export.exporting import NotVerifiedError, export_detector
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.export.onnx_graph import translate
from anchor_detr_jax.export.verification import Tolerance, _compared
from anchor_detr_jax.structures import RankedDetections

ROOT = Path(__file__).parents[1]
FORM = ExportForm(batch=2, sizes=((96, 128),), top_k=20)
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None,
    reason='needs ONNX: pip install "anchor_detr_jax[onnx]"',
)
FORMATS = ["stablehlo", pytest.param("onnx", marks=needs_onnx)]


@pytest.fixture(scope="module")
def photographs(pictures):
    return [Image.fromarray(array) for array in pictures.values()]


@pytest.fixture(scope="module")
def exported(narrow, photographs, tmp_path_factory):
    """A file of each format, made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def of(file_format):
        if file_format not in made:
            path = folder / f"model.{file_format}"
            report = export_detector(narrow, path, photographs, file_format=file_format, form=FORM)
            made[file_format] = path, report
        return made[file_format]

    return of


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_loaded_file_finds_what_the_detector_finds(narrow, photographs, exported, file_format):
    path, report = exported(file_format)
    assert report.exact == (0.0 if file_format == "stablehlo" else None)
    assert report.differences.images == 3
    assert report.differences.score < 1e-5
    loaded = ad.load_exported(path)
    assert "images of 96x128" in repr(loaded)
    fitted = [image.resize((128, 96)) for image in photographs]
    found = loaded([np.asarray(image) for image in fitted], threshold=0.0)
    sides = {"short_side": 96, "long_side": 128}
    for one, right in zip(found, narrow.predict(fitted, threshold=0.0, **sides), strict=True):
        np.testing.assert_allclose(one.scores, right.scores[:20], atol=1e-5)
        np.testing.assert_allclose(one.boxes[0], right.boxes[0], atol=1e-2)
        assert one.names[0] == right.names[0]
        assert one.labels[0] == right.labels[0]


def test_the_parts_that_are_left_out_are_done_outside(narrow, photographs, tmp_path):
    """Normalising, ranking and padding, and weights inside: the same is found."""
    form = ExportForm(
        batch=1, sizes=((96, 128),), padding=False, preprocess=False, postprocess=False, top_k=20
    )
    report = export_detector(
        narrow,
        tmp_path / "bare",
        photographs[:1],
        file_format="stablehlo",
        form=form,
        weights_inside=True,
    )
    assert report.differences.labels == 0
    described = report.detector.description
    assert described.inputs == {"pixels": {"dtype": "float32", "shape": [1, 96, 128, 3]}}
    assert described.outputs == ["logits", "boxes"]


@needs_onnx
def test_an_onnx_file_says_what_it_is(narrow, exported):
    import onnx

    path, _ = exported("onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    said = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert said["program"] == {"opset": 18}
    assert said["categories"] == narrow.categories.to_json()
    assert said["mean"] == [0.485, 0.456, 0.406]
    assert said["form"]["sizes"] == [[96, 128]]
    assert len(said["weights_sha256"]) == 64
    names = {tensor.name for tensor in model.graph.initializer}
    assert "params/decoder_1/cross_attn/query_row/kernel" in names
    assert any("encoder_0/self_attn" in node.name for node in model.graph.node)


def test_no_model_of_ours_runs(exported):
    """A process that loads a file imports no flax, and the archive is enough for jax alone."""
    path, _ = exported("stablehlo")
    program = f"""
import sys, zipfile, io, numpy as np, jax
from jax import export
archive = zipfile.ZipFile({str(path)!r})
program = export.deserialize(bytearray(archive.read("program_cpu_96x128.bin")))
weights = dict(np.load(io.BytesIO(archive.read("weights.npz"))))
size = np.array([[96, 128]] * 2, np.int32)
inputs = dict(pixels=np.zeros((2, 96, 128, 3), np.uint8), valid_hw=size, original_hw=size)
print(program.call(weights, inputs)["scores"].shape)
assert not {{"flax", "anchor_detr_jax"}} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=path.parent,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert done.stdout.strip() == "(2, 20)", done.stderr


@needs_onnx
def test_a_wrong_export_is_not_kept(narrow, photographs, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("an older one")
    monkeypatch.setitem(translate._RULES, "logistic", translate._RULES["tanh"])
    with pytest.raises(NotVerifiedError, match="is not kept: 1 images: scores differ"):
        export_detector(narrow, path, photographs[:1], file_format="onnx", form=FORM)
    assert path.read_text() == "an older one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_program_that_changed_is_not_kept(narrow, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "exact_difference", lambda *_: 1e-9)
    with pytest.raises(NotVerifiedError, match="before the export by 1e-09"):
        export_detector(narrow, tmp_path / "x", photographs[:1], file_format="stablehlo", form=FORM)
    assert not list(tmp_path.iterdir())


def ranked(boxes, scores, labels):
    return RankedDetections(
        np.asarray(boxes, np.float32), np.asarray(scores, np.float32), np.asarray(labels)
    )


def test_what_counts_as_a_difference():
    a, b, c, low = [0, 0, 5, 5], [9, 9, 12, 12], [1, 1, 2, 2], [3, 3, 4, 4]
    right = ranked([a, b, c, low], [0.9, 0.80002, 0.8, 0.1], [1, 2, 3, 4])
    swapped = ranked([a, c, b, low], [0.9, 0.80002, 0.8, 0.1], [1, 3, 2, 4])
    assert _compared(swapped, right, Tolerance()).within(Tolerance())
    other_last = ranked([a, b, c, a], [0.9, 0.80002, 0.8, 0.1], [1, 2, 3, 0])
    assert _compared(other_last, right, Tolerance()).within(Tolerance())
    wrong_label = ranked([a, b, c, low], [0.9, 0.80002, 0.8, 0.1], [2, 2, 3, 4])
    assert _compared(wrong_label, right, Tolerance()).labels == 1
    moved = ranked([[0, 0, 5, 5.1], b, c, low], [0.9, 0.80002, 0.8, 0.1], [1, 2, 3, 4])
    assert _compared(moved, right, Tolerance()).box == pytest.approx(0.1, rel=1e-3)
    nothing = ranked([a, b, c, low], [np.nan, 0.80002, 0.8, 0.1], [1, 2, 3, 4])
    assert not _compared(nothing, right, Tolerance()).within(Tolerance())


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_damaged_file_is_named(exported, tmp_path, file_format, share):
    whole = exported(file_format)[0].read_bytes()
    damaged = tmp_path / "damaged"
    damaged.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="damaged is no export, or a damaged one"):
        ad.load_exported(damaged)


def test_an_archive_of_something_else_is_named(tmp_path):
    path = tmp_path / "other.zip"
    for content in ({}, {"metadata.json": "[]"}, {"metadata.json": '{"form": "{}"}'}):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        with pytest.raises(ValueError, match=r"other\.zip is no export"):
            ad.load_exported(path)
    with pytest.raises(FileNotFoundError):
        ad.load_exported(tmp_path / "missing")


def test_what_cannot_be_written_is_said_before(narrow, photographs, tmp_path, monkeypatch):
    where = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="there is no folder"):
        export_detector(narrow, tmp_path / "no/m", photographs, file_format="onnx")
    with pytest.raises(ValueError, match="'tflite', and must be one of"):
        export_detector(narrow, where, photographs, file_format="tflite")
    monkeypatch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="onnx and onnxruntime cannot be imported; pip install"):
        export_detector(narrow, where, photographs, file_format="onnx")
    monkeypatch.undo()
    if importlib.util.find_spec("onnx") is None:
        return
    several = ExportForm(sizes=((96, 128), (128, 96)))
    with pytest.raises(ValueError, match="buckets are for stablehlo"):
        export_detector(narrow, where, photographs, file_format="onnx", form=several)
    half = make_detector(NARROW)
    half.model = half.model.clone(dtype=jax.numpy.bfloat16)
    with pytest.raises(ValueError, match="bfloat16 is for stablehlo"):
        export_detector(half, where, photographs, file_format="onnx")


def command(*arguments):
    return subprocess.run(
        [sys.executable, "scripts/export.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
def test_bad_input_of_the_command_is_one_line(narrow, tmp_path):
    narrow.save(tmp_path / "narrow")
    good = {"checkpoint": tmp_path / "narrow", "format": "onnx", "output": tmp_path / "m"}
    for bad, words in (
        ({"output": tmp_path / "no/m"}, "there is no folder"),
        ({"format": "tflite"}, "tflite"),
        ({"size": "800"}, "expected HEIGHTxWIDTH"),
        ({"size": "8x8"}, "from 32 to 8192 pixels"),
        ({"size": "buckets"}, "buckets are for stablehlo"),
        ({"batch": "0"}, "expected a number from 1 on, or 'dynamic'"),
        ({"precision": "bfloat16"}, "bfloat16 is for stablehlo"),
        ({"images": tmp_path / "none"}, "no such file"),
    ):
        done = command(*(f"--{name}={value}" for name, value in (good | bad).items()))
        assert done.returncode == 1, words
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow"]


@pytest.mark.slow
@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("padding", ["--padding", "--nopadding"])
def test_any_size_by_one_program(narrow, photographs, tmp_path, file_format, padding):
    """Symbolic sizes and batches; in a process of its own, as the tests' type checks know none."""
    narrow.save(tmp_path / "narrow")
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(photographs):
        picture.save(tmp_path / f"pictures/{i}.png")
    done = command(
        f"--checkpoint={tmp_path / 'narrow'}",
        f"--format={file_format}",
        f"--output={tmp_path / 'model'}",
        f"--images={tmp_path / 'pictures'}",
        "--short_side=96",
        "--long_side=160",
        padding,
    )
    assert done.returncode == 0, done.stderr
    assert "on 3 images" in done.stdout
    loaded = ad.load_exported(tmp_path / "model")
    sides = {"short_side": 96, "long_side": 160}
    right = narrow.predict(photographs, threshold=0.0, **sides)
    for one, expected in zip(loaded(photographs, threshold=0.0), right, strict=True):
        np.testing.assert_allclose(one.scores, expected.scores, atol=1e-5)


@pytest.mark.slow
@needs_onnx
def test_official_variants_in_onnx(official, photographs, tmp_path):
    """Of pictures of three sizes, with padding: far within what an export may differ by."""
    variant, detector = official
    form = ExportForm(sizes=((256, 352),))
    path = tmp_path / f"{variant}.onnx"
    report = export_detector(detector, path, photographs, file_format="onnx", form=form)
    assert report.differences.within(Tolerance(score=1e-5, box=5e-3)), report.differences
    assert report.megabytes < 300


@pytest.mark.slow
@needs_onnx
def test_the_example_finds_the_same(narrow, photographs, tmp_path):
    narrow.save(tmp_path / "narrow")
    photographs[0].save(tmp_path / "a.png")
    done = command(
        f"--checkpoint={tmp_path / 'narrow'}", "--format=onnx", f"--output={tmp_path / 'm.onnx'}",
        "--short_side=96", "--long_side=160",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    example = ROOT / "docs/examples/onnx_predict.py"
    said = subprocess.run(
        [sys.executable, example, tmp_path / "m.onnx", tmp_path / "a.png"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    found = narrow.predict(tmp_path / "a.png", short_side=96, long_side=160)[0]
    assert len(said) == len(found) > 0
    assert said[0].startswith(f"{found.names[0]} {found.scores[0]:.3f}")
