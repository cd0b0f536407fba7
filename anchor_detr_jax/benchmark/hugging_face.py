"""Hugging Face's DETR and Conditional DETR with ResNet-50-C5, untrained: nothing is downloaded.

Each function is what `--against module:function` asks for: called with a configuration's name, it
returns a model, or a training step. The name is not looked at.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["conditional_detr", "conditional_detr_step", "detr", "detr_step"]

_CLASSES = 91
_LR, _BACKBONE_LR, _WEIGHT_DECAY, _CLIP = 1e-4, 1e-5, 1e-4, 0.1
"""The recipe that all of these models share."""


def detr(name: str) -> Any:
    """DETR's module."""
    del name
    return _model("Detr")


def conditional_detr(name: str) -> Any:
    """Conditional DETR's module."""
    del name
    return _model("ConditionalDetr")


def detr_step(name: str) -> Callable[[Any, Any], float]:
    """A training step of DETR."""
    return _step(detr(name))


def conditional_detr_step(name: str) -> Callable[[Any, Any], float]:
    """A training step of Conditional DETR."""
    return _step(conditional_detr(name))


def _model(family: str) -> Any:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ValueError(
            f"transformers cannot be imported ({error}); `pip install anchor_detr_jax[bench]`"
        ) from None
    config = getattr(transformers, f"{family}Config")(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=transformers.ResNetConfig(out_features=["stage4"]),
        num_labels=_CLASSES,
    )
    return getattr(transformers, f"{family}ForObjectDetection")(config).eval()


def _step(model: Any) -> Callable[[Any, Any], float]:
    """Forward, matching, losses, gradients, clipping, AdamW in two groups."""
    torch: Any = importlib.import_module("torch")
    model.train()
    for name, one in model.named_parameters():
        # transformers freezes all of its own ResNet; the recipe, the stem and the first stage.
        if "backbone" in name:
            one.requires_grad_("embedder" not in name and "stages.0" not in name)
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [one for name, one in trained if "backbone" not in name]},
            {"params": [one for name, one in trained if "backbone" in name], "lr": _BACKBONE_LR},
        ],
        lr=_LR,
        weight_decay=_WEIGHT_DECAY,
    )

    def step(images: Any, targets: Any) -> float:
        labels = [{"class_labels": one["labels"], "boxes": one["boxes"]} for one in targets]
        loss = model(images, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        return loss.item()

    return step
