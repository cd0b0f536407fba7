"""A detector to hand images to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from PIL import Image
from tqdm import tqdm

from anchor_detr_jax.checkpoint import StoredDetector, save_folder
from anchor_detr_jax.conversion.convert import write_torch_detector
from anchor_detr_jax.data.batching import PreparedImage, bucketed_batches, pad_images
from anchor_detr_jax.data.buckets import padded_to
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.data.image_size import ImageSize
from anchor_detr_jax.data.image_source import (
    ImageSource,
    check_request,
    checked_pixels,
    open_source,
    prepared_sources,
)
from anchor_detr_jax.devices import DetectedBatch, unbatched
from anchor_detr_jax.models.build import Model, ModelConfig, make_model
from anchor_detr_jax.models.describe import described_model
from anchor_detr_jax.programs import DetectionPrograms, WarmUp
from anchor_detr_jax.structures import (
    Detections,
    Images,
    Outputs,
    RankedDetections,
    no_detections,
)
from anchor_detr_jax.visualize import draw_detections, legible_scale

__all__ = ["Detector", "ImageSource"]

_TOGETHER = 64
"""Batches that a stream's images are sorted into before those that are not full run too."""


class Detector:
    """A model with its weights and the names of what it finds.

    Attributes:
        model: the Flax module; `model.apply(variables, images)` gives `Outputs`.
        variables: its parameters, for your own `jax.jit`. Others may take their place; for those
            of the same shapes, on the same devices, nothing is compiled anew.
        config: the model's shape.
        categories: what each column of the logits stands for.
        source: where the weights came from.
    """

    def __init__(
        self, stored: StoredDetector, *, dtype: DTypeLike | None = None, rcda_impl: str = "auto"
    ) -> None:
        self.config: ModelConfig = stored.config
        self.categories: Categories = stored.categories
        self.source: dict[str, Any] = stored.source
        self.model: Model = make_model(stored.config, dtype, rcda_impl=rcda_impl)
        self.variables: Mapping[str, Any] = jax.tree.map(jnp.asarray, stored.variables)
        self._forward = jax.jit(self._apply)
        self._programs = DetectionPrograms(self.model)

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))
        dtype = jnp.dtype(getattr(self.model, "dtype", None) or jnp.float32).name
        numbers = f"{size:,} parameters, {dtype} on {jax.default_backend()}"
        return described_model(self.config, self.categories, self.source, numbers)

    def _apply(self, variables, images: Images) -> Outputs:
        # On accelerators the default for float32 is less than float32.
        with jax.default_matmul_precision("float32"):
            return cast(Outputs, self.model.apply(variables, images))

    def forward(self, images: Sequence[np.ndarray]) -> Outputs:
        """Logits and boxes of every layer, for RGB uint8 images [h, w, 3] as they are, not resized.

        Raises:
            ValueError: for no images, and for anything but uint8 arrays of shape [h, w, 3].
        """
        pixels = [checked_pixels(image) for image in images]
        if not pixels:
            raise ValueError("there are no images to run on")
        hw = padded_to(image.shape[:2] for image in pixels)
        return self._forward(self.variables, pad_images(pixels, hw, len(pixels)))

    def predict(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        threshold: float = 0.5,
        top_k: int = 100,
        short_side: int = 800,
        long_side: int = 1333,
        fixed_hw: tuple[int, ...] = (),
        batch_size: int | None = None,
        progress: bool = False,
        on_error: Callable[[int, Exception], object] | None = None,
    ) -> list[Detections]:
        """What is found in each image.

        Examples:
            >>> found = detector.predict(["street.jpg", pixels], threshold=0.0, top_k=5)
            >>> [len(one) for one in found]
            [5, 5]

        Args:
            images: files and pictures of Pillow (turned upright by their EXIF orientation) and RGB
                uint8 arrays [h, w, 3], or a single one of these.
            threshold: lowest score, in [0, 1].
            top_k: most detections of an image.
            short_side: images are resized until their short side is this long,
            long_side: unless their long side would be longer than this.
            fixed_hw: height and width of all instead of these, whatever their aspect was; (): none.
            batch_size: images at a time; None: 1 for each device on the CPU, 8 elsewhere.
            progress: show a progress bar.
            on_error: called with the place in `images`, and with the error, of each one that
                cannot be read; nothing is found in these. None: the first error is raised.

        Raises:
            ValueError: for what is no image, or a damaged one; it names the file, or the place.
            FileNotFoundError: for a file that is not there.
        """
        sources = [images] if isinstance(images, ImageSource) else list(images)
        found = self.predict_stream(
            sources,
            threshold=threshold,
            top_k=top_k,
            short_side=short_side,
            long_side=long_side,
            fixed_hw=fixed_hw,
            batch_size=batch_size,
            on_error=on_error,
        )
        found = tqdm(found, total=len(sources), unit="image", disable=not progress)
        return [
            replace(one, drawer=partial(_draw, source))
            for one, source in zip(found, sources, strict=True)
        ]

    def predict_stream(
        self,
        images: Iterable[ImageSource],
        *,
        threshold: float = 0.5,
        top_k: int = 100,
        short_side: int = 800,
        long_side: int = 1333,
        fixed_hw: tuple[int, ...] = (),
        batch_size: int | None = None,
        on_error: Callable[[int, Exception], object] | None = None,
    ) -> Iterator[Detections]:
        """What is found in each of any number of images, in their order, as `predict` finds it.

        Images are asked for a few ahead of what is given out (of many sizes: up to `_TOGETHER`
        batches ahead, after which batches are filled up), and not kept.
        """
        check_request(threshold, top_k, batch_size)
        size = ImageSize(short_side, long_side, fixed_hw)
        batch_size = batch_size or default_batch_size()
        numbered = enumerate(images)
        for first in numbered:
            together = chain([first], islice(numbered, _TOGETHER * batch_size - 1))
            found: dict[int, Detections] = {}
            failed = partial(_fail, found, on_error) if on_error else None
            batches = self.detect_batches(
                prepared_sources(together, size, ahead=4 + batch_size, on_error=failed),
                buckets=size.buckets(),
                batch_size=batch_size,
                top_k=top_k,
                columns=self.categories.in_use,
            )
            due = first[0]
            for index, best in chain.from_iterable(map(unbatched, batches)):
                found[index] = self._named(best, threshold)
                while due in found:
                    yield found.pop(due)
                    due += 1
            yield from (found[index] for index in sorted(found))

    def detect_batches(
        self,
        prepared: Iterable[PreparedImage],
        *,
        buckets: Sequence[tuple[int, int]],
        batch_size: int,
        top_k: int,
        columns: np.ndarray,
    ) -> Iterator[DetectedBatch]:
        """The `top_k` best detections of each image, batch by batch as they fill; host arrays.

        `batch_size` counts the images on all of this process's devices together, and is rounded up
        to a multiple of their number. `columns` is False for classes to leave out.
        """
        count = min(top_k, self.config.num_queries * int(np.count_nonzero(columns)))
        batches = bucketed_batches(prepared, buckets, self._programs.rounded(batch_size))
        return self._programs.run(self.variables, batches, columns=columns, count=count)

    def warm_up(
        self,
        *,
        short_side: int = 800,
        long_side: int = 1333,
        fixed_hw: tuple[int, ...] = (),
        batch_size: int | None = None,
        top_k: int = 100,
        progress: bool = False,
    ) -> WarmUp:
        """Compile ahead what `predict` with these arguments will need, for images of any size.

        Examples:
            >>> print(detector.warm_up(short_side=96, long_side=96))
            2 programs ready in ... s
        """
        check_request(0.0, top_k, batch_size)
        buckets = ImageSize(short_side, long_side, fixed_hw).buckets()
        blanks = (
            PreparedImage(i, np.zeros((*hw, 3), np.uint8), hw) for i, hw in enumerate(buckets)
        )
        made = self.detect_batches(
            blanks,
            buckets=buckets,
            batch_size=batch_size or default_batch_size(),
            top_k=top_k,
            columns=self.categories.in_use,
        )
        made = tqdm(made, total=len(buckets), unit="program", disable=not progress)
        return WarmUp(len(buckets), sum(batch.handing_over for batch in made))

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load` reads.

        Raises:
            FileExistsError: if there is something of this name.
        """
        save_folder(folder, self._as_stored())

    def save_torch(self, path: str | Path) -> None:
        """Write a `.pth` in the reference's own layout, which the reference loads."""
        write_torch_detector(path, self._as_stored())

    def _as_stored(self) -> StoredDetector:
        return StoredDetector(self.config, self.variables, self.categories, self.source)

    def _named(self, best: RankedDetections, threshold: float) -> Detections:
        keep = best.scores >= threshold
        labels = np.asarray(best.labels)[keep]
        return Detections(
            boxes=np.asarray(best.boxes)[keep],
            scores=np.asarray(best.scores)[keep],
            labels=np.asarray(self.categories.ids)[labels],
            names=[str(self.categories.names[label]) for label in labels],
        )


def default_batch_size() -> int:
    """1 for each device on the CPU, where more images at a time save nothing; 8 elsewhere."""
    return (1 if jax.default_backend() == "cpu" else 8) * jax.local_device_count()


def _draw(source: ImageSource, found: Detections) -> Image.Image:
    picture = open_source(source)
    return draw_detections(picture, found, scale=legible_scale(picture.size))


def _fail(
    found: dict[int, Detections], on_error: Callable[[int, Exception], object], index: int, error
) -> None:
    """Say that an image cannot be read; nothing is found in it."""
    on_error(index, error)
    found[index] = no_detections()
