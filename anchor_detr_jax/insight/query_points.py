"""Where the queries of each family start: the only place among the pictures that knows families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import ModelConfig
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.smca import SMCAConfig

__all__ = ["QueryKind", "query_kind", "query_points"]


@dataclass(frozen=True)
class QueryKind:
    """What a detector's queries start from; as it is, that of DETR, whose start from no point.

    Attributes:
        points: what the points are called that they start from; "" for none.
        method: of the model, which gives each query's point.
        pointless: so many queries, the first ones, have no point.
        patterns: queries at each point, pattern-major; 0 for one that is no pattern.
        gaussians: whether Gaussians modulate their attention.
    """

    points: str = ""
    method: str = ""
    pointless: int = 0
    patterns: int = 0
    gaussians: bool = False

    @property
    def at_each_point(self) -> int:
        """Queries that start from the same point."""
        return max(self.patterns, 1)


def query_kind(config: ModelConfig) -> QueryKind:
    """What the queries of a detector start from."""
    if isinstance(config, AnchorDETRConfig):
        learned = config.anchors == "learned"
        points = "learned anchor points" if learned else "anchor points on a grid"
        return QueryKind(points, "query_points", patterns=config.num_patterns)
    if isinstance(config, ConditionalDETRConfig):
        return QueryKind("reference points", "reference_points")
    if isinstance(config, SMCAConfig):
        pointless = config.num_queries // 2 if config.query_mixture else 0
        return QueryKind("anchors", "anchor_points", pointless, gaussians=True)
    return QueryKind()


def query_points(model: Any, variables: Any) -> Float[Array, "a 2"]:
    """(x, y) of a model's points, as fractions of the picture.

    NaN for those of queries that know nothing of them; A is 0 where queries start from none.
    """
    kind = query_kind(model.config)
    if not kind.points:
        return jnp.zeros((0, 2))
    points = model.apply(variables, method=kind.method)
    return (
        jnp.asarray(points).at[: kind.pointless].set(jnp.nan)[: len(points) // kind.at_each_point]
    )
