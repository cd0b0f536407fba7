"""One step is one step: on one device or eight, padded or alone, whole or in parts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("steps_on_devices.py")
WAYS = ["eight devices, cut parameters", "two parts on four devices"]
MORE_WAYS = ["eight devices", "four parts", "alone"]  # with R50-C5, where it takes minutes


@pytest.fixture(scope="module", params=["narrow"])
def steps(request, tmp_path_factory):
    """Losses and gradients of the same step, done in several ways."""
    output = tmp_path_factory.mktemp("steps") / "steps.npz"
    subprocess.run(
        [sys.executable, PROGRAM, request.param, output],
        check=True,
        env=os.environ
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
    )
    with np.load(output) as file:
        return dict(file)


def test_pictures_are_of_different_sizes(steps):
    assert len({tuple(hw) for hw in steps["sizes"]}) == 8


def ways(steps) -> list[str]:
    return WAYS + [way for way in MORE_WAYS if f"{way}/total" in steps]


def test_losses_are_the_same(steps):
    for way in ways(steps):
        np.testing.assert_allclose(steps[f"{way}/total"], steps["one device/total"], rtol=2e-6)
        for name in ("losses", "class_error") if way != "alone" else ():
            expected = steps[f"one device/{name}"]
            np.testing.assert_allclose(steps[f"{way}/{name}"], expected, rtol=1e-5)


def test_gradients_are_the_same(steps):
    names = [key for key in steps if key.startswith("one device/gradient/")]
    norm = np.sqrt(sum(np.square(steps[name], dtype=np.float64).sum() for name in names))
    assert norm > 1
    for name in names:
        # Some are zero in truth, and noise in float32: the biases of keys, which no softmax sees.
        scale = max(np.abs(steps[name]).max(), 1e-5 * norm)
        for way in ways(steps):
            other = steps[name.replace("one device", way)]
            np.testing.assert_allclose(other, steps[name], atol=1e-4 * scale, rtol=0)


def test_all_ways_were_tried(request, steps):
    slow = "r50_c5" in request.node.callspec.id
    assert ways(steps) == WAYS + (MORE_WAYS if slow else [])


def test_parameters_are_cut_where_asked(steps):
    assert steps[f"{WAYS[0]}/cut"] >= 4
    assert steps["two parts on four devices/cut"] == 0
