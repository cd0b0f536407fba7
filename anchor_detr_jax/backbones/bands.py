"""A map's rows a band at a time, so that only one band's intermediates are in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.padding import FeatureMap, downsampled
from anchor_detr_jax.layers.waiting import zero_after

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
    features: int,
    dtype: Dtype,
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
        features: of what comes out.
        dtype: likewise.
    """
    b, height, width, _ = x.features.shape
    bands = -(-height // rows)
    rows, reach = (-(-length // stride) * stride for length in (-(-height // bands), reach))
    window = rows + 2 * reach
    if window >= height:
        return stages(module, x)
    filled = jnp.pad(x.features, ((0, 0), (0, bands * rows - height), (0, 0), (0, 0)))

    def add_band(module: M, whole: Float[Array, "b i j d"], band: Int[Array, ""]):
        # The outermost bands end where the map does, so that its borders are their own.
        start = jnp.clip(band * rows - reach, 0, bands * rows - window)
        cut = jax.lax.dynamic_slice_in_dim(filled, start, window, axis=1)
        valid_hw = x.valid_hw - jnp.stack([start, jnp.zeros_like(start)])
        y = stages(module, FeatureMap(cut, valid_hw)).features
        first = (band * rows - start) // stride
        own = jax.lax.dynamic_slice_in_dim(y, first, rows // stride, axis=1)
        place = band * (rows // stride)
        return jax.lax.dynamic_update_slice_in_dim(whole, own, place, axis=1), None

    # Flax's own scan: a plain one may not reach for a module's parameters.
    scan = nn.scan(add_band, variable_broadcast=True, split_rngs={})
    shape = (b, bands * rows // stride, -(-width // stride), features)
    # Space that waits for nothing is taken when the program starts.
    space = jnp.full(shape, zero_after(x.features), dtype)
    whole, _ = scan(module, space, jnp.arange(bands))
    return FeatureMap(whole[:, : -(-height // stride)], downsampled(x, stride))
