"""All settings of a training run; the defaults are the reference's recipe for R50-C5.

Source: AnchorDETR `main.py`; detrex for `no_decay` and lengths in steps.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from anchor_detr_jax.data.augmentation import AugmentationConfig
from anchor_detr_jax.layers.rcda import RCDA_FORMS
from anchor_detr_jax.layers.recomputation import RECOMPUTATION
from anchor_detr_jax.losses import LossWeights
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import ModelConfig, config_from_dict, config_to_dict
from anchor_detr_jax.training.data_config import DataConfig
from anchor_detr_jax.training.value_checks import check_choice, check_least

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "LogConfig",
    "OptimizerConfig",
    "ScheduleConfig",
    "TrainConfig",
    "train_config_from_dict",
    "train_config_to_dict",
]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW in two groups. Patterns are regular expressions that match a parameter's whole name.

    Attributes:
        lr: learning rate of parameters that `rest` matches.
        backbone_lr: of those that `backbone` matches.
        weight_decay: of all that is trained, but for what `no_decay` matches.
        clip: largest global norm of the gradient; 0: not clipped.
        frozen: parameters that are never trained; they are taken out before the two groups.
        backbone: names such as `backbone/layer4_2/conv3/kernel`.
        rest: the others. Every parameter must be in exactly one of the two groups.
        no_decay: parameters without weight decay; "" for none.
        accumulate: parts that a step's batch is cut into to save memory; the result is the same.
        ema: decay of the moving average of the weights, which evaluation uses; 0: none.
    """

    lr: float = 1e-4
    backbone_lr: float = 1e-5
    weight_decay: float = 1e-4
    clip: float = 0.1
    frozen: str = r"backbone/(conv1|bn1|layer1_\d+)/.*"
    backbone: str = r"backbone/.*"
    rest: str = r"(?!backbone/).*"
    no_decay: str = ""
    accumulate: int = 1
    ema: float = 0.0

    def __post_init__(self) -> None:
        rates = dict.fromkeys(("lr", "backbone_lr", "weight_decay", "clip"), 0)
        check_least(self, "optimizer", {**rates, "accumulate": 1})
        if not 0 <= self.ema < 1:
            raise ValueError(f"optimizer.ema is {self.ema}, and must be in [0, 1)")


@dataclass(frozen=True)
class ScheduleConfig:
    """How long, and at what share of the learning rates.

    Attributes:
        kind: "step": a tenth after `drop`; "cosine": falls to nothing at the end.
        epochs: passes over the data.
        drop: epochs after which "step" drops.
        steps: length in steps; 0: by `epochs`.
        drop_step: where "step" drops, in steps; 0: by `drop`.
        warmup_steps: steps in which the rates rise from nothing.
    """

    kind: str = "step"
    epochs: int = 50
    drop: int = 40
    steps: int = 0
    drop_step: int = 0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        check_choice(self, "schedule", "kind", ("step", "cosine"))
        least = dict.fromkeys(("drop", "steps", "drop_step", "warmup_steps"), 0)
        check_least(self, "schedule", {**least, "epochs": 1})


