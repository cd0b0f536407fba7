"""Parts of the dataset doctor: pictures that are alike, boxes one by one, memory, the command."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from broken_data import broken_coco, clean_coco, jpeg, picture
from conftest import DATA
from PIL import Image
from test_training_run import narrow_config

from anchor_detr_jax.data.formats.records import BoxRecord, PictureRecord
from anchor_detr_jax.inspection.box_checks import check_boxes
from anchor_detr_jax.inspection.memory import memory_estimate, memory_plan
from anchor_detr_jax.inspection.picture_checks import check_picture
from anchor_detr_jax.inspection.picture_files import PictureFacts, examined
from anchor_detr_jax.inspection.twins import first_alike
from anchor_detr_jax.training.compiled import CompiledSteps
from anchor_detr_jax.training.config import DataConfig, TrainConfig
from anchor_detr_jax.training.run import prepare_run

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("seed", range(4))
def test_looks_alike_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    looks = rng.integers(0, 256, (60, 32), np.uint8)
    for i in range(30, 60):  # others, with some bits turned
        bits = np.unpackbits(looks[rng.integers(0, 30)])
        turned = rng.choice(256, rng.integers(0, 30), replace=False)
        bits[turned] ^= 1
        looks[i] = np.packbits(bits)
    bits = np.unpackbits(looks, axis=1)
    near = (bits[:, None] != bits[None]).sum(axis=-1) <= 15
    expected = near.argmax(axis=1)  # the first one, which may be itself
    np.testing.assert_array_equal(first_alike(looks), expected)
    assert (expected < np.arange(60)).sum() > 5


def facts_of(content, name="a.jpg", *, decode=True):
    record = PictureRecord("here", Path(name), 1, None, (), encoded=lambda: content)
    return next(iter(examined([record], decode=decode)))


def bits_between(some, other):
    return int(
        np.bitwise_count(np.bitwise_xor(*map(np.frombuffer, (some, other), ["u1"] * 2))).sum()
    )


def test_a_picture_saved_again_looks_alike_and_others_do_not():
    original = picture(1, (320, 240))
    look = facts_of(jpeg(original)).look
    smaller = original.resize((200, 150), Image.Resampling.BILINEAR)
    assert bits_between(look, facts_of(jpeg(original, quality=50)).look) <= 15
    assert bits_between(look, facts_of(jpeg(smaller)).look) <= 15
    assert all(bits_between(look, facts_of(jpeg(picture(i))).look) > 60 for i in range(2, 12))
    assert facts_of(jpeg(Image.new("RGB", (64, 64), "grey"))).look == b""


def test_headers_and_pixels_agree():
    exif = Image.Exif()
    exif[0x0112] = 8
    content = jpeg(picture(1, (50, 30)), exif=exif)
    header, whole = facts_of(content, decode=False), facts_of(content)
    assert header == dataclasses.replace(whole, pixels=b"", look=b"")
    assert (whole.hw, whole.orientation, whole.format) == ((30, 50), 8, "JPEG")


def kinds_of(*boxes, hw=(100, 100), categories=None):
    records = tuple(
        BoxRecord(f"box {i}", box and tuple(map(float, box)), (categories or {}).get(i, 1))
        for i, box in enumerate(boxes)
    )
    sample = PictureRecord("here", Path("a.jpg"), 1, hw, records)
    return sorted((f.where, f.kind) for f in check_boxes(sample, hw, frozenset({1, 2})))


@pytest.mark.parametrize(
    ("box", "kinds"),
    [
        ((0, 0, 100, 100), []),
        ((-1, 0, 50, 50), ["box slightly outside"]),
        ((-1.1, 0, 50, 50), ["box partly outside"]),
        ((0, 0, 50, 200), ["box partly outside"]),
        ((0, 0, 50, 200.1), ["box far outside"]),
        ((100, 0, 150, 50), ["box outside"]),
        ((-100, 0, 50, 50), ["box partly outside"]),
        ((10, 10, 10, 50), ["box without area"]),
        ((10, 50, 20, 10), ["inverted box"]),
        ((10, 10, 11.9, 50), ["tiny box"]),
        ((10, 10, 12, 50), []),  # 16 pixels wide as the model sees it
        ((10, 10, float("inf"), 50), ["box not finite"]),
        (None, ["unreadable box"]),
    ],
)
def test_boxes_by_hand(box, kinds):
    assert kinds_of(box) == [("box 0", kind) for kind in kinds]


def test_twice_the_same_box():
    first, same, other = (10.0, 10, 60, 60), (10.0, 10, 60, 61), (10.0, 10, 60, 70)
    assert kinds_of(first, same) == [("box 1", "duplicate box")]
    assert kinds_of(first, other) == []  # IoU 0.83
    assert kinds_of(first, first, categories={1: 2}) == [("box 1", "box with two classes")]


def test_small_as_the_model_sees_it():
    box = (10.0, 10, 13, 50)
    assert kinds_of(box, hw=(400, 400)) == []  # twice as large
    assert kinds_of(box, hw=(800, 800)) == [("box 0", "box small for the model")]


def test_the_size_that_boxes_were_computed_with_counts():
    sample = PictureRecord("here", Path("a.jpg"), 1, None, (), header_hw=(30, 40))
    kinds = {
        f.kind for f in check_picture(sample, PictureFacts((60, 80), "RGB", "JPEG"), queries=9)
    }
    assert kinds == {"wrong size"}


@pytest.mark.parametrize(
    ("dilation", "hw", "remat", "planned"),
    [
        (False, (480, 640), "cheap", 0.87),
        (False, (480, 640), "layers", 0.70),
        pytest.param(False, (480, 640), "none", 1.70, marks=pytest.mark.slow),
        pytest.param(False, (800, 1216), "cheap", 1.86, marks=pytest.mark.slow),
        pytest.param(True, (800, 1216), "cheap", 2.72, marks=pytest.mark.slow),
        pytest.param(True, (800, 1216), "layers", 1.86, marks=pytest.mark.slow),
        pytest.param(True, (800, 1216), "none", 5.80, marks=pytest.mark.slow),
    ],
)
def test_memory_estimates_are_near_what_xla_planned(dilation, hw, remat, planned):
    """In GiB, from `memory_plan` on the CPU; for small maps XLA shares more memory."""
    config = TrainConfig(
        data=DataConfig(str(DATA / "coco"), "val2017", "", batch_size=2), remat=remat
    )
    backbone = dataclasses.replace(config.model.backbone, dilation=dilation)
    model = dataclasses.replace(config.model, backbone=backbone)
    run = prepare_run(dataclasses.replace(config, model=model), Path())
    need = memory_estimate(run, hw)
    assert 0.97 * planned < need.total / 2**30 < 1.36 * planned
    assert not need.planned


@pytest.mark.slow
def test_the_plan_is_that_of_the_step_that_training_compiles(tmp_path):
    run = prepare_run(narrow_config(), tmp_path)
    batch = run.reader(0)
    need = memory_plan(run, batch.images.pixels.shape[1:3])
    state, _ = run.start()
    done = []
    CompiledSteps(run.step, run.placement, run.shapes, report=done.append)(
        state, batch.images, batch.targets
    )
    assert need.total == done[0].memory
    assert need.planned


def inspected(folder, output, *flags):
    command = [
        "scripts/inspect_data.py",
        folder,
        "--config=tests/narrow_run.py",
        "--output",
        output,
    ]
    flags = ["--config.data.categories=dataset", "--config.data.train_split=train2017", *flags]
    return subprocess.run(
        [sys.executable, *map(str, command), *flags],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=300,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.slow
def test_the_command_and_its_exit_codes(tmp_path):
    faults = broken_coco(tmp_path / "broken")
    done = inspected(tmp_path / "broken", tmp_path / "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert {fault.kind for fault in faults} <= {f["kind"] for f in report["findings"]}
    assert f"{report['counts']['error']} errors" in done.stdout
    assert str(tmp_path / "out/report.html") in done.stdout
    assert (tmp_path / "out/report.html").stat().st_size > 50_000

    clean_coco(tmp_path / "clean")
    assert inspected(tmp_path / "clean", tmp_path / "out").returncode == 0
    Image.new("RGB", (64, 64)).save(tmp_path / "clean/train2017/lonely.png")
    assert inspected(tmp_path / "clean", tmp_path / "out", "--quick").returncode == 0
    assert inspected(tmp_path / "clean", tmp_path / "out", "--quick", "--strict").returncode == 1

    done = inspected(tmp_path / "out", tmp_path / "none")
    assert done.returncode == 1
    assert "no data set" in done.stderr
