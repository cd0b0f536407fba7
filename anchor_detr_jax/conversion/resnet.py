"""Names of a torchvision ResNet's tensors, and what their shapes tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.conversion.state_dict import ConversionError, Layout, Rule

__all__ = ["infer_resnet", "resnet_rules"]

_BATCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def infer_resnet(tensors: Mapping[str, np.ndarray], prefix: str, dilation: bool) -> ResNetConfig:
    """Shape of the ResNet whose tensors begin with `prefix`; dilation leaves no trace in them.

    Raises:
        ValueError: if there is none.
    """
    stem = tensors.get(f"{prefix}conv1.weight")
    pattern = re.compile(re.escape(prefix) + r"layer(\d)\.(\d+)\.conv3\.weight")
    found = {tuple(map(int, m.groups())) for m in map(pattern.fullmatch, tensors) if m}
    blocks = tuple(sum(stage == i for stage, _ in found) for i in (1, 2, 3, 4))
    if stem is None or stem.ndim != 4 or 0 in blocks:
        raise ValueError(
            f"it has no ResNet with bottleneck blocks under {prefix!r} (looked for "
            f"{prefix}conv1.weight and {prefix}layer1..4.*.conv3.weight)"
        )
    return ResNetConfig(blocks=blocks, width=stem.shape[0], dilation=dilation)


def resnet_rules(config: ResNetConfig, torch_prefix: str) -> list[Rule]:
    """The rules for `params/backbone` and `frozen/backbone`.

    Raises:
        ConversionError: for a backbone that the reference's layout cannot hold.
    """
    if (config.block, config.norm, config.stem_stride) != ("bottleneck", "frozen_batch", 4):
        raise ConversionError(
            f"PyTorch's layout has no place for a backbone with block={config.block!r}, "
            f"norm={config.norm!r} and stem_stride={config.stem_stride}; Detector.save keeps it"
        )
    rules = list(_layer(f"{torch_prefix}conv1", f"{torch_prefix}bn1", "backbone", "conv1", "bn1"))
    for stage, blocks in enumerate(config.blocks, start=1):
        for block in range(blocks):
            theirs = f"{torch_prefix}layer{stage}.{block}."
            ours = f"backbone/layer{stage}_{block}"
            for i in (1, 2, 3):
                rules += _layer(f"{theirs}conv{i}", f"{theirs}bn{i}", ours, f"conv{i}", f"bn{i}")
            if block == 0:
                names = (f"{theirs}downsample.0", f"{theirs}downsample.1")
                rules += _layer(*names, ours, "downsample_conv", "downsample_bn")
    return rules


def _layer(torch_conv: str, torch_norm: str, ours: str, conv: str, norm: str) -> Iterator[Rule]:
    """A convolution and its batch norm."""
    yield Rule((f"{torch_conv}.weight",), (f"params/{ours}/{conv}/kernel",), Layout.CONVOLUTION)
    for theirs, mine in _BATCH_NORM.items():
        yield Rule((f"{torch_norm}.{theirs}",), (f"frozen/{ours}/{norm}/{mine}",))
