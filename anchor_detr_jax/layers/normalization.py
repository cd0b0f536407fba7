"""Norms that know of padding or that never learn."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from anchor_detr_jax.layers.padding import valid_mask

__all__ = ["FrozenBatchNorm", "MaskedGroupNorm", "layer_norm"]


class FrozenBatchNorm(nn.Module):
    """Batch norm as a fixed scale and shift; its four vectors live in the collection `frozen`.

    Source: torchvision `FrozenBatchNorm2d`.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        shape = (x.shape[-1],)
        scale = self.variable("frozen", "scale", jnp.ones, shape).value
        bias = self.variable("frozen", "bias", jnp.zeros, shape).value
        mean = self.variable("frozen", "mean", jnp.zeros, shape).value
        var = self.variable("frozen", "var", jnp.ones, shape).value
        scale = scale * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * scale
        return x * scale.astype(x.dtype) + shift.astype(x.dtype)


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


def layer_norm(name: str, dtype: Dtype | None) -> nn.LayerNorm:
    """Layer norm as PyTorch has it: epsilon 1e-5, the variance in two passes."""
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name)
