"""The first minute: what is installed, and how long the first import takes."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_import_is_quick():
    """Under 2 seconds of its own work, however busy the machine is."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import anchor_detr_jax"], check=True)
    after = os.times()
    used = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    assert used < 2


@pytest.mark.slow
def test_what_is_installed_is_whole_and_typed(tmp_path):
    """The wheel has every module and the mark of a typed package, and works from elsewhere."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    package = ROOT / "anchor_detr_jax"
    modules = {str(path.relative_to(ROOT)) for path in package.rglob("*.py")}
    assert modules | {"anchor_detr_jax/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "scripts", "docs"))]
    program = "import anchor_detr_jax as ad; print(ad.__file__); print(ad.Detections.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
    )
    assert str(tmp_path) in done.stdout
    assert "Detections" in done.stdout
