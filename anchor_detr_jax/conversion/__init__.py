"""Between PyTorch's checkpoint files and Flax variables."""
