"""The notebook, run from top to bottom."""

import json
import sys
from pathlib import Path

import pytest
from conftest import make_detector

from anchor_detr_jax.data.shapes import make_shapes

NOTEBOOK = Path(__file__).parents[1] / "docs/tutorials/first_steps.ipynb"


@pytest.mark.slow
def test_every_cell_runs(tmp_path, monkeypatch):
    """Beside a folder as the demo leaves it, with a detector that has learned nothing."""
    import nbformat
    from nbclient import NotebookClient

    make_shapes(tmp_path / "demo_output/data", train=1, val=8, seed=0)
    make_detector().save(tmp_path / "demo_output/run")
    folder = tmp_path / "docs/tutorials"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [one for one in shown if one.output_type == "stream" and one.name == "stderr"]
    pictures = [one for one in shown if {"image/jpeg", "image/png"} & set(one.get("data", ()))]
    assert len(pictures) == 4  # what was found in one, the contact sheet, and two figures
    assert shown[-1].text.endswith("True\n")


def test_what_is_committed_is_small_and_in_order():
    """Its outputs are of one run, from top to bottom."""
    notebook = json.loads(NOTEBOOK.read_text())
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 700_000
    assert "Traceback" not in NOTEBOOK.read_text()
