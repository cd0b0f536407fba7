"""The sister models' training: the references' numbers, and that each learns."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import golden
from families import MAIN, family_golden, official_model

from anchor_detr_jax.conversion.state_dict import to_state_dict
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.config import OptimizerConfig, ScheduleConfig
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.sharding import make_placement
from anchor_detr_jax.training.state import start_state
from anchor_detr_jax.training.step import StepSettings, make_train_step
from anchor_detr_jax.variable_names import flatten, unflatten

pytestmark = pytest.mark.slow  # R50 is compiled, with its gradients


def golden_targets(file) -> Targets:
    boxes, labels = np.full((2, 5, 4), 0.5, np.float32), np.zeros((2, 5), np.int32)
    for i in range(2):
        n = len(file[f"target{i}/labels"])
        boxes[i, :n], labels[i, :n] = file[f"target{i}/boxes"], file[f"target{i}/labels"]
    return Targets(boxes, labels, np.array([5, 2], np.int32))


def recorded() -> optax.GradientTransformation:
    """Passes gradients through, and keeps the last ones."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, state, params: (grads,) * 2,
    )


@pytest.fixture(scope="module", params=MAIN.items(), ids=lambda item: item[0])
def steps(request):
    """The golden file, and tensors and metrics of the references' recipe on its two images."""
    family, variant = request.param
    file, patch = family_golden(family, "training"), pytest.MonkeyPatch()
    layout, config, variables = official_model(family, variant, int(file["seed"]))
    model_file = importlib.import_module(f"anchor_detr_jax.models.{family}.model")
    image = golden("images")["image0"]
    images = Images(np.stack([image] * 2), np.full((2, 2), image.shape[:2], np.int32))
    pixels = np.array(normalised(images).features)
    pixels[1] = pixels[1, :, ::-1] * np.float32(0.9) + np.float32(0.05)
    patch.setattr(model_file, "normalised", lambda i: FeatureMap(jnp.asarray(pixels), i.valid_hw))

    recipe = OptimizerConfig()
    groups = parameter_groups(flatten(variables["params"]), recipe)
    schedules = make_schedules(recipe, ScheduleConfig(), steps_per_epoch=10)
    optimizer = optax.chain(recorded(), make_optimizer(recipe, schedules, groups))
    config = dataclasses.replace(config, dropout=0.0)
    step = make_train_step(make_model(config), optimizer, make_placement(), StepSettings())
    first = start_state(variables, optimizer, groups)

    def in_torch_layout(trained):
        fixed = {name: np.zeros_like(leaf) for name, leaf in first.fixed.items()}
        params = unflatten({**fixed, **jax.device_get(trained)})
        frozen = jax.tree.map(np.zeros_like, first.frozen)
        return to_state_dict(layout.rules(config), {"params": params, "frozen": frozen})

    states, metrics, compiled = [first], [], jax.jit(step)
    for _ in range(int(file["steps"])):
        state, measured = compiled(states[-1], images, golden_targets(file))
        states, metrics = [*states, state], [*metrics, jax.device_get(measured)]
    patch.undo()
    gradients = in_torch_layout(states[1].optimizer[0])
    start, end = in_torch_layout(first.trained), in_torch_layout(states[-1].trained)
    return file, metrics, gradients, {name: end[name] - start[name] for name in end}


def test_losses_are_the_references(steps):
    file, metrics, _, _ = steps
    losses = np.array([m.losses.total for m in metrics])
    np.testing.assert_allclose(losses[:2], file["loss"][:2], rtol=1e-4)
    np.testing.assert_allclose(losses[2:], file["loss"][2:], rtol=5e-3)
    last = [[m.losses.classes[-1], m.losses.l1[-1], m.losses.giou[-1]] for m in metrics]
    np.testing.assert_allclose(last[0], file["last_layer_losses"][0], rtol=1e-4)


def test_gradients_are_the_references(steps):
    file, metrics, gradients, _ = steps
    assert metrics[0].grad_norm == pytest.approx(file["global_grad_norm"][0], rel=2e-3)
    least = 1e-8 * file["global_grad_norm"][0]
    for name in file["trainable"]:
        expected = file[f"grad_norm/{name}"]
        if expected > least:
            assert np.linalg.norm(gradients[name]) == pytest.approx(expected, rel=5e-3), name
    for key in (key for key in file if key.startswith("grad/")):
        name = key.removeprefix("grad/")
        expected, actual = file[key], gradients[name]
        actual = actual[::5] if name == "query_embed.weight" else actual
        np.testing.assert_allclose(actual, expected, atol=2e-3 * np.abs(expected).max())


def test_the_same_parameters_move_as_far(steps):
    """Where rounding decides less than a hundredth part; the median says the rest."""
    file, _, _, moved = steps
    least = 1e-8 * file["global_grad_norm"][0]
    seen = [name for name in file["trainable"] if file[f"grad_norm/{name}"] > least]
    errors = [abs(np.linalg.norm(moved[name]) / file[f"update_norm/{name}"] - 1) for name in seen]
    assert np.median(errors) < 2e-3
    assert np.quantile(errors, 0.95) < 3e-2
    assert max(errors) < 0.2
    still = {name for name, change in moved.items() if not change.any()}
    assert not still & set(seen)
    frozen = ("conv1.", "bn1.", "layer1.")
    body = "backbone.0.body."
    assert all(name in still for name in moved if name.startswith(tuple(body + f for f in frozen)))
