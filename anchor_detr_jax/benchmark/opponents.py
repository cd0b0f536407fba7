"""The other side: any PyTorch model, given as `module:function`."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from anchor_detr_jax.benchmark.tasks import Program, Task, made_images, made_targets
from anchor_detr_jax.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from anchor_detr_jax.structures import Images

__all__ = ["READY", "Opponent", "find_function", "opponents"]

_HUGGING_FACE = "anchor_detr_jax.benchmark.hugging_face"
READY = {
    "torch": "conditional_detr",
    "conditional_detr": "conditional_detr",
    "detr": "detr",
}
"""Names of models that need no file of the user's: functions of `hugging_face`."""

_COUNT = 100


@dataclass(frozen=True)
class Opponent:
    """A PyTorch model to be timed.

    Attributes:
        forward: `module:function`; None: none for detection.
        step: `module:function` of a training step; None: none.
        compiled: by `torch.compile`, or eager.
    """

    forward: str | None
    step: str | None
    compiled: bool = False

    def has(self, what: str) -> bool:
        """Whether it does this: "detection" or "step"."""
        return bool(self.forward if what == "detection" else self.step)

    def label(self, what: str) -> str:
        """What a table calls it; `what`: "detection" or "step"."""
        named = str(self.forward if what == "detection" else self.step)
        module, _, function = named.partition(":")
        name = function.removesuffix("_step") if module == _HUGGING_FACE else named
        return f"{name}, {'torch.compile' if self.compiled else 'eager'}"

    def load_detection(self, task: Task) -> Callable[[], Program]:
        """A model that detects; called, it has run once, and is compiled if it is to be."""
        torch, device = _torch(task.precision)
        forward: Any = self._built(torch, device, str(self.forward), task)
        dtype = torch.float32
        if task.precision == "bfloat16" and isinstance(forward, torch.nn.Module):
            forward, dtype = forward.to(torch.bfloat16), torch.bfloat16
        context = _precision(torch, device, task, of_numbers=dtype is torch.float32)
        mean, std = (
            torch.tensor(values, device=device, dtype=dtype)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        if self.compiled:
            forward = torch.compile(forward)

        def tensor(images: Images) -> Any:
            height, width = images.valid_hw.max(axis=0)  # it sees no padding
            pixels = torch.from_numpy(images.pixels[:, :height, :width]).to(device)
            return (pixels.permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std

        def run(images: Images) -> Any:
            with torch.inference_mode(), context():
                return _best(torch, forward(tensor(images)), images)

        def compiled() -> Program:
            images = made_images(task)
            started = time.perf_counter()
            run(images)
            first = time.perf_counter() - started
            with torch.inference_mode():
                on_device = tensor(images)

            def repeat(times: int) -> None:
                with torch.inference_mode(), context():
                    for _ in range(times):
                        forward(on_device)
                _wait(torch, device)

            return Program(run, on_device=repeat, compile_s=first if self.compiled else None)

        return compiled

    def load_step(self, task: Task) -> Callable[[], Program]:
        """A training step; called, it has run once, and is compiled if it is to be."""
        torch, device = _torch(task.precision)
        step = self._built(torch, device, str(self.step), task)
        context = _precision(torch, device, task, of_numbers=True)
        images, targets = made_images(task), made_targets(task)
        pixels = torch.from_numpy(images.pixels).to(device).permute(0, 3, 1, 2).float() / 255
        wanted = [
            {
                "labels": torch.from_numpy(labels).long().to(device),
                "boxes": torch.from_numpy(boxes).to(device),
            }
            for labels, boxes in zip(targets.labels, targets.boxes, strict=True)
        ]
        if self.compiled:
            step = torch.compile(step)

        def run() -> None:
            with context():
                step(pixels, wanted)
            _wait(torch, device)

        def compiled() -> Program:
            started = time.perf_counter()
            run()
            first = time.perf_counter() - started
            return Program(run, compile_s=first if self.compiled else None)

        return compiled

    def _built(self, torch: Any, device: str, named: str, task: Task) -> Callable[..., Any]:
        """What the function makes for a configuration's name; modules are put on the device."""
        function = find_function(named)
        with torch.device(device):
            built = function(task.name)
        return built.to(device).eval() if isinstance(built, torch.nn.Module) else built


def opponents(against: str | None, step: str | None, modes: tuple[str, ...]) -> list[Opponent]:
    """Those that a command line asks for, each in each mode, "eager" or "compiled".

    Raises:
        ValueError: if there is no PyTorch with JAX's device, or no such function.
    """
    if against in READY:
        function = READY[against]
        against, step = f"{_HUGGING_FACE}:{function}", step or f"{_HUGGING_FACE}:{function}_step"
    named = [one for one in (against, step) if one]
    if named:
        _torch("float32")
    for one in named:
        find_function(one)
    return [Opponent(against, step, mode == "compiled") for mode in modes if named]


def find_function(named: str) -> Callable[..., Any]:
    """The function that `module:function` names; modules of the current folder are found, too.

    Raises:
        ValueError: if there is none.
    """
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise ValueError(
            f"{named!r} names no function; expected module:function, or one of {sorted(READY)}"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    function = getattr(_import(module, f"the module of {named}"), name, None)
    if not callable(function):
        raise ValueError(f"the module {module} has no function {name!r}")
    return function


def _import(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{what} cannot be imported ({error}); `pip install anchor_detr_jax[bench]` brings "
            "PyTorch and transformers, and PYTHONPATH says where else modules are"
        ) from None


def _torch(precision: str) -> tuple[Any, str]:
    """PyTorch, told which products are wanted, and the device that is JAX's.

    Raises:
        ValueError: if it has no such device.
    """
    torch = _import("torch", "PyTorch")
    platform = jax.default_backend()
    if platform != "cpu" and not torch.cuda.is_available():
        raise ValueError(
            f"JAX computes on {platform}, and this PyTorch has no GPU: install one that has, or "
            "compare on the CPU by JAX_PLATFORMS=cpu"
        )
    rounded = precision == "tensorfloat32"
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    torch.backends.cudnn.allow_tf32 = rounded
    return torch, "cpu" if platform == "cpu" else "cuda"


def _precision(torch: Any, device: str, task: Task, *, of_numbers: bool) -> Callable[[], Any]:
    """Automatic bfloat16 for what computes in float32 by itself."""
    if task.precision == "bfloat16" and of_numbers:
        return lambda: torch.autocast(device, dtype=torch.bfloat16)
    return contextlib.nullcontext


def _wait(torch: Any, device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _best(torch: Any, outputs: Any, images: Images) -> Any:
    """The best detections of a DETR's outputs, on the host; other outputs are brought there."""
    logits, boxes = (_named(outputs, name) for name in ("logits", "pred_boxes"))
    logits = _named(outputs, "pred_logits") if logits is None else logits
    if logits is None or boxes is None:
        return [one.cpu() for one in _tensors(torch, outputs)]
    batch, queries, classes = logits.shape
    scores = logits.float().sigmoid().reshape(batch, -1)
    best, index = scores.topk(min(_COUNT, queries * classes), dim=1)
    rows = (index // classes)[..., None].expand(-1, -1, 4)
    centre, side = boxes.float().gather(1, rows).split(2, dim=-1)
    height, width = images.valid_hw.max(axis=0)
    scale = torch.tensor([width, height] * 2, device=boxes.device)
    corners = torch.cat([centre - side / 2, centre + side / 2], dim=-1) * scale
    return corners.cpu(), best.cpu(), (index % classes).cpu()


def _named(outputs: Any, name: str) -> Any:
    return outputs.get(name) if hasattr(outputs, "get") else getattr(outputs, name, None)


def _tensors(torch: Any, outputs: Any) -> list[Any]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    several = outputs.values() if hasattr(outputs, "values") else outputs
    if not isinstance(several, str) and hasattr(several, "__iter__"):
        return [tensor for one in several for tensor in _tensors(torch, one)]
    return []
