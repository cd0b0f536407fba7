"""What a run says of itself before its first step, and after its last."""

from __future__ import annotations

from collections.abc import Iterator

import jax

from anchor_detr_jax.training.loop import RunEnd
from anchor_detr_jax.training.optimizer import drop_step
from anchor_detr_jax.training.run import Run

__all__ = ["described", "ended"]


def described(run: Run) -> Iterator[str]:
    """The data, the model, the plan and the devices, a line each."""
    data, plan = run.dataset, run.plan
    boxes = len(data.labels)
    empty = int((data.counts == 0).sum())
    split = run.config.data.train_split
    yield f"data: {len(data)} pictures of {split} with {boxes} boxes, {empty} without any"
    if run.validation:
        count = len(run.validation.dataset.images)
        yield f"validation: {count} pictures of {run.config.data.val_split}"
    for reason, count in data.dropped.items():
        yield f"  left out: {count} ({reason})"
    for fault in data.faults[:5]:
        yield f"  skipped: {fault}"
    if len(data.faults) > 5:
        yield f"  and {len(data.faults) - 5} more; all are in {run.folder / 'skipped.txt'}"
    sizes = sum(leaf.size for leaf in jax.tree.leaves((run.shapes.trained, run.shapes.fixed)))
    learn = sum(leaf.size for leaf in run.shapes.trained.values())
    yield f"model: {sizes:,} parameters, {learn:,} of them trained, {run.model.num_classes} classes"
    waste = plan.waste(0, min(plan.steps_per_epoch, 1000))
    yield (
        f"plan: {run.total_steps} steps, {plan.steps_per_epoch} an epoch, batch {plan.batch_size}, "
        f"at most {len(plan.buckets)} shapes, {100 * waste:.1f} % of the pixels padding"
    )
    schedule = run.config.schedule
    drop = drop_step(schedule, plan.steps_per_epoch)
    if schedule.kind == "step" and drop > run.total_steps:
        yield (
            f"warning: the learning rates never drop: step {drop} is after the end; "
            "schedule.drop (epochs) or schedule.drop_step says when"
        )
    mesh = " x ".join(f"{size} ({name})" for name, size in run.placement.mesh.shape.items())
    yield f"devices: {mesh}, {jax.process_count()} hosts, {jax.devices()[0].device_kind}"


def ended(run: Run, end: RunEnd) -> Iterator[str]:
    """How it ended, and where everything is."""
    yield f"{end.reason} after step {end.step} of {run.total_steps}"
    if end.best:
        yield f"best: AP {end.best[1]:.4f} after step {end.best[0]}"
    yield f"checkpoints: {run.folder / 'checkpoints'} (ad.load({str(run.folder)!r}) reads the best)"
