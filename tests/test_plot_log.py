"""scripts/plot_log.py, on runs that ended and on one that goes on."""

import json

import numpy as np
import pytest
from PIL import Image
from test_commands import one_error, run


def write_log(folder, *, steps, lines=""):
    folder.mkdir()
    rows = [{"step": step, "loss/total": 30 / step, "lr/rest": 1e-4} for step in range(1, steps)]
    train = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train.jsonl").write_text(train + lines)
    return folder


def test_curves_of_runs_together(tmp_path):
    """One of them was never evaluated, and is in the middle of a line."""
    ended = write_log(tmp_path / "ended", steps=40)
    (ended / "eval.jsonl").write_text('{"step": 39, "AP": 0.25, "AP50": 0.5, "AP75": 0.2}\n')
    going_on = write_log(tmp_path / "going_on", steps=20, lines='{"step": 20, "loss/to')
    output = tmp_path / "both.png"
    done = run("scripts/plot_log.py", ended, going_on, "--output", output)
    assert done.stdout == f"{output}\n"
    with Image.open(output) as picture:
        assert picture.size == (1575, 1050)
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for colour in ((0, 114, 178), (213, 94, 0)):  # of the first run and of the second
        assert (pixels == colour).all(axis=1).sum() > 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no runs were named"),
        (["docs"], "docs has no log of a run: neither train.jsonl nor eval.jsonl"),
        (["docs", "--output=curves.jpg"], "is no PNG"),
        (["docs", "--output=no/such/curves.png"], "there is no folder"),
    ],
)
def test_what_is_no_run(arguments, says):
    assert says in one_error(run("scripts/plot_log.py", *arguments, check=False))
