"""Rules for the parts that all families are made of."""

from __future__ import annotations

from anchor_detr_jax.conversion.state_dict import Layout, Rule

__all__ = ["MULTI_HEAD", "attention_rules", "convolution_rules", "linear_rules", "norm_rules"]

MULTI_HEAD = ("query", "key", "value")
"""What PyTorch stacks in a multi-head attention's `in_proj_weight`."""


def linear_rules(torch: str | tuple[str, ...], ours: str) -> list[Rule]:
    """A dense layer; `torch` may name copies of it."""
    copies = (torch,) if isinstance(torch, str) else torch
    return [
        Rule(tuple(f"{t}.weight" for t in copies), (f"params/{ours}/kernel",), Layout.LINEAR),
        Rule(tuple(f"{t}.bias" for t in copies), (f"params/{ours}/bias",)),
    ]


def convolution_rules(torch: str, ours: str) -> list[Rule]:
    """A convolution with a bias."""
    return [
        Rule((f"{torch}.weight",), (f"params/{ours}/kernel",), Layout.CONVOLUTION),
        Rule((f"{torch}.bias",), (f"params/{ours}/bias",)),
    ]


def norm_rules(torch: str, ours: str) -> list[Rule]:
    """A layer norm or a group norm."""
    return [
        Rule((f"{torch}.weight",), (f"params/{ours}/scale",)),
        Rule((f"{torch}.bias",), (f"params/{ours}/bias",)),
    ]


def attention_rules(torch: str, ours: str, blocks: tuple[str, ...] = MULTI_HEAD) -> list[Rule]:
    """The input projections, `blocks`, are stacked in one matrix there, and apart here."""
    kernels = tuple(f"params/{ours}/{block}/kernel" for block in blocks)
    biases = tuple(f"params/{ours}/{block}/bias" for block in blocks)
    return [
        Rule((f"{torch}.in_proj_weight",), kernels, Layout.LINEAR),
        Rule((f"{torch}.in_proj_bias",), biases),
        *linear_rules(f"{torch}.out_proj", f"{ours}/out"),
    ]
