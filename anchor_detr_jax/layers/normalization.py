"""Norms that know of padding or that never learn."""

from __future__ import annotations

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.padding import valid_mask

__all__ = ["FrozenBatchNorm", "MaskedGroupNorm", "layer_norm", "scale_and_shift"]


class FrozenBatchNorm(nn.Module):
    """Batch norm as a fixed scale and shift; its four vectors live in the collection `frozen`.

    Source: torchvision `FrozenBatchNorm2d`.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        starts = {"scale": jnp.ones, "bias": jnp.zeros, "mean": jnp.zeros, "var": jnp.ones}
        scale, shift = scale_and_shift(
            {
                name: self.variable("frozen", name, start, (x.shape[-1],)).value
                for name, start in starts.items()
            }
        )
        return x * scale.astype(x.dtype) + shift.astype(x.dtype)


def scale_and_shift(
    batch_norm: Mapping[str, Float[Array, " d"]], epsilon: float = 1e-5
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """What a frozen batch norm of `scale`, `bias`, `mean` and `var` does: x * scale + shift."""
    scale = batch_norm["scale"] * jax.lax.rsqrt(batch_norm["var"] + epsilon)
    return scale, batch_norm["bias"] - batch_norm["mean"] * scale


class MaskedGroupNorm(nn.Module):
    """Group norm whose statistics are taken over real positions only, in float32."""

    groups: int = 32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w d"], valid_hw: Int[Array, "b 2"]
    ) -> Float[Array, "b h w d"]:
        b, h, w, d = x.shape
        scale = self.param("scale", nn.initializers.ones, (d,))
        bias = self.param("bias", nn.initializers.zeros, (d,))
        grouped = x.astype(jnp.float32).reshape(b, h, w, self.groups, d // self.groups)
        real = valid_mask(valid_hw, (h, w))[..., None, None]
        count = (valid_hw[:, 0] * valid_hw[:, 1] * (d // self.groups))[:, None, None, None, None]

        def mean_over_real(values):
            total = jnp.sum(values, axis=(1, 2, 4), keepdims=True, where=real)
            return total / count

        centred = grouped - mean_over_real(grouped)
        normal = centred * jax.lax.rsqrt(mean_over_real(centred**2) + self.epsilon)
        return (normal.reshape(b, h, w, d) * scale + bias).astype(x.dtype)


def layer_norm(dtype: Dtype | None, *, name: str | None = None) -> nn.LayerNorm:
    """Layer norm as PyTorch has it: epsilon 1e-5, the variance in two passes."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)
