"""Run by test_train_devices.py with eight simulated devices: one step in several ways.

python tests/steps_on_devices.py MODEL OUTPUT: gradients and losses of each way, to an npz file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import DATA, NARROW, golden, random_variables
from jax.sharding import Mesh
from PIL import Image

from anchor_detr_jax.data.batching import pad_images
from anchor_detr_jax.data.buckets import padded_to
from anchor_detr_jax.data.transforms import resize, resized_hw
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.structures import Images, Targets
from anchor_detr_jax.training.compiled import CompiledSteps, state_shapes
from anchor_detr_jax.training.config import OptimizerConfig
from anchor_detr_jax.training.optimizer import parameter_groups
from anchor_detr_jax.training.sharding import Placement
from anchor_detr_jax.training.state import start_state
from anchor_detr_jax.training.step import StepSettings, make_train_step
from anchor_detr_jax.variable_names import flatten

# Two layers of six, as eight simulated devices on few cores take minutes for all.
MODELS = {"narrow": NARROW, "r50_c5": AnchorDETRConfig(encoder_layers=2, decoder_layers=2)}
SHORT_SIDES = (96, 90, 80, 64, 100)
COUNTS = (3, 0, 1, 5, 2, 4, 1, 2)


def eight_pictures() -> list[np.ndarray]:
    """Pieces of photographs, and whole ones, all of different sizes."""
    pieces = list(golden("images").values())
    pieces = [piece[: 100 + 3 * i, : 130 - 20 * i] for i, piece in enumerate(pieces)]
    files = sorted((DATA / "coco/val2017").glob("*.jpg"))
    for file, side in zip(files, SHORT_SIDES, strict=True):
        picture = Image.open(file).convert("RGB")
        pieces.append(resize(picture, resized_hw((picture.height, picture.width), side, 400)))
    return pieces


def targets_for(classes: int) -> Targets:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0.2, 0.8, (8, 6, 2)), rng.uniform(0.05, 0.4, (8, 6, 2))], 2)
    labels = rng.integers(0, classes, (8, 6))
    return Targets(boxes.astype(np.float32), labels.astype(np.int32), np.array(COUNTS, np.int32))


def keep_gradients() -> optax.GradientTransformation:
    """The transformation that updates nothing and keeps the gradients."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, _, params: (jax.tree.map(jnp.zeros_like, grads), grads),
    )


def one_step(name, placement, images, targets, **settings):
    """Gradients by name, and the losses, of a step on a mesh."""
    config = MODELS[name]
    variables = random_variables(config, 0)
    groups = parameter_groups(flatten(variables["params"]), OptimizerConfig())
    optimizer = keep_gradients()
    shapes = state_shapes(
        jax.eval_shape(lambda v: start_state(v, optimizer, groups), variables), placement
    )
    state = jax.device_put(
        start_state(variables, optimizer, groups), jax.tree.map(lambda leaf: leaf.sharding, shapes)
    )
    step = make_train_step(make_model(config), optimizer, placement, StepSettings(**settings))
    done, metrics = CompiledSteps(step, placement, shapes, report=lambda _: None)(
        state, images, targets
    )
    cut = sum(not leaf.is_fully_replicated for leaf in jax.tree.leaves(done.optimizer))
    return jax.device_get(done.optimizer), jax.device_get(metrics), cut


def mesh(devices: int, fsdp: int = 1) -> Placement:
    return Placement(Mesh(np.array(jax.devices()[:devices]).reshape(-1, fsdp), ("data", "fsdp")))


def alone(name, pictures, targets) -> dict[str, np.ndarray]:
    """Unpadded, one by one: an eighth of all boxes as the divisor, the mean of eight gradients."""
    summed = {}
    for i, picture in enumerate(pictures):
        gradients, metrics, _ = one_step(
            name,
            mesh(1),
            Images(picture[None], np.array([picture.shape[:2]], np.int32)),
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], targets),
        )
        share = max(COUNTS[i], 1) / (sum(COUNTS) / 8) / 8
        found = {"total": metrics.losses.total}
        found |= {f"gradient/{key}": value for key, value in gradients.items()}
        for key, value in found.items():
            summed[f"alone/{key}"] = summed.get(f"alone/{key}", 0) + share * value
    return {key: np.asarray(value) for key, value in summed.items()}


def main(name: str, output: str) -> None:
    pictures, targets = eight_pictures(), targets_for(MODELS[name].num_classes)
    if name == "r50_c5":  # each size is a program that compiles for long
        pictures = [*pictures[:4], *(picture[:, ::-1] for picture in pictures[:4])]
    images = pad_images(pictures, padded_to(p.shape[:2] for p in pictures), 8)
    ways = {"one device": one_step(name, mesh(1), images, targets)}
    if name == "narrow":
        ways |= {
            "eight devices, cut parameters": one_step(name, mesh(8, fsdp=4), images, targets),
            "two parts on four devices": one_step(name, mesh(4), images, targets, accumulate=2),
        }
    else:
        ways["eight devices"] = one_step(name, mesh(8), images, targets)
    found = alone(name, pictures, targets) if name == "r50_c5" else {}
    for way, (gradients, metrics, cut) in ways.items():
        losses = metrics.losses
        found |= {f"{way}/gradient/{key}": value for key, value in gradients.items()}
        found[f"{way}/losses"] = np.concatenate([losses.classes, losses.l1, losses.giou])
        found[f"{way}/total"] = losses.total
        found[f"{way}/class_error"] = losses.class_error
        found[f"{way}/cut"] = np.array(cut)
    np.savez(output, model=name, sizes=[p.shape[:2] for p in pictures], **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
