"""A run's folder read by `ad.load`: the best checkpoint that is whole."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
import small_states
from conftest import NARROW, random_variables
from small_states import bits

import anchor_detr_jax as ad
from anchor_detr_jax.training.checkpoints import RunCheckpoints
from anchor_detr_jax.training.state import TrainState, start_state
from anchor_detr_jax.variable_names import flatten

MODEL = dataclasses.replace(NARROW, encoder_layers=1, decoder_layers=1)
DESCRIPTION = dataclasses.replace(small_states.DESCRIPTION, model=MODEL)


def trained_detector(run: Path, *, average: bool) -> list[TrainState]:
    """Three checkpoints of a detector, of which the second is the best."""
    variables = random_variables(MODEL, 0)
    names = flatten(variables["params"])
    groups = {name: "frozen" if "layer1" in name else "rest" for name in names}
    states = []
    with RunCheckpoints(run, DESCRIPTION, keep=3) as checkpoints:
        for step, ap in ((1, 0.1), (2, 0.3), (3, None)):
            state = start_state(variables, optax.sgd(0.1, momentum=0.9), groups, average=average)
            trained = jax.tree.map(lambda leaf, step=step: leaf * step, state.trained)
            averaged = jax.tree.map(lambda leaf: leaf + 1, trained) if average else None
            state = dataclasses.replace(
                state, step=jnp.int32(step), trained=trained, average=averaged
            )
            checkpoints.save(state, ap=ap)
            states.append(state)
    return states


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run without averages, and its states."""
    run = tmp_path_factory.mktemp("trained") / "run"
    return run, trained_detector(run, average=False)


def same(detector: ad.Detector, state: TrainState) -> bool:
    expected = state.variables(state.average)
    return bits(detector.variables) == bits(expected) and detector.config == MODEL


def test_a_run_is_loaded_as_a_detector(trained, tmp_path):
    run, states = shutil.copytree(trained[0], tmp_path / "run"), trained[1]
    shutil.rmtree(run / "checkpoints/2/optimizer")  # which inference does without
    best, last = ad.load(run), ad.load(run, which="last")
    assert same(best, states[1])
    assert same(last, states[2])
    assert best.categories == DESCRIPTION.categories
    assert best.source["file"] == "run/checkpoints/2"
    assert (best.source["ap"], best.source["averaged"]) == (0.3, False)
    assert last.source["ap"] is None
    best.save(tmp_path / "saved")
    assert same(ad.load(tmp_path / "saved"), states[1])


def test_averaged_weights_are_loaded_and_damaged_ones_passed_over(tmp_path):
    states = trained_detector(tmp_path, average=True)
    detector = ad.load(tmp_path)
    assert same(detector, states[1])
    assert detector.source["averaged"]
    shutil.rmtree(tmp_path / "checkpoints/2/average/d")
    with pytest.warns(UserWarning, match=r"checkpoints/2/average .*; step 1 takes its place"):
        assert same(ad.load(tmp_path), states[0])
    (tmp_path / "checkpoints/1/about/metadata").unlink()
    with pytest.warns(UserWarning, match=r"checkpoints/1/about.*; step 3 takes its place"):
        assert same(ad.load(tmp_path), states[2])


def test_what_cannot_be_loaded(trained, tmp_path):
    RunCheckpoints(tmp_path / "new", DESCRIPTION).close()
    with pytest.raises(ValueError, match="a training run that has no checkpoint yet"):
        ad.load(tmp_path / "new")
    run = shutil.copytree(trained[0], tmp_path / "run")
    about = run / "checkpoints/3/about/metadata"
    for change, says in (
        ({"format": 2}, "its format is 2, this version reads 1"),
        ({"arrays": {}}, r"lacks \['backbone/bn1/bias',"),
        ({"arrays": {"trained": {"x": "float32[1]"}}}, r"has \['x'\]; the model has not"),
    ):
        for step in (1, 2):
            shutil.rmtree(run / f"checkpoints/{step}", ignore_errors=True)
        content = about.read_text()
        about.write_text(json.dumps(json.loads(content) | change))
        with pytest.raises(ValueError, match=rf"no checkpoint that can be read: .*{says}"):
            ad.load(run)
        about.write_text(content)
    with pytest.raises(ValueError, match="leave dilation=True away"):
        ad.load(run, dilation=True)
    with pytest.raises(ValueError, match="which is 'first', and must be 'best' or 'last'"):
        ad.load(run, which="first")
    with pytest.raises(ValueError, match="is no training run; leave which='last' away"):
        ad.load(tmp_path, which="last")
