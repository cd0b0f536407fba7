"""Detectors from disk."""

from __future__ import annotations

from pathlib import Path

from jax.typing import DTypeLike

from anchor_detr_jax.checkpoint import StoredDetector, load_folder
from anchor_detr_jax.command import keep_compiled_programs
from anchor_detr_jax.conversion.convert import read_torch_detector
from anchor_detr_jax.conversion.hugging_face_folder import is_hugging_face_folder
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.run_folder import is_run, load_run

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    dilation: bool | None = None,
    dtype: DTypeLike | None = None,
    which: str = "best",
    compile: bool | tuple[int, int] | None = None,
    rcda_impl: str = "auto",
) -> Detector:
    """A detector from disk.

    Examples:
        >>> ad.load("out/", dtype="bfloat16")
        Detector: anchor_detr ..., bfloat16 on cpu
          finds 5 categories: ...

    Args:
        path: a folder that `convert_torch_weights.py` or `Detector.save` wrote, the folder of a
            training run, a `.pth` or `.safetensors` of the authors of a family, detrex or
            detr_pytorch, or a folder that Hugging Face's `save_pretrained` wrote; PyTorch is not
            needed, and nothing in the file is run.
        dilation: for a `.pth` whose args do not say it: True for DC5, False for C5. If nothing
            says it: C5, with a warning.
        dtype: what is computed in, such as `jnp.bfloat16`; None: float32, at full precision.
        which: checkpoint of a training run: "best" by AP, or the last if there is no AP; "last".
            If the run keeps a moving average of the weights, that is what is loaded.
        compile: compile now what `predict` will need: True for its own short and long side, a pair
            for others. Else each program is compiled when its first image comes. Programs are kept
            on disk for the next time, unless JAX is told where to (`jax_compilation_cache_dir`).
        rcda_impl: how row-column decoupled attention is computed: "scan", "whole", "chunks",
            "pallas", as `layers.rcda.attend` says, or "auto".

    Raises:
        ValueError: if there is no detector, or a damaged one; the message names it and says why.
        OSError: if it cannot be opened.
    """
    keep_compiled_programs()
    detector = Detector(_stored(Path(path), dilation, which), dtype=dtype, rcda_impl=rcda_impl)
    if compile is True:
        detector.warm_up()
    elif compile:
        detector.warm_up(short_side=compile[0], long_side=compile[1])
    return detector


def _stored(path: Path, dilation: bool | None, which: str) -> StoredDetector:
    if which not in ("best", "last"):
        raise ValueError(f"which is {which!r}, and must be 'best' or 'last'")
    if path.is_dir() and dilation is not None:
        raise ValueError(f"{path} says itself what its model is; leave dilation={dilation} away")
    if is_run(path):
        return load_run(path, which)
    if which != "best":
        raise ValueError(f"{path} is no training run; leave which={which!r} away")
    if path.is_dir() and not is_hugging_face_folder(path):
        return load_folder(path.resolve())
    stored, _ = read_torch_detector(path, dilation=dilation)
    return stored
