"""What logits say of classes: probabilities, costs of matching and losses, of both kinds of logits.

A sigmoid for each column, trained by focal loss (Anchor DETR, Conditional DETR, SMCA), or a softmax
over all, the last of which is "no object" (DETR): `Outputs.no_object` says which.

Source: `SetCriterion` and `HungarianMatcher` of AnchorDETR and DETR.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from anchor_detr_jax.structures import Outputs

__all__ = ["class_costs", "class_losses", "class_weight", "log_probabilities"]


def log_probabilities(outputs: Outputs) -> Float[Array, "l b q c"]:
    """Logarithms of the probabilities of all columns, "no object" included."""
    if outputs.no_object:
        return jax.nn.log_softmax(outputs.logits, axis=-1)
    return jax.nn.log_sigmoid(outputs.logits)


def class_weight(outputs: Outputs) -> float:
    """How much the class counts beside 5 x L1 and 2 x GIoU, in matching and (unsaid) losses."""
    return 1.0 if outputs.no_object else 2.0


def class_costs(outputs: Outputs, labels: Int[Array, "b n"]) -> Float[Array, "l b n q"]:
    """What it costs to give each target to each query, by the class alone; without the weight."""
    if outputs.no_object:
        costs = -jax.nn.softmax(outputs.logits, axis=-1)
    else:
        p = jax.nn.sigmoid(outputs.logits)
        positive = 0.25 * (1 - p) ** 2 * -jnp.log(p + 1e-8)
        negative = 0.75 * p**2 * -jnp.log(1 - p + 1e-8)
        costs = positive - negative
    return jnp.take_along_axis(costs, labels[None, :, None, :], axis=-1).swapaxes(2, 3)


def class_losses(
    outputs: Outputs,
    labels: Int[Array, "b n"],
    matches: Int[Array, "l b n"],
    *,
    real: Bool[Array, "b n"],
    counting: Bool[Array, " b"],
    no_object: float,
) -> Float[Array, " l"]:
    """The loss of all queries and columns of each layer, summed over the images.

    No array of targets over queries and columns is made: first everything counts as background, and
    then each match's one class is set right.

    Args:
        outputs: of the model.
        labels: of the targets, padded.
        matches: a query for each target.
        real: False on padding.
        counting: False for images that have no loss.
        no_object: weight of queries without a target, where there is that column.
    """
    of_match = jnp.take_along_axis(outputs.logits, matches[..., None], axis=2)
    columns = jnp.broadcast_to(labels, matches.shape)[..., None]
    if outputs.no_object:
        logits, of_match = (jax.nn.log_softmax(x, axis=-1) for x in (outputs.logits, of_match))
        background = -no_object * logits[..., -1]
        right = -jnp.take_along_axis(of_match, columns, axis=-1)[..., 0]
        change = right + no_object * of_match[..., -1]
    else:
        background = _focal(outputs.logits, 0.0).sum(-1)
        logit = jnp.take_along_axis(of_match, columns, axis=-1)[..., 0]
        change = _focal(logit, 1.0) - _focal(logit, 0.0)
    everywhere = jnp.sum(background, axis=(1, 2), where=counting[:, None])
    return everywhere + jnp.sum(change, axis=(1, 2), where=real)


def _focal(logits: Float[Array, ...], label: float) -> Float[Array, ...]:
    labels = jnp.full_like(logits, label)
    return optax.losses.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0)
