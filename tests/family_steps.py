"""Run by test_family_training.py: steps of a sister model by its reference's recipe.

python tests/family_steps.py FAMILY {float32,float64} STEPS OUTPUT: losses, gradients and how far
parameters moved, under the reference's names, to an npz file.

In float64, what the model says is float32 is float64, too. Only so can several steps be compared:
six layers, and AdamW's first steps, which see little of a gradient but its sign, make roundings
large.
"""

# ruff: noqa: E402 - what comes first decides what the rest computes in
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp

if sys.argv[2] == "float64":
    jax.config.update("jax_enable_x64", True)
    jnp.float32 = jnp.float64

import jaxtyping

jaxtyping.install_import_hook = lambda *_: None  # annotations speak of float32

import numpy as np
import optax
from conftest import golden
from families import MAIN, family_golden, official_model

from anchor_detr_jax.conversion.state_dict import to_state_dict
from anchor_detr_jax.layers.padding import FeatureMap
from anchor_detr_jax.models import forward
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.config import OptimizerConfig, ScheduleConfig
from anchor_detr_jax.training.optimizer import make_optimizer, make_schedules, parameter_groups
from anchor_detr_jax.training.sharding import make_placement
from anchor_detr_jax.training.state import start_state
from anchor_detr_jax.training.step import StepSettings, make_train_step
from anchor_detr_jax.variable_names import flatten, unflatten


def golden_targets(file) -> Targets:
    boxes, labels = np.full((2, 5, 4), 0.5, np.float32), np.zeros((2, 5), np.int32)
    for i in range(2):
        n = len(file[f"target{i}/labels"])
        boxes[i, :n], labels[i, :n] = file[f"target{i}/boxes"], file[f"target{i}/labels"]
    return Targets(boxes, labels, np.array([5, 2], np.int32))


def golden_images(dtype) -> tuple[Images, FeatureMap]:
    """Two images, and them normalised: one, and one that is flipped and faded after that."""
    image = golden("images")["image0"]
    sizes = np.full((2, 2), image.shape[:2], np.int32)
    pixels = (image.astype(dtype) / 255 - np.asarray(IMAGENET_MEAN, dtype)) / np.asarray(
        IMAGENET_STD, dtype
    )
    pixels = np.stack([pixels, pixels[:, ::-1] * dtype(0.9) + dtype(0.05)])
    return Images(np.stack([image] * 2), sizes), FeatureMap(jnp.asarray(pixels), jnp.asarray(sizes))


def recorded() -> optax.GradientTransformation:
    """Passes gradients through, and keeps the last ones."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, state, params: (grads,) * 2,
    )


def main(family: str, precision: str, steps: int, output: Path) -> None:
    file, dtype = family_golden(family, "training"), np.dtype(precision).type
    layout, config, variables = official_model(family, MAIN[family], int(file["seed"]))
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), variables)
    images, normalised = golden_images(dtype)
    forward.normalised = lambda _: normalised

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
    for _ in range(steps):
        state, measured = compiled(states[-1], images, golden_targets(file))
        states, metrics = [*states, state], [*metrics, jax.device_get(measured)]
    gradients = in_torch_layout(states[1].optimizer[0])
    start, end = in_torch_layout(first.trained), in_torch_layout(states[-1].trained)
    found = {f"grad_norm/{name}": np.linalg.norm(leaf) for name, leaf in gradients.items()}
    found |= {key: gradients[key.removeprefix("grad/")] for key in file if key.startswith("grad/")}
    found |= {f"update_norm/{name}": np.linalg.norm(end[name] - start[name]) for name in end}
    last = [(m.losses.classes[-1], m.losses.l1[-1], m.losses.giou[-1]) for m in metrics]
    np.savez(
        output,
        loss=np.array([m.losses.total for m in metrics]),
        global_grad_norm=np.array([m.grad_norm for m in metrics]),
        last_layer_losses=np.array(last),
        **found,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
