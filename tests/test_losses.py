"""The losses: the reference's numbers and gradients, and nothing from padding."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import golden
from test_matcher import random_problem

from anchor_detr_jax.boxes import generalized_iou
from anchor_detr_jax.losses import LossWeights, detection_losses
from anchor_detr_jax.matcher import match
from anchor_detr_jax.structures import Outputs, Targets


@pytest.fixture(params=["carried", "whole"])
def criterion(request):
    """The golden file: two layers of it are carried, all six lie beside the project."""
    if request.param == "carried":
        return golden("criterion")
    shared = request.getfixturevalue("shared")
    with np.load(shared / "golden/anchor_detr/criterion.npz") as file:
        return dict(file)


def as_batch(file) -> tuple[list[int], Outputs, Targets]:
    """The layers that a golden file has, their outputs, and the targets."""
    layers = [i for i in range(6) if f"layer{i}/logits" in file]
    counts = file["num_targets"]
    boxes = np.zeros((len(counts), counts.max(), 4), np.float32)
    labels = np.zeros(boxes.shape[:2], np.int32)
    for i, count in enumerate(counts):
        boxes[i, :count], labels[i, :count] = file[f"target{i}/boxes"], file[f"target{i}/labels"]
    outputs = Outputs(
        *(jnp.stack([file[f"layer{i}/{name}"] for i in layers]) for name in ("logits", "boxes"))
    )
    count = jnp.asarray(counts, jnp.int32)
    return layers, outputs, Targets(jnp.asarray(boxes), jnp.asarray(labels), count)


def test_matches_losses_and_gradients_are_the_references(criterion):
    layers, outputs, targets = as_batch(criterion)

    def objective(outputs):
        matches = match(outputs, targets)
        losses = detection_losses(outputs, targets, matches)
        return losses.total, (losses, matches)

    (total, (losses, matches)), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(
        outputs
    )
    for row, layer in enumerate(layers):
        for image, count in enumerate(criterion["num_targets"]):
            ours = {(int(q), n) for n, q in enumerate(matches[row, image, :count])}
            assert ours == set(map(tuple, criterion[f"layer{layer}/match{image}"].T.tolist()))
        suffix = "" if layer == 5 else f"_{layer}"
        for name, value in {"ce": losses.classes, "bbox": losses.l1, "giou": losses.giou}.items():
            expected = criterion[f"loss/loss_{name}{suffix}"]
            np.testing.assert_allclose(value[row], expected, rtol=1e-5)
        for ours, name in [
            (gradient.logits[row][:, ::4], "grad_logits"),
            (gradient.boxes[row], "grad_boxes"),
        ]:
            expected = criterion[f"layer{layer}/{name}"]
            np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(losses.class_error, criterion["loss/class_error"], rtol=1e-6)
    if "total" in criterion:
        np.testing.assert_allclose(total, criterion["total"], rtol=1e-5)


@partial(jax.jit, static_argnames="weights")
def losses_of(outputs, targets, weights=LossWeights()):  # noqa: B008 - frozen
    return detection_losses(outputs, targets, match(outputs, targets), weights=weights)


@jax.jit
def total_and_gradient(outputs, targets):
    return jax.value_and_grad(lambda o: losses_of(o, targets).total)(outputs)


def test_padding_adds_nothing():
    outputs, targets = random_problem(0, [3, 0, 5], 20)
    wide = Targets(
        boxes=jnp.pad(targets.boxes, ((0, 0), (0, 6), (0, 0)), constant_values=jnp.nan),
        labels=jnp.pad(targets.labels, ((0, 0), (0, 6))),
        count=targets.count,
    )
    value, gradient = total_and_gradient(outputs, targets)
    padded, padded_gradient = total_and_gradient(outputs, wide)
    np.testing.assert_allclose(padded, value, rtol=1e-6)
    np.testing.assert_allclose(padded_gradient.boxes, gradient.boxes, atol=1e-6)
    assert np.isfinite(padded_gradient.logits).all()


def test_a_batch_is_the_mean_of_its_images_by_targets():
    """Images alone, each divided by all targets of the batch: the sum is the batch's loss."""
    outputs, targets = random_problem(1, [3, 1, 5], 20)
    whole = losses_of(outputs, targets)
    parts = [
        losses_of(
            jax.tree.map(lambda x, i=i: x[:, i : i + 1], outputs),
            jax.tree.map(lambda x, i=i: x[i : i + 1], targets),
        )
        for i in range(3)
    ]
    total = sum(part.total * count for part, count in zip(parts, [3, 1, 5], strict=True)) / 9
    np.testing.assert_allclose(whole.total, total, rtol=1e-6)


def test_no_targets_at_all():
    outputs, targets = random_problem(0, [0, 0], 20)
    losses = losses_of(outputs, targets)
    assert float(losses.l1.sum()) == float(losses.giou.sum()) == float(losses.class_error) == 0
    p = 1 / (1 + np.exp(-np.asarray(outputs.logits, np.float64)))
    expected = (0.75 * p**2 * -np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(losses.classes, expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_is_seen():
    outputs, targets = random_problem(0, [3], 20)
    broken = dataclasses.replace(outputs, logits=outputs.logits.at[0, 0, 0, 0].set(jnp.nan))
    assert not np.isfinite(losses_of(broken, targets).total)


def test_weights_of_the_parts():
    outputs, targets = random_problem(0, [3], 20)
    only_l1 = losses_of(outputs, targets, weights=LossWeights(classes=0.0, l1=1.0, giou=0.0))
    np.testing.assert_allclose(only_l1.total, only_l1.l1.sum(), rtol=1e-6)


def test_generalized_iou_by_hand():
    box = jnp.array([0.0, 0.0, 2.0, 2.0])
    others = jnp.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4], [4, 0, 6, 2], [0.0, 0, 0, 0]])
    expected = [1, 2 / 6, -0.5, 8 / 12 - 1, 0]
    np.testing.assert_allclose(generalized_iou(box[None], others), expected, atol=1e-6)
    point = jnp.zeros((1, 4))
    assert float(generalized_iou(point, point)[0]) == -1.0
