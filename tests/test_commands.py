"""The commands, as a user types them."""

import atexit
import importlib
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

from anchor_detr_jax.command.accelerators import unused_accelerator

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


def errors_of(done):
    """The lines that say why a command failed."""
    assert done.returncode == 1
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def one_error(done):
    """The one line that a command ended with, and all that it said on stderr."""
    assert errors_of(done) == done.stderr.splitlines()
    (error,) = errors_of(done)
    return error


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
        error = one_error(done)
        assert error.startswith(f"error: {tmp_path / name}:")
        assert says in error
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
    assert says in one_error(run(*arguments, check=False))


TRAIN = ("scripts/train.py", "--workdir=never")
CONFIG = (*TRAIN, "--config=configs/anchor_detr_r50_c5.py")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scripts/predict.py", "--treshold=0.3"], "no flag --treshold. Did you mean --threshold?"),
        (["scripts/predict.py", "--zzzzz"], "no flag --zzzzz; --help lists"),
        (["scripts/predict.py", "--output=x"], "--checkpoint and --images must be given"),
        (["scripts/predict.py", "--threshold=7"], "7.0 is not a number in the range [0.0, 1.0]"),
        ([*CONFIG, "--data.root=x"], "Did you mean --config.data.root?"),
        ([*CONFIG, "--config.data.rot=x"], 'Did you mean "root", as in --config.data.root?'),
        ([*CONFIG, "--config.clip=1"], 'Did you mean "clip", as in --config.optimizer.clip?'),
        ([*CONFIG, "--config.matcher.x=1"], "no key 'x' (in --config.matcher.x=1)"),
        ([*CONFIG, "--config.schedule.zzz=1"], "schedule has drop, drop_step, epochs, kind"),
        ([*TRAIN, "--config", "configs/anchor_detr_r50.py"], "configs/anchor_detr_r50_dc5.py"),
        ([*TRAIN, "--config=anchor_detr_r50_c5"], "mean configs/anchor_detr_r50_c5.py?"),
        ([*TRAIN, "--config=zzz"], "there are configs/anchor_detr_r101_c5.py, "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_does_not_exist_is_answered_with_the_nearest(arguments, says):
    assert says in one_error(run(*arguments, check=False))


COMMANDS = [*sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py"))]
COMMANDS.append("convert_torch_weights.py")


@pytest.mark.parametrize("script", COMMANDS)
def test_help_is_a_screen_with_an_example(script):
    lines = run(script, "--help").stdout.splitlines()
    assert any(line.startswith(f"    python {script}") for line in lines)
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert run(script, "-h").stdout.splitlines() == lines


def test_help_explains_each_flag():
    lines = run("scripts/evaluate.py", "--help").stdout.splitlines()
    first = lines.index("  --output ...              File for the results. [required]")
    assert "  --short_side N            Short side of the resized images. [800]" in lines[first:]
    assert any(line.startswith("  --[no]per_class") for line in lines[first:])
    full = run("scripts/evaluate.py", "--helpfull", check=False).stdout
    assert "--verbosity" in full
    assert "--per_class" in full


def test_a_config_by_default(tmp_path):
    """It can be changed as one that is given, and is answered for in the same way."""
    program = tmp_path / "program.py"
    program.write_text(
        "from ml_collections import config_flags\n"
        "from anchor_detr_jax.command import run_command\n"
        "config = config_flags.DEFINE_config_file('config', None)\n"
        "main = lambda _: print(config.value.schedule.steps, config.value.model.num_anchors)\n"
        "run_command(main, default_config='configs/demo.py')\n"
    )
    assert run(program, "--config.schedule.steps=7").stdout == "7 36\n"
    other = run(program, "--config=configs/anchor_detr_r50_c5.py", "--config.schedule.steps=8")
    assert other.stdout == "8 300\n"
    done = run(program, "--config.schedule.step=7", check=False)
    assert "--config.schedule.steps?" in done.stderr


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A root of a file system, and a path where nothing is installed."""
    for name in ("jax_plugins", "libtpu"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "installed")])
    return tmp_path


@pytest.mark.parametrize(
    ("device", "plugin", "extra"),
    [
        ("dev/nvidia0", "jax_plugins/xla_cuda13/__init__.py", "cuda"),
        ("proc/driver/nvidia/gpus/0000:19:00.0", "jax_plugins/xla_cuda12/__init__.py", "cuda"),
        ("dev/accel0", "libtpu/__init__.py", "tpu"),
    ],
)
def test_an_accelerator_that_is_not_used(machine, device, plugin, extra):
    assert unused_accelerator({}, machine) is None
    for name in ("dev/nvidiactl", device):
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).touch()
    assert f'pip install "anchor_detr_jax[{extra}]"' in str(unused_accelerator({}, machine))
    assert unused_accelerator({"JAX_PLATFORMS": "cpu"}, machine) is None
    installed = machine / "installed" / plugin
    installed.parent.mkdir(parents=True)
    installed.touch()
    importlib.invalidate_caches()
    assert unused_accelerator({}, machine) is None


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
