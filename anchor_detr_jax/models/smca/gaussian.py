"""Where a query looks first: a Gaussian over the map for each head, added to the scores.

Source: Gao et al., section 3.2; SMCA-replication `models/transformer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import ScoreBias
from anchor_detr_jax.structures import pytree

__all__ = ["Gaussians", "gaussian_bias"]


@pytree
@dataclass(frozen=True)
class Gaussians:
    """The Gaussian of each query and head; x first. Unit: a cell of the map.

    A cell stands at its column and row, counted from 0.

    Attributes:
        centres: where it is highest.
        scales: factors of the squared distances in x, in y, and of the product of these.
    """

    centres: Float[Array, "b q n 2"]
    scales: Float[Array, "#b q n 3"]


def gaussian_bias(gaussians: Gaussians, map_hw: tuple[int, int]) -> ScoreBias:
    """What is added to the scores of all cells of a map."""
    return ScoreBias(_exponents, gaussians, _Cells(*map_hw))


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Cells:
    """Rows and columns of a map."""

    height: int
    width: int


def _exponents(gaussians: Gaussians, cells: _Cells) -> Float[Array, "b n k q"]:
    """Minus the scaled squared distances; rows and columns apart until the last sum."""
    centres, scales = (jnp.moveaxis(x, 1, -1) for x in (gaussians.centres, gaussians.scales))

    def squared(axis: int, length: int) -> Float[Array, "b n length q"]:
        return (jnp.arange(length)[:, None] - centres[:, :, axis, None]) ** 2

    x, y = squared(0, cells.width)[:, :, None], squared(1, cells.height)[:, :, :, None]
    along_x, along_y, both = (scales[:, :, i, None, None] for i in range(3))
    exponents = -(along_x * x + along_y * y + both * x * y)
    b, n, h, w, q = exponents.shape
    return exponents.reshape(b, n, h * w, q)
