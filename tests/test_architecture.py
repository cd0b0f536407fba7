"""The layers of the package: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "anchor_detr_jax"

# From the bottom up; docs/architecture.md explains. A module imports from rows above its own, and
# from its own package.
LAYERS = [
    {
        "structures",
        "boxes",
        "host_memory",
        "html_page",
        "plot_style",
        "variable_names",
        "whole_files",
    },
    {"layers", "data", "class_scores", "command"},
    {"backbones", "losses", "matcher", "postprocess", "devices", "visualize"},
    {"models"},
    {"checkpoint"},
    {"conversion", "run_folder"},
    {"programs"},
    {"detector"},
    {"loading"},
    {"evaluation", "export", "insight", "serving"},
    {"training"},
    {"inspection", "benchmark"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
FORMATS = "anchor_detr_jax.data.formats"


def imported_modules(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{a.name}" for a in node.names if node.module == PACKAGE.name}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_layer():
    assert {room(path) for path in FILES} == set(RANK) | {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    if room(path) == "__init__":
        return  # the package's face imports on demand
    for name in imported_modules(path):
        package, _, rest = name.partition(".")
        if package != PACKAGE.name or not rest:
            continue
        target = rest.split(".")[0]
        assert target == room(path) or RANK[target] < RANK[room(path)], f"{path} imports {name}"


def importers(package: str) -> set[str]:
    """Rooms with a file that imports a third-party package."""
    return {
        room(path)
        for path in FILES
        if any(name.split(".")[0] == package for name in imported_modules(path))
    }


def test_flax_stays_where_parameters_are():
    assert importers("flax") == {"layers", "backbones", "models"}


def test_configs_stop_at_the_entry_points():
    assert importers("ml_collections") == set()
    assert importers("absl") == {"command"}


def test_formats_are_read_into_what_the_rest_of_data_knows():
    for path in PACKAGE.glob("data/*.py"):
        assert not {n for n in imported_modules(path) if n.startswith(FORMATS)}, path


def test_data_knows_no_jax_model():
    assert "jax" not in importers("flax") - {"layers", "backbones", "models"}
    assert "data" not in importers("jax")


def test_nothing_needs_torch():
    assert importers("torch") == set()


def test_importing_the_package_imports_nothing_heavy():
    program = (
        "import sys, anchor_detr_jax; "
        "print(sorted({'jax', 'flax', 'orbax', 'PIL', 'pycocotools'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_files_stay_readable():
    long = {str(p): n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert not long
