"""How a command starts and ends, and how it answers for its flags."""

from anchor_detr_jax.command.program_cache import compilation_cache, keep_compiled_programs
from anchor_detr_jax.command.start import run_command

__all__ = ["compilation_cache", "keep_compiled_programs", "run_command"]