@dataclass(frozen=True)
class EvaluationConfig:
    """How AP is measured while training.

    Attributes:
        short_side: pictures are resized until their short side is this long,
        long_side: unless their long side would be longer than this.
        fixed_hw: height and width of all instead of these, whatever their aspect was; (): none.
        batch_size: pictures at a time on each host.
        scorer: "pycocotools", or "hotcoco", which is faster.
    """

    short_side: int = 800
    long_side: int = 1333
    fixed_hw: tuple[int, ...] = ()
    batch_size: int = 8
    scorer: str = "pycocotools"

    def __post_init__(self) -> None:
        names = ("short_side", "long_side", "batch_size")
        check_least(self, "evaluation", dict.fromkeys(names, 1))
        if self.fixed_hw and (len(self.fixed_hw) != 2 or min(self.fixed_hw) < 1):
            raise ValueError(
                f"evaluation.fixed_hw is {self.fixed_hw}, and must be (height, width), or ()"
            )


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept.

    Attributes:
        every_steps: save so often; 0: only as `every_epochs` says, and at the end.
        every_epochs: save after so many passes over the data; 0: only as `every_steps` says.
        keep: latest checkpoints that are kept, beside the best one.
        early_stop: evaluations without a better AP after which training ends; 0: never.
    """

    every_steps: int = 0
    every_epochs: int = 1
    keep: int = 2
    early_stop: int = 0

    def __post_init__(self) -> None:
        least = {"every_steps": 0, "every_epochs": 0, "keep": 1, "early_stop": 0}
        check_least(self, "checkpoint", least)


@dataclass(frozen=True)
class LogConfig:
    """What is written down.

    Attributes:
        every_steps: a row of the log for so many steps.
        pictures_every: evaluations between pictures of ground truth beside predictions; 0: none.
        pictures: how many.
        tensorboard: write event files, too.
        wandb_project: name of a Weights & Biases project; "": none.
    """

    every_steps: int = 50
    pictures_every: int = 1
    pictures: int = 8
    tensorboard: bool = True
    wandb_project: str = ""

    def __post_init__(self) -> None:
        check_least(self, "log", {"every_steps": 1, "pictures_every": 0, "pictures": 0})


@dataclass(frozen=True)
class TrainConfig:
    """A run.

    Attributes:
        model: the model's shape; its number of classes is what `data.categories` makes it.
        model_from_init: the model is that of `init`; `model` is not looked at.
        init: a checkpoint to start from: a folder, a training run, a `.pth` or `.safetensors`.
        backbone_init: a pretrained backbone that `convert_torch_weights.py --backbone` wrote.
        seed: of weights, order, augmentation and dropout.
        eval_every: epochs between evaluations; 0: at the end only.
        precision: what is computed in: "float32", "tensorfloat32" (float32 whose products are
            rounded to 10 bits, on GPUs that have it), or "bfloat16". Parameters stay float32.
        remat: what the backward pass computes again, to save memory: "none"; "cheap": all but
            convolutions and products with weights; "layers": all but layers' inputs.
        rcda_impl: how RCDA is computed, which changes speed and memory alone: "scan", "whole",
            "chunks", "pallas" (GPU and TPU), or "auto", which chooses by the device.
        fsdp: devices that share one copy of parameters and optimizer state; 1: each has its own.
        matcher: "device", or "scipy" on the host, for one device.
    """

    model: ModelConfig = field(default_factory=AnchorDETRConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    model_from_init: bool = False
    init: str = ""
    backbone_init: str = ""
    seed: int = 42
    eval_every: int = 1
    precision: str = "float32"
    remat: str = "cheap"
    rcda_impl: str = "auto"
    fsdp: int = 1
    matcher: str = "device"

    def __post_init__(self) -> None:
        check_choice(self, "", "remat", RECOMPUTATION)
        check_choice(self, "", "precision", ("float32", "tensorfloat32", "bfloat16"))
        check_choice(self, "", "matcher", ("device", "scipy"))
        check_choice(self, "", "rcda_impl", RCDA_FORMS)
        check_least(self, "", {"eval_every": 0, "fsdp": 1})
        measured = self.data.val_split or self.data.val_fraction
        if self.checkpoint.early_stop and not (measured and self.eval_every):
            raise ValueError(
                "checkpoint.early_stop needs evaluations: data.val_split and eval_every"
            )


def train_config_to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain containers that JSON and ConfigDict can hold; the inverse of the next function.

    There is no `model` among them where it comes from `init`.
    """
    values, model = dataclasses.asdict(config), config_to_dict(config.model)
    del values["model"], model["num_classes"]
    return values if config.model_from_init else {"model": model, **values}


def train_config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Settings from plain containers; what is left out has its default.

    `remat` may be True or False, as in runs from before it had names: "layers" or "none".

    Raises:
        ValueError: for an unknown key, with the nearest one there is, or a value that cannot be.
    """
    values = dict(values)
    if values.get("model_from_init") and "model" in values:
        raise ValueError("model_from_init is True and there is a model; leave one of them away")
    shape = dict(values.pop("model", {"family": "anchor_detr"}))
    if "num_classes" in shape:
        raise ValueError("model.num_classes follows from data.categories; leave it away")
    model = config_from_dict(shape)
    if isinstance(values.get("remat"), bool):
        values["remat"] = "layers" if values["remat"] else "none"
    return dataclasses.replace(_filled(TrainConfig, values, "config"), model=model)


def _filled(kind: type, values: Mapping[str, Any], where: str) -> Any:
    types = typing.get_type_hints(kind)
    filled = {}
    for name, value in values.items():
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            raise ValueError(
                f"{where} has no {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; it has {sorted(types)}")
            )
        if dataclasses.is_dataclass(types[name]):
            value = _filled(typing.cast(type, types[name]), value, f"{where}.{name}")
        filled[name] = tuple(value) if isinstance(value, list) else value
    return kind(**filled)
