"""Building blocks shared by backbones and models."""
