"""What the documents say: their links, their commands, their Python."""

import ast
import functools
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = [*PAGES, *sorted((ROOT / "configs").glob("*.py"))]
named = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """What `#...` may say on a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@named
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": ([\w/]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.M))
    there = {
        str(path.relative_to(DOCS)) for kind in ("md", "ipynb") for path in DOCS.rglob(f"*.{kind}")
    }
    assert listed == there


def test_every_picture_is_shown_somewhere():
    shown = " ".join(page.read_text() for page in PAGES)
    pictures = [path for kind in ("png", "jpg") for path in DOCS.rglob(f"*.{kind}")]
    assert [picture.name for picture in pictures if picture.name not in shown] == []


def blocks(text: str, languages: str) -> list[str]:
    return re.findall(rf"^```(?:{languages})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """Each command of ours in a text, as a list of words from its program's name on."""
    for line in text.replace("\\\n", " ").splitlines():
        found = re.search(r"python (scripts/\w+\.py|convert_torch_weights\.py)(.*)", line)
        if found:
            words = re.split(r" # | \|| &&|`|;", found[2])[0].strip().strip('"')
            yield [found[1], *shlex.split(words)]


@functools.cache
def flags(program: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, program, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    names = re.findall(r"^  --(?:\[no\])?([\w.]+)", done.stdout, re.MULTILINE)
    switches = re.findall(r"^  --\[no\](\w+)", done.stdout, re.MULTILINE)
    return {"help", *names, *(f"no{name}" for name in switches)}


@functools.cache
def config_keys(file: str) -> set[str]:
    def below(tree: dict, above: str) -> Iterator[str]:
        for name, value in tree.items():
            yield above + name
            if isinstance(value, dict):
                yield from below(value, f"{above}{name}.")

    config = runpy.run_path(str(ROOT / file))["get_config"]().to_dict()
    return set(below(config, "config."))


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist_with_their_flags(text):
    for program, *words in commands(text.read_text()):
        given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
        config = "configs/demo.py"
        for word, following in pairwise([*words, ""]):
            if word.partition("=")[0] == "--config":
                config = word.partition("=")[2] or following
        known = flags(program) | config_keys(config)
        assert set(given) <= known, f"{text}: {program} {words}"


@named
def test_inline_config_keys_exist(page):
    for key in re.findall(r"`--config\.([\w.]+)=", page.read_text()):
        assert f"config.{key}" in config_keys("configs/demo.py"), key


@named
def test_python_can_be_read_and_its_imports_exist(page):
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("anchor_detr_jax"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)
