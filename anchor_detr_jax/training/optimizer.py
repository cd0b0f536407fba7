"""Which parameters are trained, and how: AdamW in groups, clipping, schedules.

Source: AnchorDETR `main.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax
import optax

from anchor_detr_jax.training.config import OptimizerConfig, ScheduleConfig

__all__ = [
    "Schedule",
    "drop_step",
    "make_optimizer",
    "make_schedules",
    "parameter_groups",
    "total_steps",
]

_GROUPS = ("rest", "backbone")

Schedule = Callable[[jax.typing.ArrayLike], jax.typing.ArrayLike]
"""From the number of a step, counted from 0, to its learning rate."""


def parameter_groups(names: Iterable[str], config: OptimizerConfig) -> dict[str, str]:
    """The group of each parameter: `frozen`, `backbone` or `rest`.

    Raises:
        ValueError: for a pattern that is none, and for parameters of no group, or of two.
    """
    patterns = {}
    for field in ("frozen", "backbone", "rest", "no_decay"):
        try:
            patterns[field] = re.compile(getattr(config, field))
        except re.error as error:
            raise ValueError(f"optimizer.{field} is no regular expression: {error}") from None
    groups, faults = {}, []
    for name in names:
        if patterns["frozen"].fullmatch(name):
            groups[name] = "frozen"
            continue
        found = [group for group in _GROUPS if patterns[group].fullmatch(name)]
        if len(found) == 1:
            groups[name] = found[0]
        else:
            faults.append(f"{name} ({' and '.join(found) or 'neither'})")
    if faults:
        raise ValueError(
            f"{len(faults)} parameters must be in one of optimizer.backbone and optimizer.rest, "
            f"but are in none or both: {', '.join(faults[:5])}"
        )
    return groups


def make_schedules(
    optimizer: OptimizerConfig, schedule: ScheduleConfig, *, steps_per_epoch: int
) -> dict[str, Schedule]:
    """The learning rate of each group at each step."""
    peaks = {"rest": optimizer.lr, "backbone": optimizer.backbone_lr}
    shares = _share(schedule, steps_per_epoch)
    return {group: _scaled(shares, peak) for group, peak in peaks.items()}


def total_steps(schedule: ScheduleConfig, steps_per_epoch: int) -> int:
    """How long a run is."""
    return schedule.steps or schedule.epochs * steps_per_epoch


def drop_step(schedule: ScheduleConfig, steps_per_epoch: int) -> int:
    """After which step "step" drops."""
    return schedule.drop_step or schedule.drop * steps_per_epoch


def _share(schedule: ScheduleConfig, steps_per_epoch: int) -> Schedule:
    """What the learning rates are multiplied by."""
    length, warmup = total_steps(schedule, steps_per_epoch), schedule.warmup_steps
    if warmup >= length:
        raise ValueError(
            f"schedule.warmup_steps is {warmup}, and must be less than the run's {length} steps"
        )
    if schedule.kind == "cosine":
        after = optax.cosine_decay_schedule(1.0, length - warmup)
    else:
        drop = drop_step(schedule, steps_per_epoch)
        after = optax.piecewise_constant_schedule(1.0, {max(drop - warmup, 0): 0.1})
    if not warmup:
        return after
    rising = optax.linear_schedule(1 / warmup, 1.0, warmup - 1)
    return optax.join_schedules([rising, after], [warmup])


def _scaled(shares: Schedule, peak: float) -> Schedule:
    return lambda step: peak * shares(step)


@dataclass(frozen=True)
class _Decays:
    """Which parameters decay; a class, so that optimizer states compare equal."""

    pattern: str

    def __call__(self, params: Mapping[str, object]) -> dict[str, bool]:
        return {name: not re.fullmatch(self.pattern, name) for name in params}


def make_optimizer(
    config: OptimizerConfig, schedules: Mapping[str, Schedule], groups: Mapping[str, str]
) -> optax.GradientTransformation:
    """Clipping over all trained parameters, then AdamW in groups; parameters by flat names."""

    def adamw(group: str) -> optax.GradientTransformation:
        return optax.adamw(
            schedules[group],
            weight_decay=config.weight_decay,
            mask=_Decays(config.no_decay) if config.no_decay else None,
        )

    trained = {name: group for name, group in groups.items() if group != "frozen"}
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    return optax.chain(clip, optax.partition({g: adamw(g) for g in _GROUPS}, trained))
