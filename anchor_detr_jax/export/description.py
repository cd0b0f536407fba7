"""What a file says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import jax
import numpy as np

import anchor_detr_jax
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.detector import Detector
from anchor_detr_jax.export.form import ExportForm
from anchor_detr_jax.models.build import config_to_dict
from anchor_detr_jax.models.pixels import IMAGENET_MEAN, IMAGENET_STD
from anchor_detr_jax.variable_names import flatten

__all__ = ["Description", "described"]

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Description:
    """What stands in an exported file beside the program; everything that JSON can hold.

    Attributes:
        form: what goes in and comes out.
        inputs: each input's name, element type and shape.
        outputs: the outputs' names.
        categories: what each column of the logits, and so each label, stands for; columns beyond
            stand for nothing that can be found.
        no_object: whether a softmax over all columns makes probabilities, and the last one is "no
            object"; else a sigmoid of each does.
        mean: what normalising subtracts from pixels in [0, 1],
        std: and then divides by.
        precision: what is computed in.
        family: of the model.
        source: where its weights came from.
        weights_sha256: of all arrays of the checkpoint, with their names.
        program: what the file's own format says of itself, such as the opset.
        anchor_detr_jax: the version that wrote it.
        jax: the version that traced it.
        format_version: of this description.
    """

    form: ExportForm
    inputs: dict[str, dict[str, Any]]
    outputs: list[str]
    categories: Categories
    no_object: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    family: str
    source: str
    weights_sha256: str
    program: dict[str, Any]
    anchor_detr_jax: str
    jax: str
    format_version: int = _FORMAT_VERSION

    def to_json(self) -> dict[str, str]:
        """Each attribute as JSON."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain |= {"form": asdict(self.form), "categories": self.categories.to_json()}
        return {name: json.dumps(value, ensure_ascii=False) for name, value in plain.items()}

    @classmethod
    def from_json(cls, texts: Mapping[str, str]) -> Description:
        """The inverse of `to_json`; the file may come from anywhere.

        Raises:
            ValueError: if it says something else; the message says what is wrong.
        """
        try:
            values = {field.name: json.loads(texts[field.name]) for field in fields(cls)}
            version = values["format_version"]
            if version != _FORMAT_VERSION:
                raise ValueError(f"its format version is {version}, {_FORMAT_VERSION} was expected")
            sizes = tuple((int(h), int(w)) for h, w in values["form"].pop("sizes"))
            values["form"] = ExportForm(**values["form"], sizes=sizes)
            values |= {name: tuple(values[name]) for name in ("mean", "std")}
            values["categories"] = Categories.from_json(values["categories"])
            return cls(**values)
        except KeyError as error:
            raise ValueError(f"its description lacks {error}") from None
        except (TypeError, AttributeError) as error:
            raise ValueError(f"its description is damaged ({error})") from None


def described(
    detector: Detector,
    form: ExportForm,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: tuple[str, ...],
    program: dict[str, Any],
) -> Description:
    """What is to be said of an export."""
    return Description(
        form=form,
        inputs={
            name: {"dtype": like.dtype.name, "shape": _shape(name, like.shape, form)}
            for name, like in inputs.items()
        },
        outputs=list(outputs),
        categories=detector.categories,
        no_object=detector.config.no_object,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        precision=np.dtype(getattr(detector.model, "dtype", None) or np.float32).name,
        family=config_to_dict(detector.config)["family"],
        source=str(detector.source.get("file", "")),
        weights_sha256=_digest(detector.variables),
        program=program,
        anchor_detr_jax=anchor_detr_jax.__version__,
        jax=jax.__version__,
    )


def _shape(name: str, shape: tuple[Any, ...], form: ExportForm) -> list[int | str]:
    """A shape in which what may be of several sizes is a word."""
    words: list[int | str] = [dim if isinstance(dim, int) else str(dim) for dim in shape]
    if name == "pixels" and len(form.sizes) > 1:
        words[1:3] = ["height", "width"]
    return words


def _digest(variables: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(flatten(variables).items()):
        array = np.asarray(array)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
