"""Hugging Face's own DETR and Conditional DETR, saved, read and compared: an independent oracle."""

import importlib.util
import json
import math
import re

import jax
import numpy as np
import pytest

import anchor_detr_jax as ad
from anchor_detr_jax.layers.padding import FeatureMap

torch = pytest.importorskip("torch", reason="PyTorch is not installed; it is in [bench]")
transformers = pytest.importorskip(
    "transformers", reason="Hugging Face's transformers is not installed; it is in [bench]"
)

pytestmark = [
    pytest.mark.slow,  # R50 is compiled
    # What PyTorch and transformers warn of is theirs.
    pytest.mark.filterwarnings("default"),
]

FAMILIES = ["Detr", "ConditionalDetr"]
SMALL = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "num_queries": 7,
    "num_labels": 5,
}
NARROW_BACKBONE = {"embedding_size": 8, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1]}
NO_TIMM = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}

GAINS = [
    (r"backbone", math.sqrt(2.0)),
    (r"(k_?pos|q_?pos_?sine)_proj", 4.0),
    (r"\.(\w\w_)?[qk]\w*_proj", 2.5),  # attention is sharp
    (r"self_attn\.(o|out)_proj", 0.35),  # or queries average to one
    (r"encoder_attn\.(o|out)_proj", 1.5),
    (r"(ref_point_head|query_scale)\.layers\.1|class_labels", 2.5),
]
"""Standard deviations of matrices, times the root of their width."""


def own_backbone(**shape):
    return NO_TIMM | {
        "backbone_config": transformers.ResNetConfig(out_features=["stage4"], **shape)
    }


def made(family, **settings):
    """A model with random weights, whose norms are not the identity, and which looks sharply."""
    config = getattr(transformers, f"{family}Config")(**settings)
    model = getattr(transformers, f"{family}ForObjectDetection")(config).eval()
    draws = torch.Generator().manual_seed(5)
    named = [*model.named_parameters(), *model.named_buffers()]
    with torch.no_grad():
        for name, tensor in named:
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=draws)
            if tensor.ndim == 1 and name.endswith(("weight", "running_var")):
                # The last norm of a block is small, or a deep ResNet adds up to hundreds.
                scale = 0.3 if name.endswith(("layer.2.normalization.weight", "bn3.weight")) else 1
                tensor.copy_(scale * torch.rand(tensor.shape, generator=draws) + scale / 2)
            elif tensor.ndim == 1:
                tensor.copy_(0.1 * drawn)
            elif "position_embedding" in name:
                tensor.copy_(drawn)
            else:
                if "input_proj" in name:  # blind to the mean of C5, which is alike everywhere
                    drawn -= drawn.mean(1, keepdim=True)
                gain = next((gain for part, gain in GAINS if re.search(part, name)), 1.0)
                tensor.copy_(gain * drawn / math.sqrt(tensor[0].numel()))
    return model


def check(model, folder, hw):
    """Saved, loaded, and shown one image without padding."""
    model.save_pretrained(folder)
    detector = ad.load(folder)
    pixels = np.random.default_rng(0).normal(size=(1, *hw, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    ours = jax.jit(detector.model.apply)(
        detector.variables, FeatureMap(jax.numpy.asarray(pixels), jax.numpy.array([hw]))
    )
    assert theirs.logits.std(1).mean() > 0.01
    np.testing.assert_allclose(ours.logits[-1], theirs.logits.numpy(), rtol=0, atol=2e-4)
    np.testing.assert_allclose(ours.boxes[-1], theirs.pred_boxes.numpy(), rtol=0, atol=5e-5)
    return detector


@pytest.mark.parametrize("family", FAMILIES)
def test_small(family, tmp_path):
    model = made(family, **SMALL, **own_backbone(**NARROW_BACKBONE), dropout=0.2)
    detector = check(model, tmp_path / "model", (96, 160))
    assert detector.config.dropout == 0.2
    assert detector.config.num_heads == 4
    assert detector.categories.names[2] == "LABEL_2"


def test_learned_positions(tmp_path):
    settings = {**SMALL, **own_backbone(**NARROW_BACKBONE)}
    model = made("Detr", **settings, position_embedding_type="learned")
    assert check(model, tmp_path / "model", (96, 160)).config.positions == "learned"


def test_names_in_memory(tmp_path):
    """A state dict as `torch.save` writes it, not `save_pretrained`."""
    model = made("ConditionalDetr", **SMALL, **own_backbone(**NARROW_BACKBONE))
    detector = check(model, tmp_path / "model", (64, 64))
    torch.save(model.state_dict(), tmp_path / "model/of_mine.pth")
    again = ad.load(tmp_path / "model/of_mine.pth")
    jax.tree.map(np.testing.assert_array_equal, again.variables, detector.variables)


@pytest.mark.parametrize("family", FAMILIES)
def test_r50(family, tmp_path):
    """The published shape; its weights too, but random."""
    model = made(family, **own_backbone(), num_labels=91)
    detector = check(model, tmp_path / "model", (192, 256))
    assert sum(detector.config.backbone.blocks) == 16
    assert detector.config.num_queries == (100 if family == "Detr" else 300)


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("dilation", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_backbones_of_timm(family, dilation, tmp_path):
    """Which alone can be dilated."""
    timm = {"use_timm_backbone": True, "use_pretrained_backbone": False, "backbone": "resnet50"}
    model = made(family, **SMALL, **timm, dilation=dilation)
    detector = check(model, tmp_path / "model", (96, 160))
    assert detector.config.backbone.dilation == dilation
    assert json.loads((tmp_path / "model/config.json").read_text())["dilation"] == dilation
