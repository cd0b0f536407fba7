"""Which query is to answer for which target: the cheapest assignment, on the device.

Source: AnchorDETR and DETR `models/matcher.py`, which solve each problem with scipy on the host.
Axes: L layers, B images, N targets (padded), Q queries, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from anchor_detr_jax.boxes import cxcywh_to_xyxy, generalized_iou
from anchor_detr_jax.class_scores import class_costs, class_weight
from anchor_detr_jax.structures import Outputs, Targets

__all__ = ["Assignment", "assign_on_device", "assign_with_scipy", "match", "match_costs"]

Assignment = Callable[[Float[Array, "p n q"], Int[Array, " p"]], Int[Array, "p n"]]
"""From costs and each problem's number of real targets to a query for each target.

No query serves two real targets, and the sum of the real targets' costs is the least there is. What
stands for padded targets is any query.
"""

_UNUSABLE = 1e6
"""The cost in place of NaN and infinities: the assignment ends, and the loss is seen to be NaN."""


def match(
    outputs: Outputs, targets: Targets, *, assign: Assignment | None = None
) -> Int[Array, "l b n"]:
    """The query that answers for each target, in every layer by itself. No gradient flows.

    Args:
        outputs: of the model.
        targets: at most as many in an image as there are queries.
        assign: how; None: `assign_on_device`.

    Raises:
        ValueError: if there are more padded targets than queries.
    """
    layers, images, queries, _ = outputs.logits.shape
    most = targets.labels.shape[1]
    if most > queries:
        raise ValueError(
            f"targets are padded to {most}, more than the {queries} queries; use a model with more "
            "queries, or drop targets"
        )
    costs = jax.lax.stop_gradient(match_costs(outputs, targets))
    costs = jnp.nan_to_num(costs, nan=_UNUSABLE, posinf=_UNUSABLE, neginf=_UNUSABLE)
    problems = costs.reshape(layers * images, most, queries)
    assigned = (assign or assign_on_device)(problems, jnp.tile(targets.count, layers))
    return assigned.reshape(layers, images, most)


def match_costs(outputs: Outputs, targets: Targets) -> Float[Array, "l b n q"]:
    """Class cost (x 2 for sigmoids) + 5 x L1 - 2 x GIoU of every target with every query."""
    classes = class_costs(outputs, jnp.asarray(targets.labels))
    theirs = jnp.asarray(targets.boxes)[None, :, :, None, :]
    ours = outputs.boxes[:, :, None, :, :]
    distance = jnp.abs(ours - theirs).sum(-1)
    overlap = generalized_iou(cxcywh_to_xyxy(ours), cxcywh_to_xyxy(theirs))
    return class_weight(outputs) * classes + 5 * distance - 2 * overlap


def assign_with_scipy(costs: Float[Array, "p n q"], counts: Int[Array, " p"]) -> Int[Array, "p n"]:
    """On the host, by `scipy.optimize.linear_sum_assignment`; a round trip for each call."""

    def solve(costs, counts):
        costs, counts = np.asarray(costs), np.asarray(counts)
        assigned = np.zeros(costs.shape[:2], np.int32)
        for problem, count in enumerate(counts):
            _, columns = linear_sum_assignment(costs[problem, :count])
            assigned[problem, :count] = columns
        return assigned

    shape = jax.ShapeDtypeStruct(costs.shape[:2], jnp.int32)
    return jax.pure_callback(solve, shape, costs, counts)


def assign_on_device(costs: Float[Array, "p n q"], counts: Int[Array, " p"]) -> Int[Array, "p n"]:
    """By shortest augmenting paths, one target after another, all problems at once.

    The method of scipy's solver: Crouse, "On implementing 2D rectangular assignment algorithms",
    2016. Costs must be finite.
    """
    return jax.vmap(_assign_one)(costs, counts)


class _Solution(NamedTuple):
    """An assignment of the first targets, with its dual variables; -1: not assigned."""

    target_of: Int[Array, " q"]
    query_of: Int[Array, " n"]
    target_price: Float[Array, " n"]
    query_price: Float[Array, " q"]


class _Search(NamedTuple):
    """A search for the shortest path from a new target to a free query."""

    target: Int[Array, ""]
    distance: Float[Array, ""]
    distances: Float[Array, " q"]
    came_from: Int[Array, " q"]
    reached: Bool[Array, " q"]
    end: Int[Array, ""]


def _assign_one(costs: Float[Array, "n q"], count: Int[Array, ""]) -> Int[Array, " n"]:
    n, q = costs.shape
    start = _Solution(
        target_of=jnp.full(q, -1, jnp.int32),
        query_of=jnp.full(n, -1, jnp.int32),
        target_price=jnp.zeros(n, costs.dtype),
        query_price=jnp.zeros(q, costs.dtype),
    )

    def add_target(state):
        target, solution = state
        search = _shortest_path(costs, solution, target)
        return target + 1, _augmented(_repriced(solution, search, target), search, target)

    _, solution = jax.lax.while_loop(
        lambda state: state[0] < count, add_target, (jnp.zeros((), jnp.int32), start)
    )
    return jnp.maximum(solution.query_of, 0)


def _shortest_path(costs, solution: _Solution, target) -> _Search:
    """Dijkstra over the queries, along reduced costs, until one is free."""
    q = costs.shape[1]

    def visit(search: _Search) -> _Search:
        step = costs[search.target] - solution.target_price[search.target] - solution.query_price
        through = search.distance + step
        shorter = ~search.reached & (through < search.distances)
        distances = jnp.where(shorter, through, search.distances)
        nearest = jnp.argmin(jnp.where(search.reached, jnp.inf, distances)).astype(jnp.int32)
        taken_by = solution.target_of[nearest]
        return _Search(
            target=jnp.maximum(taken_by, 0),
            distance=distances[nearest],
            distances=distances,
            came_from=jnp.where(shorter, search.target, search.came_from),
            reached=search.reached.at[nearest].set(True),
            end=jnp.where(taken_by < 0, nearest, -1),
        )

    start = _Search(
        target=target,
        distance=jnp.zeros((), costs.dtype),
        distances=jnp.full(q, jnp.inf, costs.dtype),
        came_from=jnp.full(q, -1, jnp.int32),
        reached=jnp.zeros(q, bool),
        end=jnp.full((), -1, jnp.int32),
    )
    return jax.lax.while_loop(lambda search: search.end < 0, visit, start)


def _repriced(solution: _Solution, search: _Search, target) -> _Solution:
    """Prices under which the path costs nothing; each reached query passes its share on."""
    slack = jnp.where(search.reached, search.distance - search.distances, 0)
    owners = jnp.where(search.reached & (solution.target_of >= 0), solution.target_of, -1)
    n = solution.target_price.shape[0]
    # A query's owner pays what the query gains; the index n is dropped.
    price = solution.target_price.at[jnp.where(owners < 0, n, owners)].add(slack, mode="drop")
    return solution._replace(
        target_price=price.at[target].add(search.distance),
        query_price=solution.query_price - slack,
    )


def _augmented(solution: _Solution, search: _Search, target) -> _Solution:
    """The assignment with every query on the path given to the target that it was reached from."""

    def hand_over(state):
        query, target_of, query_of, _ = state
        receiver = search.came_from[query]
        given_up = query_of[receiver]
        return (
            given_up,
            target_of.at[query].set(receiver),
            query_of.at[receiver].set(query),
            receiver == target,
        )

    start = (search.end, solution.target_of, solution.query_of, jnp.zeros((), bool))
    _, target_of, query_of, _ = jax.lax.while_loop(lambda state: ~state[3], hand_over, start)
    return solution._replace(target_of=target_of, query_of=query_of)
