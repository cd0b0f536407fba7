"""Where a query looked: the weights of the decoder's attention over the image.

Axes: L decoder layers, S feature levels, N heads, Q queries, H rows and W columns of a map, D
features of one head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from anchor_detr_jax.layers.attention import attention_weights
from anchor_detr_jax.layers.padding import valid_mask
from anchor_detr_jax.models.smca.gaussian import Gaussians, gaussian_bias
from anchor_detr_jax.structures import pytree

__all__ = [
    "AttentionMaps",
    "GaussianMaps",
    "PlainLooks",
    "RcdaLooks",
    "gaussian_maps",
    "noted",
    "noted_looks",
]


@dataclass(frozen=True)
class AttentionMaps:
    """Where one query looked, in each decoder layer, with each head; host arrays.

    A map's cells beyond `valid_hw` are padding, and all weights there are exactly 0.

    Attributes:
        row: attention along a row, which says where from left to right; adds to 1 over W. Of
            plain attention, which has none: the sum of `product` over the rows.
        column: attention along a column, which says where from top to bottom; adds to 1 over H.
            Of plain attention: the sum of `product` over the columns.
        product: what each cell of the map counted; adds to 1 over the map. Under RCDA it is column
            weight times row weight.
        valid_hw: rows and columns of the map that show the picture; they span all of it.
    """

    row: Float[np.ndarray, "l n w"]
    column: Float[np.ndarray, "l n h"]
    product: Float[np.ndarray, "l n h w"]
    valid_hw: tuple[int, int]

    @property
    def without_padding(self) -> AttentionMaps:
        """The same, with nothing but the cells that show the picture."""
        h, w = self.valid_hw
        return AttentionMaps(
            row=self.row[..., :w],
            column=self.column[..., :h],
            product=self.product[..., :h, :w],
            valid_hw=self.valid_hw,
        )

    def of(self, layer: int, head: int | None) -> AttentionMaps:
        """One layer and one head, or the mean over the heads; L and N are 1.

        The sums of the mean product over rows and columns are the mean row and column attention.
        """
        one = [x[layer][None] for x in (self.row, self.column, self.product)]
        one = [x.mean(1, keepdims=True) if head is None else x[:, head][:, None] for x in one]
        return AttentionMaps(*one, valid_hw=self.valid_hw)


@pytree
@dataclass(frozen=True)
class RcdaLooks:
    """Row and column weights of all queries on one image."""

    row: Float[Array | np.ndarray, "l s n q w"]
    column: Float[Array | np.ndarray, "l s n q h"]

    @property
    def levels(self) -> int:
        """Feature levels that were looked at."""
        return self.row.shape[1]

    def maps(self, query: int, level: int, valid_hw: tuple[int, int]) -> AttentionMaps:
        """What one query looked at on one level."""
        row = np.asarray(self.row[:, level, :, query], np.float32)
        column = np.asarray(self.column[:, level, :, query], np.float32)
        product = column[..., :, None] * row[..., None, :]
        return AttentionMaps(row, column, product, valid_hw)


@pytree
@dataclass(frozen=True)
class PlainLooks:
    """Projected queries and keys of plain attention on one image.

    The weights of all queries over all cells would be large; those of one query are not.

    Attributes:
        query: of each query and head.
        key: of each cell and head.
        gaussians: what is added to the scaled products; a layer stands where a batch has an image.
    """

    query: Float[Array | np.ndarray, "l s q n d"]
    key: Float[Array | np.ndarray, "l s h w n d"]
    gaussians: Gaussians | None = None

    @property
    def levels(self) -> int:
        """Feature levels that were looked at."""
        return self.key.shape[1]

    def maps(self, query: int, level: int, valid_hw: tuple[int, int]) -> AttentionMaps:
        """What one query looked at on one level."""
        layers, _, h, w, _, _ = self.key.shape
        keys = jnp.asarray(self.key[:, level]).reshape(layers, h * w, *self.key.shape[-2:])
        real = valid_mask(jnp.array([valid_hw]), (h, w)).reshape(1, h * w)
        one = jnp.asarray(self.query[:, level, query : query + 1])
        gaussians = jax.tree.map(lambda x: jnp.asarray(x[:, query : query + 1]), self.gaussians)
        bias = None if gaussians is None else gaussian_bias(gaussians, (h, w))
        weights = np.asarray(attention_weights(one, keys, real, bias=bias), np.float32)
        product = weights.reshape(layers, -1, h, w)
        return AttentionMaps(product.sum(-2), product.sum(-1), product, valid_hw)


@dataclass(frozen=True)
class GaussianMaps:
    """What multiplied the weights of one query before they were made to add to 1; host arrays.

    Attributes:
        factors: at each cell that shows the picture, in [0, 1]; 1 everywhere without a Gaussian.
        centres: (x, y) of the Gaussians, in cells of the map, whose first has its middle at 0.
        scales: factors of the squared distances in x, in y, and of the product of these; 0
            without a Gaussian.
    """

    factors: Float[np.ndarray, "l n h w"]
    centres: Float[np.ndarray, "l n 2"]
    scales: Float[np.ndarray, "l n 3"]


def gaussian_maps(gaussians: Gaussians, query: int, map_hw: tuple[int, int]) -> GaussianMaps:
    """Those of one query, in each layer and head, over a map of this size."""
    one = jax.tree.map(lambda x: jnp.asarray(x[:, query : query + 1]), gaussians)
    exponents = np.asarray(gaussian_bias(one, map_hw)())
    factors = np.exp(exponents).reshape(*exponents.shape[:2], *map_hw)
    return GaussianMaps(factors, np.asarray(one.centres[:, 0]), np.asarray(one.scales[:, 0]))


def noted(module: Any, method: str) -> bool:
    """For `capture_intermediates`: the projections from which plain attention's weights follow.

    What is no module's result is noted by the models themselves: the weights of RCDA, what
    Conditional DETR compares, and SMCA's Gaussians.
    """
    return module.name in ("query", "key") and method == "__call__"


def noted_looks(
    intermediates: Mapping[str, Any], *, layers: int, heads: int, map_hw: tuple[int, int]
) -> RcdaLooks | PlainLooks:
    """What the decoder noted on one image.

    Args:
        intermediates: the model's collection of this name, for a batch of one image.
        layers: of the decoder.
        heads: of its attention.
        map_hw: size of the map, padding included.
    """
    decoder = [intermediates[f"decoder_{i}"] for i in range(layers)]
    looks = [layer["cross_attn"] for layer in decoder]
    if "row_weights" in looks[0]:
        return RcdaLooks(
            row=jnp.stack([_note(look, "row_weights") for look in looks]),
            column=jnp.stack([_note(look, "column_weights") for look in looks]),
        )
    key = jnp.stack([_note(look, "key") for look in looks])
    levels = key.shape[1]
    # Before its first look at an image, there is one set of queries for all levels.
    queries = [_note(look, "query") for look in looks]
    query = jnp.stack([jnp.broadcast_to(x, (levels, *x.shape[1:])) for x in queries])
    gaussians = None
    if "gaussians" in decoder[0]:
        notes = [_note(layer, "gaussians") for layer in decoder]
        gaussians = jax.tree.map(lambda *x: jnp.concatenate(x), *notes)
    return PlainLooks(
        query=query.reshape(*query.shape[:3], heads, -1),
        key=key.reshape(*key.shape[:2], *map_hw, heads, -1),
        gaussians=gaussians,
    )


def _note(notes: Mapping[str, Any], name: str) -> Any:
    """What was noted by this name: by a module of its own, or inside of one."""
    note = notes[name]
    return (note["__call__"] if isinstance(note, Mapping) else note)[0]
