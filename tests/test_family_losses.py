"""The sister models' losses: the references' matches, numbers and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import MAIN, family_golden
from test_losses import as_batch

from anchor_detr_jax.losses import LossWeights, batch_counts, detection_losses
from anchor_detr_jax.matcher import match
from anchor_detr_jax.structures import Outputs, Targets

FAMILIES = list(MAIN)


def read(family: str) -> tuple[dict[str, np.ndarray], Outputs, Targets]:
    file = family_golden(family, "criterion")
    _, outputs, targets = as_batch(file)
    return file, dataclasses.replace(outputs, no_object=family == "detr"), targets


@jax.jit
def measured(outputs, targets):
    def objective(outputs):
        matches = match(outputs, targets)
        losses = detection_losses(outputs, targets, matches)
        return losses.total, (losses, matches)

    return jax.value_and_grad(objective, has_aux=True)(outputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_matches_losses_and_gradients_are_the_references(family):
    file, outputs, targets = read(family)
    (total, (losses, matches)), gradient = measured(outputs, targets)
    for layer in range(6):
        for image, count in enumerate(file["num_targets"]):
            ours = {(int(q), n) for n, q in enumerate(matches[layer, image, :count])}
            assert ours == set(map(tuple, file[f"layer{layer}/match{image}"].T.tolist()))
        suffix = "" if layer == 5 else f"_{layer}"
        parts = {"loss_ce": losses.classes, "loss_bbox": losses.l1, "loss_giou": losses.giou}
        if family == "detr":
            parts["cardinality_error"] = losses.cardinality_error
        for name, value in parts.items():
            np.testing.assert_allclose(value[layer], file[f"loss/{name}{suffix}"], rtol=1e-5)
    for layer in (0, 5):
        for ours, name in [
            (gradient.logits[layer][:, ::4], "grad_logits"),
            (gradient.boxes[layer], "grad_boxes"),
        ]:
            expected = file[f"layer{layer}/{name}"]
            np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(losses.class_error, file["loss/class_error"], rtol=1e-6)
    np.testing.assert_allclose(total, file["total"], rtol=1e-5)
    assert (losses.cardinality_error is None) == (family != "detr")


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_without_targets(family):
    file, outputs, targets = read(family)
    one = jax.tree.map(lambda x: x[:, 1:2], outputs)
    (total, (losses, _)), gradient = measured(one, jax.tree.map(lambda x: x[1:2], targets))
    np.testing.assert_allclose(losses.classes[-1], file["empty/loss/loss_ce"], rtol=1e-5)
    np.testing.assert_allclose(total, file["empty/total"], rtol=1e-5)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


@jax.jit
def matched_losses(outputs, targets, whole):
    return detection_losses(outputs, targets, match(outputs, targets), whole=whole)


@pytest.mark.parametrize("family", ["detr", "smca"])
def test_parts_of_a_batch_add_up_and_fillers_count_nothing(family):
    """Cut into images, with one that only fills up; each part is given the whole's counts."""
    _, outputs, targets = read(family)
    outputs = jax.tree.map(lambda x: x[::5], outputs)  # two layers of six
    expected = matched_losses(outputs, targets, None)

    def with_filler(x, axis):
        return np.concatenate([x, np.take(x, [0], axis=axis)], axis=axis)

    outputs = jax.tree.map(lambda x: with_filler(x, 1), outputs)
    targets = Targets(
        with_filler(targets.boxes, 0),
        with_filler(targets.labels, 0),
        np.append(targets.count, 0),
        np.arange(5) < 4,
    )
    counts, parts = batch_counts(targets), []
    for i in range(5):
        part = jax.tree.map(lambda x, i=i: x[:, i : i + 1], outputs)
        of_part = jax.tree.map(lambda x, i=i: x[i : i + 1], targets)
        parts.append(matched_losses(part, of_part, counts))
    together = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    for ours, theirs in zip(jax.tree.leaves(together), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5)


def test_no_object_weighs_what_it_is_told():
    """By the plain mean of weighted cross entropies."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 1, 4, 3)).astype(np.float32)
    boxes = rng.uniform(0.3, 0.6, (1, 1, 4, 4)).astype(np.float32)
    outputs = Outputs(jnp.asarray(logits), jnp.asarray(boxes), no_object=True)
    targets = Targets(jnp.asarray(boxes[0, :, 2:3]), jnp.array([[1]]), jnp.array([1]))
    losses = detection_losses(
        outputs, targets, jnp.array([[[2]]]), weights=LossWeights(classes=3.0, no_object=0.4)
    )
    log_p = logits[0, 0] - np.log(np.exp(logits[0, 0]).sum(-1, keepdims=True))
    wanted, share = np.array([2, 2, 1, 2]), np.array([0.4, 0.4, 1.0, 0.4])
    expected = -(share * log_p[np.arange(4), wanted]).sum() / share.sum()
    np.testing.assert_allclose(losses.classes[0], expected, rtol=1e-6)
    np.testing.assert_allclose(losses.total, 3 * expected, rtol=1e-5, atol=1e-5)
