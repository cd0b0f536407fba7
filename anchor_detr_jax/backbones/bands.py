"""A map's rows a band at a time, so that only one band's intermediates are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.padding import FeatureMap, downsampled

__all__ = ["in_bands"]

M = TypeVar("M", bound=nn.Module)


def in_bands(
    stages: Callable[[M, FeatureMap], FeatureMap],
    module: M,
    x: FeatureMap,
    *,
    rows: int,
    stride: int,
    reach: int,
) -> FeatureMap:
    """What `stages` makes of a map, computed in bands of its rows, one after another.

    Each band is cut out with `reach` rows more above and below, and these are dropped again from
    what comes out: there alone the band's own borders are felt. The result is that of the whole.

    Args:
        stages: convolutions, pooling, and what acts on one position; zeros in the padding.
        module: whose parameters they use.
        x: the map.
        rows: the most of a band.
        stride: of `stages` as a whole.
        reach: how many rows above and below a row of `x` say what comes of it.
    """
    height = x.features.shape[1]
    bands = -(-height // rows)
    rows, reach = (-(-length // stride) * stride for length in (-(-height // bands), reach))
    window = rows + 2 * reach
    if window >= height:
        return stages(module, x)
    features = jnp.pad(x.features, ((0, 0), (0, bands * rows - height), (0, 0), (0, 0)))

    def one(module: M, _: None, band: Int[Array, ""]) -> tuple[None, Float[Array, ...]]:
        # The outermost bands end where the map does, so that its borders are their own.
        start = jnp.clip(band * rows - reach, 0, bands * rows - window)
        cut = jax.lax.dynamic_slice_in_dim(features, start, window, axis=1)
        valid_hw = x.valid_hw - jnp.stack([start, jnp.zeros_like(start)])
        y = stages(module, FeatureMap(cut, valid_hw)).features
        first = (band * rows - start) // stride
        return None, jax.lax.dynamic_slice_in_dim(y, first, rows // stride, axis=1)

    # Flax's own scan: a plain one may not reach for a module's parameters.
    scan = nn.scan(one, variable_broadcast=True, split_rngs={})
    _, stacked = scan(module, None, jnp.arange(bands))
    stacked = jnp.moveaxis(stacked, 0, 1)
    b, _, _, *rest = stacked.shape
    whole = stacked.reshape(b, bands * rows // stride, *rest)
    return FeatureMap(whole[:, : -(-height // stride)], downsampled(x.valid_hw, stride))
