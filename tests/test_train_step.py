"""A training step: the reference's numbers, whatever the devices, the parts and the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import golden, official_tensors

import anchor_detr_jax.models.anchor_detr.model as model_file
from anchor_detr_jax.conversion.anchor_detr import ANCHOR_DETR
from anchor_detr_jax.conversion.state_dict import to_state_dict, to_variables
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import make_model, variable_shapes
from anchor_detr_jax.models.pixels import normalised
from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.config import OptimizerConfig, ScheduleConfig
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.sharding import make_placement
from anchor_detr_jax.training.state import TrainState, start_state
from anchor_detr_jax.training.step import StepSettings, make_train_step
from anchor_detr_jax.variable_names import flatten, unflatten

pytestmark = pytest.mark.slow  # R50-C5 is compiled, with its gradients

OFFICIAL = AnchorDETRConfig()
RULES = ANCHOR_DETR.rules(OFFICIAL)
STEPS = 6


def recorded() -> optax.GradientTransformation:
    """Passes gradients through, and keeps the last ones."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, state, params: (grads,) * 2,
    )


def golden_targets() -> Targets:
    file = golden("training")
    boxes, labels = np.full((2, 5, 4), 0.5, np.float32), np.zeros((2, 5), np.int32)
    for i in range(2):
        n = len(file[f"target{i}/labels"])
        boxes[i, :n], labels[i, :n] = file[f"target{i}/boxes"], file[f"target{i}/labels"]
    return Targets(boxes, labels, np.array([5, 2], np.int32))


def in_torch_layout(trained: dict, like: TrainState) -> dict[str, np.ndarray]:
    """Tensors of all parameters, by the reference's names; zero for what is not trained."""
    fixed = {name: np.zeros_like(leaf) for name, leaf in like.fixed.items()}
    params = unflatten({**fixed, **jax.device_get(trained)})
    return to_state_dict(
        RULES, {"params": params, "frozen": jax.tree.map(np.zeros_like, like.frozen)}
    )


@pytest.fixture(scope="module")
def six_steps():
    """States and metrics of the reference's recipe on the golden file's two images."""
    file, patch = golden("training"), pytest.MonkeyPatch()
    variables = to_variables(RULES, official_tensors("r50_c5"), variable_shapes(OFFICIAL))
    image = golden("images")["image0"]
    images = Images(np.stack([image] * 2), np.full((2, 2), image.shape[:2], np.int32))
    pixels = np.array(normalised(images).features)
    pixels[1] = pixels[1, :, ::-1] * np.float32(0.9) + np.float32(0.05)
    patch.setattr(model_file, "normalised", lambda i: FeatureMap(jnp.asarray(pixels), i.valid_hw))

    config = OptimizerConfig()
    groups = parameter_groups(flatten(variables["params"]), config)
    schedules = make_schedules(config, ScheduleConfig(), steps_per_epoch=10)
    optimizer = optax.chain(recorded(), make_optimizer(config, schedules, groups))
    step = make_train_step(make_model(OFFICIAL), optimizer, make_placement(), StepSettings())
    states = [start_state(variables, optimizer, groups)]
    metrics = []
    compiled = jax.jit(step)
    for _ in range(STEPS):
        state, measured = compiled(states[-1], images, golden_targets())
        states, metrics = [*states, state], [*metrics, jax.device_get(measured)]
    patch.undo()
    return file, states, metrics


def test_losses_are_the_references(six_steps):
    file, _, metrics = six_steps
    losses = np.array([m.losses.total for m in metrics])
    np.testing.assert_allclose(losses[:5], file["loss"][:5], rtol=2e-4)
    np.testing.assert_allclose(losses[5], file["loss"][5], rtol=2e-3)
    last = [[m.losses.classes[-1], m.losses.l1[-1], m.losses.giou[-1]] for m in metrics]
    np.testing.assert_allclose(last[0], file["last_layer_losses"][0], rtol=1e-5)


def test_gradients_are_the_references(six_steps):
    file, states, metrics = six_steps
    norms = [m.grad_norm for m in metrics]
    np.testing.assert_allclose(norms, file["global_grad_norm"], rtol=5e-3)
    gradients = in_torch_layout(states[1].optimizer[0], states[0])
    least = 1e-8 * file["global_grad_norm"][0]
    for name in file["trainable"]:
        expected = file[f"grad_norm/{name}"]
        if expected > least:
            assert np.linalg.norm(gradients[name]) == pytest.approx(expected, rel=5e-3), name
    for key in (key for key in file if key.startswith("grad/")):
        expected, actual = file[key], gradients[key.removeprefix("grad/")]
        np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())


def test_the_same_parameters_move_as_far(six_steps):
    file, states, _ = six_steps
    start = in_torch_layout(states[0].trained, states[0])
    end = in_torch_layout(states[-1].trained, states[0])
    moved = {name: np.linalg.norm(end[name] - start[name]) for name in end}
    copies = {name for rule in RULES for name in rule.torch[1:]}
    trained = {name for name, distance in moved.items() if distance > 0} - copies
    assert trained == set(file["trainable"]) - copies
    errors = []
    least = 1e-8 * file["global_grad_norm"][0]
    for name in file["trainable"]:
        if file[f"grad_norm/{name}"] > least:
            expected = file[f"update_norm/{name}"]
            errors.append(abs(moved[name] / expected - 1))
            assert errors[-1] < 3e-2, name
    assert np.median(errors) < 1e-3
