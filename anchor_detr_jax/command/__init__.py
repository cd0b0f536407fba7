"""How a command starts and ends, and how it answers for its flags."""

from anchor_detr_jax.command.start import compilation_cache, run_command

__all__ = ["compilation_cache", "run_command"]
