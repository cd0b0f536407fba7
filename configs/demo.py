"""A small Anchor DETR for the demo: 0.4 million parameters, seeded weights.

python scripts/demo.py --config configs/demo.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The demo's settings."""
    config = ConfigDict()
    config.seed = 0
    config.model = ConfigDict(
        {
            "family": "anchor_detr",
            "backbone": {"blocks": (1, 1, 1, 1), "width": 8, "dilation": True},
            "num_classes": 91,
            "hidden_dim": 64,
            "num_heads": 4,
            "feedforward_dim": 128,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "num_anchors": 100,
            "num_patterns": 1,
        }
    )
    config.short_side = 256
    config.long_side = 426
    return config
