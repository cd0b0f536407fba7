"""The commands, as a user types them."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, make_detector

ROOT = Path(__file__).parents[1]
CACHE = tempfile.mkdtemp(prefix="anchor_detr_jax_tests_")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


def run(*arguments, check=True):
    """A command of the project; it fails where it leaves a traceback."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": CACHE},
    )
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small official-format file."""
    path = tmp_path_factory.mktemp("small") / "small.pth"
    make_detector().save_torch(path)
    return path


def test_convert_evaluate_predict(checkpoint, tmp_path):
    out = tmp_path / "deep/out"
    done = run("convert_torch_weights.py", checkpoint, out)
    assert "used" in done.stdout
    assert "wrote" in done.stdout
    description = json.loads((out / "detector.json").read_text())
    assert description["source"]["file"] == "small.pth"

    sides = ["--short_side", "96", "--long_side", "160"]
    results = tmp_path / "results.json"
    common = ["scripts/evaluate.py", "--checkpoint", out, *sides, "--output", results]
    done = run(*common, "--coco", DATA / "coco", "--batch_size", "2")
    assert done.stdout.count("Average Precision") == 6
    stats = json.loads((tmp_path / "results.json.stats.json").read_text())
    assert len(stats) == 12
    by_split = results.read_bytes()
    annotations = DATA / "coco/annotations/instances_val2017.json"
    run(*common, "--annotations", annotations, "--images", DATA / "coco/val2017", "--batch_size=2")
    assert results.read_bytes() == by_split

    drawn = tmp_path / "drawn"
    photographs = [DATA / "coco/val2017/000000005001.jpg", DATA / "coco/val2017"]
    common = ["scripts/predict.py", "--checkpoint", checkpoint, *sides, "--output", drawn]
    done = run(*common, "--threshold", "0", "--top_k", "4", "--images", *photographs)
    listed = json.loads((drawn / "detections.json").read_text())
    assert len(listed) == 5
    assert all(len(one["boxes"]) == 4 for one in listed.values())
    assert len(list(drawn.glob("*.jpg"))) == 5


def test_scoring_results_that_exist(tmp_path):
    folder = DATA / "coco_eval"
    done = run(
        "scripts/evaluate.py",
        *("--results", folder / "instances_val2014_fakebbox100_results.json"),
        *("--annotations", folder / "instances_val2014_100.json"),
        *("--output", tmp_path / "scored.json"),
    )
    assert "= 0.505" in done.stdout
    stats = json.loads((tmp_path / "scored.json.stats.json").read_text())
    np.testing.assert_allclose(stats[0], 0.5045806987, atol=1e-10)


def test_a_bad_checkpoint_leaves_nothing(checkpoint, tmp_path):
    (tmp_path / "cut.pth").write_bytes(checkpoint.read_bytes()[:5000])
    (tmp_path / "text.pth").write_text("hello")
    for name, says in {"cut.pth": "truncated", "text.pth": "no checkpoint"}.items():
        done = run("convert_torch_weights.py", tmp_path / name, tmp_path / "out", check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {tmp_path / name}:")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert {p.name for p in tmp_path.iterdir()} == {"cut.pth", "text.pth"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convert_torch_weights.py", "one.pth"], "expected a checkpoint and a folder"),
        (["convert_torch_weights.py", "nowhere.pth", "out"], "nowhere.pth"),
        (["scripts/evaluate.py", "--output=r.json"], "say either --coco"),
        (["scripts/evaluate.py", "--output=no/such/r.json"], "there is no folder"),
        (["scripts/predict.py", "--checkpoint=x", "--images=no.jpg", "--output=y"], "no.jpg"),
        (["scripts/predict.py", "--checkpoint=x", "--images=docs", "--output=y"], "no pictures"),
    ],
)
def test_what_the_user_can_mend_is_one_line(arguments, says):
    done = run(*arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_mistyped_flag_is_answered_with_the_nearest():
    done = run("scripts/evaluate.py", "--output=r.json", "--chekpoint=x", check=False)
    assert done.returncode != 0
    assert "checkpoint" in done.stderr


@pytest.mark.parametrize(
    "script", ["scripts/evaluate.py", "scripts/predict.py", "scripts/demo.py"], ids=str
)
def test_help_has_an_example(script):
    done = run(script, "--help", check=False)
    assert f"python {script}" in done.stdout


@pytest.mark.slow
def test_demo_in_small(tmp_path):
    output = tmp_path / "demo"
    small = ("--pictures=32", "--unseen=10", "--config.schedule.steps=4", "--config.eval_every=1")
    small += ("--config.schedule.warmup_steps=1",)
    done = run("scripts/demo.py", "--output", output, *small)
    assert done.stdout.count("Average") == 12 * 3  # after each of two epochs, and at the end
    for name in ("found", "curves", "results", "run", "data"):
        line = [line for line in done.stdout.splitlines() if line.startswith(f"{name}:")][-1]
        assert Path(line.split()[1]).exists()
    done = run("scripts/demo.py", "--output", tmp_path, *small, check=False)
    assert done.returncode == 1
    assert "holds something else" in done.stderr
