"""The other side of a comparison: how it is found, named and called."""

import dataclasses
import importlib.util
import sys

import pytest
from conftest import NARROW

from anchor_detr_jax.benchmark.opponents import Opponent, find_function, opponents
from anchor_detr_jax.benchmark.tasks import Task, made_images
from anchor_detr_jax.training.config import TrainConfig

TASK = Task("narrow", TrainConfig(model=NARROW), "float32", (64, 96))


@pytest.mark.parametrize("named", ["torch", "torch:", ":forward"])
def test_what_names_no_function(named):
    with pytest.raises(ValueError, match="expected module:function, or one of"):
        find_function(named)


def test_functions_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "of_mine.py").write_text("def forward(name): ...\nsize = 3\n")
    assert find_function("of_mine:forward").__name__ == "forward"
    for name in ("backward", "size"):
        with pytest.raises(ValueError, match=f"of_mine has no function {name!r}"):
            find_function(f"of_mine:{name}")
    with pytest.raises(ValueError, match="nowhere:forward cannot be imported"):
        find_function("nowhere:forward")
    if importlib.util.find_spec("torch") is None:
        with pytest.raises(ValueError, match="PyTorch cannot be imported"):
            opponents("of_mine:forward", None, ("eager",))
    assert opponents(None, None, ("eager",)) == []


def test_labels():
    ready = Opponent(
        "anchor_detr_jax.benchmark.hugging_face:detr",
        "anchor_detr_jax.benchmark.hugging_face:detr_step",
        compiled=True,
    )
    assert ready.label("detection") == ready.label("step") == "detr, torch.compile"
    assert Opponent("mine:forward", None).label("detection") == "mine:forward, eager"
    assert Opponent(None, "mine:train_step").label("step") == "mine:train_step, eager"
    assert not Opponent("mine:forward", None).has("step")


MINE = """
import torch

def forward(name):
    assert name == "narrow"
    def run(images):
        assert images.dtype == torch.float32
        assert images.shape[1] == 3
        pooled = images.mean((2, 3))[:, None]
        return {"pred_logits": pooled.expand(-1, 5, 3), "pred_boxes": torch.rand(len(images), 5, 4)}
    return run

def step(name):
    def run(images, targets):
        assert images.shape == (2, 3, 64, 96)
        assert images.max() <= 1
        assert [set(one) for one in targets] == [{"labels", "boxes"}] * 2
        assert targets[0]["boxes"].shape == (7, 4)
    return run

def broken(name):
    return lambda images: 1 / 0
"""


def test_opponents_keep_their_contract(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "their_model.py").write_text(MINE)
    (opponent,) = opponents("their_model:forward", "their_model:step", ("eager",))
    for precision in ("float32", "bfloat16"):
        task = dataclasses.replace(TASK, precision=precision)
        program = opponent.load_detection(task)()
        boxes, scores, labels = program.run(made_images(task))
        assert boxes.shape == (1, 15, 4)
        assert scores.shape == labels.shape == (1, 15)
        program.on_device(2)
    opponent.load_step(dataclasses.replace(TASK, batch_size=2))().run()
