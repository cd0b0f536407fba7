"""Matching: as cheap as scipy's, for any number of targets, and it always ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from anchor_detr_jax.matcher import assign_on_device, assign_with_scipy, match, match_costs
from anchor_detr_jax.structures import Outputs, Targets

QUERIES = 300


def random_problem(seed, counts, queries, classes=5):
    """Outputs and targets, padded to the largest count."""
    rng = np.random.default_rng(seed)
    images, most = len(counts), max(*counts, 1)
    centres = rng.uniform(0.2, 0.8, (images, most, 2))
    sizes = rng.uniform(0.05, 0.3, (images, most, 2))
    targets = Targets(
        boxes=jnp.asarray(np.concatenate([centres, sizes], -1), jnp.float32),
        labels=jnp.asarray(rng.integers(0, classes, (images, most)), jnp.int32),
        count=jnp.asarray(counts, jnp.int32),
    )
    outputs = Outputs(
        logits=jnp.asarray(rng.normal(size=(2, images, queries, classes)), jnp.float32),
        boxes=jnp.asarray(rng.uniform(0.1, 0.9, (2, images, queries, 4)), jnp.float32),
    )
    return outputs, targets


def assert_optimal(costs, counts, assigned):
    """Each real target has a query of its own, at the least total cost."""
    for problem, count in enumerate(counts):
        columns = np.asarray(assigned)[problem, :count]
        assert len(set(columns.tolist())) == count
        cost = np.asarray(costs, np.float64)[problem, :count]
        best = cost[linear_sum_assignment(cost)].sum()
        np.testing.assert_allclose(cost[np.arange(count), columns].sum(), best, atol=1e-4)


@pytest.mark.parametrize("assign", [assign_on_device, assign_with_scipy])
def test_from_none_to_as_many_targets_as_queries(assign):
    counts = [0, 1, 2, 7, 63, QUERIES]
    costs = np.random.default_rng(0).normal(size=(len(counts), QUERIES, QUERIES))
    costs = jnp.asarray(costs, jnp.float32)
    assigned = jax.jit(assign)(costs, jnp.asarray(counts))
    assert_optimal(costs, counts, assigned)


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_ties(levels):
    """Few different costs, so that many assignments are equally cheap."""
    counts = [9, 20, 30]
    costs = np.random.default_rng(1).integers(0, levels, (3, 30, 30))
    costs = jnp.asarray(costs, jnp.float32)
    assert_optimal(costs, counts, jax.jit(assign_on_device)(costs, jnp.asarray(counts)))


def test_crowded_targets():
    """Targets that all want the same few queries: every path is long."""
    costs = np.arange(60)[None, :] + np.random.default_rng(2).uniform(0, 1e-3, (50, 60))
    costs = jnp.asarray(costs[None], jnp.float32)
    assert_optimal(costs, [50], jax.jit(assign_on_device)(costs, jnp.array([50])))


def test_layers_and_images_are_matched_each_by_itself():
    counts = [7, 0, 1, 23]
    outputs, targets = random_problem(0, counts, 120)
    costs = np.asarray(match_costs(outputs, targets))
    assert costs.shape == (2, 4, 23, 120)
    by_device, by_scipy = (
        np.asarray(jax.jit(lambda o, t, a=a: match(o, t, assign=a))(outputs, targets))
        for a in (assign_on_device, assign_with_scipy)
    )
    for layer in range(2):
        assert_optimal(costs[layer], counts, by_device[layer])
        for image, count in enumerate(counts):
            np.testing.assert_array_equal(
                by_device[layer, image, :count], by_scipy[layer, image, :count]
            )


def test_costs_against_numpy():
    outputs, targets = random_problem(3, [2], 4)
    costs = match_costs(outputs, targets)
    for target, query in np.ndindex(2, 4):
        logit = float(outputs.logits[1, 0, query, targets.labels[0, target]])
        p = 1 / (1 + np.exp(-logit))
        focal = 0.25 * (1 - p) ** 2 * -np.log(p) - 0.75 * p**2 * -np.log(1 - p)
        ours, theirs = np.asarray(outputs.boxes[1, 0, query]), np.asarray(targets.boxes[0, target])
        a, b = ours[:2] - ours[2:] / 2, ours[:2] + ours[2:] / 2
        c, d = theirs[:2] - theirs[2:] / 2, theirs[:2] + theirs[2:] / 2
        shared = np.prod(np.clip(np.minimum(b, d) - np.maximum(a, c), 0, None))
        union = np.prod(b - a) + np.prod(d - c) - shared
        hull = np.prod(np.maximum(b, d) - np.minimum(a, c))
        giou = shared / union - (hull - union) / hull
        expected = 2 * focal + 5 * np.abs(ours - theirs).sum() - 2 * giou
        np.testing.assert_allclose(costs[1, 0, target, query], expected, rtol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("everywhere", [True, False])
def test_it_ends_with_values_that_are_not_finite(value, everywhere):
    outputs, targets = random_problem(0, [3, 5], 12)
    place = (slice(None),) if everywhere else (0, 1, slice(0, 9))
    logits = outputs.logits.at[place].set(value)
    assigned = jax.jit(match)(Outputs(logits, outputs.boxes), targets)
    for layer, image, count in [(0, 0, 3), (0, 1, 5), (1, 1, 5)]:
        assert len(set(np.asarray(assigned)[layer, image, :count].tolist())) == count


def test_more_targets_than_queries():
    outputs, targets = random_problem(0, [9], 8)
    with pytest.raises(ValueError, match="padded to 9, more than the 8 queries"):
        match(outputs, targets)


def test_no_gradient_flows():
    outputs, targets = random_problem(0, [3], 8)
    gradient = jax.grad(lambda o: match_costs(o, targets).sum() * 0 + match(o, targets).sum())(
        outputs
    )
    assert not np.abs(gradient.logits).any()
