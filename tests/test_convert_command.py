"""Converting, as a user types it."""

import zipfile

import numpy as np
import pytest
from conftest import DATA, make_detector
from test_commands import ROOT, run
from write_pth import write_pth

from anchor_detr_jax.conversion.torch_file import read_torch_file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small official-format file."""
    path = tmp_path_factory.mktemp("small") / "small.pth"
    make_detector().save_torch(path)
    return path


@pytest.mark.slow
def test_convert_a_backbone(checkpoint, tmp_path):
    tensors = read_torch_file(checkpoint).tensors
    prefix = "backbone.body."
    resnet = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    write_pth(tmp_path / "resnet.pth", resnet | {"fc.bias": np.zeros(3, np.float32)})
    done = run("convert_torch_weights.py", "--backbone", tmp_path / "resnet.pth", tmp_path / "out")
    assert "ignored fc.bias: ImageNet's classifier" in done.stdout
    assert (tmp_path / "out/backbone.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("expected", ["0.0", "44.2", None])
def test_convert_and_verify(checkpoint, tmp_path, expected):
    """A model that has learned nothing has an AP of 0, and no published one."""
    flags = ["--verify", DATA / "coco", "--short_side=96", "--long_side=160"]
    flags += [f"--expected_ap={expected}"] if expected else []
    done = run("convert_torch_weights.py", checkpoint, tmp_path / "out", *flags, check=False)
    assert "IoU=0.50:0.95" in done.stdout
    if expected == "0.0":
        assert "AP agrees to 0.1" in done.stdout
    elif expected:
        assert "AP differs by 44.2" in done.stderr
    else:
        assert "--expected_ap gives an AP to compare with" in done.stdout
    assert done.returncode == (expected == "44.2")


def bad_checkpoints(tensors, folder):
    """Name, file and what the message must say of it."""
    bomb = b"cposix\nsystem\nX\x08\x00\x00\x00touch rn\x85R."
    changed = dict(tensors)
    del changed["transformer.pattern.weight"]
    broken = dict(tensors) | {
        "transformer.surplus": np.zeros(2, np.float32),
        "input_proj.0.0.bias": np.full(64, np.nan, np.float32),
        "transformer.position.weight": np.zeros((7, 3), np.float32),
    }
    del broken["transformer.encoder_layers.1.norm1.weight"]
    write_pth(folder / "no_pattern", changed)
    write_pth(folder / "broken", broken)
    files = {
        "empty": (b"", "is empty"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "raw_bomb": (b"\x80\x02" + bomb, "bare pickle"),
        "no_pattern": ((folder / "no_pattern").read_bytes(), "transformer.pattern.weight"),
        "broken": ((folder / "broken").read_bytes(), "in 4 places"),
    }
    for name, content in {
        "zip_without_data": None,
        "zip_bomb": b"\x80\x02" + bomb,
        "no_model": b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
    }.items():
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/version", "3")
            if content:
                archive.writestr("archive/data.pkl", content)
        says = {"zip_without_data": "0 data.pkl", "zip_bomb": "nothing was run"}
        files[name] = ((folder / name).read_bytes(), says.get(name, "has no `model`"))
    return files


@pytest.mark.slow
def test_bad_checkpoints_each_one_clear_error(checkpoint, tmp_path):
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    tensors = read_torch_file(checkpoint).tensors
    for name, (content, says) in bad_checkpoints(tensors, drafts).items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.pth").write_bytes(content)
        done = run(
            *("convert_torch_weights.py", folder / "model.pth", folder / "out", "--nodilation"),
            check=False,
        )
        assert done.returncode == 1, name
        assert done.stderr.startswith(f"error: {folder / 'model.pth'}: "), name
        assert says in done.stderr, (name, done.stderr)
        assert done.stderr.count("error:") == 1
        assert [p.name for p in folder.iterdir()] == ["model.pth"], name
    assert not (ROOT / "rn").exists()


def test_a_flag_that_contradicts_the_file(checkpoint, tmp_path):
    done = run("convert_torch_weights.py", checkpoint, tmp_path / "o", "--dilation", check=False)
    assert done.returncode == 1
    assert "args say dilation=False" in done.stderr
    assert not (tmp_path / "o").exists()
