"""Anchor DETR with ResNet-101-DC5, as published.

COCO val2017 AP expected: 45.1;
AP50 65.7, AP75 48.8, small 25.8, medium 49.4, large 61.6.

    python convert_torch_weights.py AnchorDETR_r101_dc5.pth out/
    python scripts/evaluate.py --checkpoint out/ --coco path/to/coco --output results.json
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The published model."""
    config = ConfigDict()
    config.model = ConfigDict(
        {
            "family": "anchor_detr",
            "backbone": {"blocks": (3, 4, 23, 3), "width": 64, "dilation": True},
            "num_classes": 91,
            "hidden_dim": 256,
            "num_heads": 8,
            "feedforward_dim": 1024,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "num_anchors": 300,
            "num_patterns": 3,
        }
    )
    return config
