"""Seeded weights: the same named arrays on any machine, with no weight file.

A golden file records what the reference model computes with these weights.  A test
rebuilds them from a key list and a seed, converts them exactly as a real checkpoint
would be converted, and compares.

The stream is numpy's legacy ``RandomState``, whose output numpy guarantees never to change.
"""

import re
import zlib

import numpy as np

_SHARED = re.compile(
    r"(class_embed|bbox_embed)\.\d+"
)  # heads that the reference ties across layers


def seeded_array(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The array called `name` in PyTorch's layout; float32, `shape`."""
    name = _SHARED.sub(r"\1.0", name)
    rng = np.random.RandomState((zlib.crc32(name.encode()) ^ (seed * 2654435761)) & 0xFFFFFFFF)
    normal, uniform = rng.standard_normal, rng.random_sample
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0] if shape else 1
    if name.endswith("running_var"):
        x = 0.5 + uniform(shape)
    elif name.endswith("running_mean"):
        x = 0.1 * normal(shape)
    elif re.search(r"^backbone\.0\.body\.layer3\.([6-9]|\d\d)\.bn3\.weight$", name):
        x = 0.05 + 0.1 * uniform(shape)  # ResNet-101: or its last 17 blocks add up to hundreds
    elif name.endswith(("bn3.weight", "downsample.1.weight")):
        x = 0.3 + 0.4 * uniform(shape)  # keeps the residual stream of a deep ResNet tame
    elif len(shape) == 1 and name.endswith("weight"):  # the scale of a norm
        x = 0.8 + 0.4 * uniform(shape)
    elif name.endswith("position.weight"):
        x = uniform(shape)
    elif name.endswith("class_embed.0.bias"):
        x = -2.0 + 0.5 * normal(shape)
    elif name.endswith("bbox_embed.0.layers.2.bias"):
        x = np.array([0.0, 0.0, -1.5, -1.5]) + 0.2 * normal(shape)
    elif name.endswith("class_embed.bias"):  # DETR, Conditional DETR, SMCA: one head, so no index
        x = -4.0 + 0.5 * normal(shape)
    elif name.endswith("bbox_embed.layers.2.bias"):
        x = np.array([0.0, 0.0, -1.5, -1.5]) + 0.2 * normal(shape)
    elif len(shape) == 1:
        x = 0.1 * normal(shape)
    elif name.endswith("input_proj.weight"):  # blind to the mean of C5, which is alike everywhere
        x = normal(shape)
        x = 0.25 / np.sqrt(fan_in) * (x - x.mean(1, keepdims=True))
    elif len(shape) == 4:
        x = np.sqrt(2.0 / fan_in) * normal(shape)
    elif name.endswith("in_proj_weight"):
        x = normal(shape) / np.sqrt(fan_in)
        x[: -shape[1]] *= 2.5  # queries and keys: attention sharp enough to show a wrong mask
    elif re.search(r"\.decoder\.layers\.\d+\.(multihead|cross)_attn\.out_proj\.weight$", name):
        x = 1.5 / np.sqrt(fan_in) * normal(shape)  # these queries differ only by what they look at
    elif name.endswith(("ca_kpos_proj.weight", "ca_qpos_sine_proj.weight")):
        x = 4.0 / np.sqrt(fan_in) * normal(shape)
    elif re.search(r"\.decoder\.layers\.\d+\.[sc]a_[qk]\w+_proj\.weight$", name):
        x = 2.5 / np.sqrt(fan_in) * normal(shape)  # Conditional DETR's in_proj, in pieces
    elif name.endswith(
        ("ref_point_head.layers.1.weight", "query_scale.layers.1.weight", "point1.layers.2.weight")
    ):
        x = 2.5 / np.sqrt(fan_in) * normal(shape)  # reference points all over the image
    elif name.endswith("class_embed.weight"):
        x = 2.0 / np.sqrt(fan_in) * normal(shape)
    elif name.endswith("bbox_embed.layers.2.weight"):
        x = 2.5 / np.sqrt(fan_in) * normal(shape)
    elif name.endswith("out_proj.weight"):
        x = 0.35 / np.sqrt(fan_in) * normal(shape)  # or 900 queries average to one
    elif name.endswith(("pattern.weight", "level_embed.weight", "query_embed.weight")):
        x = normal(shape)
    else:
        x = 1.0 / np.sqrt(fan_in) * normal(shape)
    return np.asarray(x, np.float32)


def seeded_state_dict(shapes: dict[str, list[int]], seed: int) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint, from its key list (`{name: shape}`)."""
    return {name: seeded_array(name, tuple(shape), seed) for name, shape in shapes.items()}
