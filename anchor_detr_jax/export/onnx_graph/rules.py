"""What a translation of one of JAX's primitives is given and says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anchor_detr_jax.export.onnx_graph.dimensions import Dim

__all__ = ["Equation", "RefusedError", "Rule"]

_NOTHING_SAID = {
    "accuracy",
    "dimensions",
    "out_dtype",
    "out_sharding",
    "sharding",
}
"""Parameters that may be there if they are None: they would ask for something unusual."""


class RefusedError(ValueError):
    """A case of a primitive that has no translation; the message completes "this primitive ..."."""


@dataclass(frozen=True)
class Equation:
    """One step of a jaxpr.

    Attributes:
        primitive: its name.
        params: how the primitive is applied.
        in_shapes: of the arrays that go in.
        shape: of the first array that comes out.
        dtype: of that.
    """

    primitive: str
    params: Mapping[str, Any]
    in_shapes: tuple[tuple[Dim, ...], ...]
    shape: tuple[Dim, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Rule:
    """How a primitive is translated.

    Attributes:
        translate: called with the graph, the equation and a `Value` for each array that goes in;
            gives a `Value`, or a list of them where several arrays come out.
        reads: parameters that it looks at.
        ignores: parameters that change nothing in what comes out.
    """

    translate: Callable[..., Any]
    reads: set[str] = field(default_factory=set)
    ignores: set[str] = field(default_factory=set)

    def check(self, params: Mapping[str, Any]) -> None:
        """See that no parameter is passed over.

        Raises:
            RefusedError: if one is.
        """
        for name, value in params.items():
            silent = name in self.reads or name in self.ignores
            if not silent and not (name in _NOTHING_SAID and value is None):
                raise RefusedError(f"with {name}={value}")
