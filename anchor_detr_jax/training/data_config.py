"""What a training run learns from."""

from __future__ import annotations

from dataclasses import dataclass

from anchor_detr_jax.training.value_checks import check_choice, check_least

__all__ = ["DataConfig"]


@dataclass(frozen=True)
class DataConfig:
    """What is trained on.

    Attributes:
        root: a folder in the layout of COCO, Pascal VOC or YOLO, or one that
            `scripts/prepare_tfds.py` or TFDS prepared.
        train_split: what is learned from; "auto": by its usual names.
        val_split: what AP is measured on; "auto": by its usual names, if there is one; "" for none.
        val_fraction: share of `train_split` that is held out to measure AP on, where there is no
            `val_split`.
        split_seed: of which pictures are held out.
        categories: "coco": column i of the logits stands for COCO's category i, 91 in all;
            "dataset": a column for each category of the data, in ascending order of their ids.
        batch_size: pictures in a step, over all devices of all hosts.
        buckets: shapes that batches may have, at most; 0: 16, or 8 for less than 10,000 pictures.
        keep_empty: train on pictures without boxes, too.
        on_bad: at an annotation or a picture with a fault: "stop", or "skip" it and list it.
        workers: processes that prepare batches; 0: threads alone.
        threads: threads that prepare batches, in this process or in each worker.
        prefetch: batches that are ready in advance, in this process or in each worker.
        cache_gb: encoded pictures that are kept in the memory of each process, in gigabytes.
    """

    root: str = ""
    train_split: str = "train2017"
    val_split: str = "val2017"
    val_fraction: float = 0.0
    split_seed: int = 0
    categories: str = "coco"
    batch_size: int = 8
    buckets: int = 0
    keep_empty: bool = True
    on_bad: str = "stop"
    workers: int = 0
    threads: int = 4
    prefetch: int = 4
    cache_gb: float = 0.0

    def __post_init__(self) -> None:
        check_choice(self, "data", "categories", ("coco", "dataset"))
        check_choice(self, "data", "on_bad", ("stop", "skip"))
        least = {"batch_size": 1, "buckets": 0, "workers": 0, "threads": 1, "prefetch": 1}
        check_least(self, "data", {**least, "cache_gb": 0})
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"data.val_fraction is {self.val_fraction}, and must be in [0, 1)")
