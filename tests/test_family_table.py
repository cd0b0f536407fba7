"""The table of families in docs/architecture.md says what the code says."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "anchor_detr_jax"
NAMES = {
    "anchor_detr": ("AnchorDETR", "AnchorDETRConfig", "ANCHOR_DETR"),
    "conditional_detr": ("ConditionalDETR", "ConditionalDETRConfig", "CONDITIONAL_DETR"),
    "detr": ("DETR", "DETRConfig"),
    "smca": ("SMCA", "SMCAConfig"),
}


def own_files(family: str) -> list[Path]:
    return [
        *sorted((PACKAGE / "models" / family).glob("*.py")),
        PACKAGE / "conversion" / f"{family}.py",
    ]


def lines_that_name(path: Path, family: str) -> set[int]:
    """Lines of code in which a family's classes, modules or its name as a word occur."""
    modules = re.compile(rf"anchor_detr_jax\.(models|conversion)\.{family}(\.|$)")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            (isinstance(node, ast.Name) and node.id in NAMES[family])
            or (isinstance(node, ast.Constant) and node.value == family)
            or (isinstance(node, ast.ImportFrom) and modules.match(node.module or ""))
        ):
            found.add(node.lineno)
    return found


def row_of(family: str) -> str:
    """Its line of the table."""
    own = own_files(family)
    lines = sum(len(path.read_text().splitlines()) for path in own)
    every_own = {path for other in NAMES for path in own_files(other)}
    shared = []
    for path in sorted(set(PACKAGE.rglob("*.py")) - every_own):
        if count := len(lines_that_name(path, family)):
            shared.append(f"`{path.relative_to(PACKAGE)}` {count}")
    return (
        f"| {NAMES[family][0]} | `models/{family}/`, `conversion/{family}.py` | {len(own)} "
        f"| {lines} | {', '.join(shared)} |"
    )


@pytest.mark.parametrize("family", NAMES)
def test_the_table_is_true(family):
    assert row_of(family) in (ROOT / "docs/architecture.md").read_text().splitlines()
