"""One step is one step: on one device or eight, padded or alone, whole or in parts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # a process with eight simulated devices

PROGRAM = Path(__file__).with_name("steps_on_devices.py")
CUT = "eight devices, cut parameters"
WAYS = {"narrow": [CUT, "two parts on four devices"], "r50_c5": ["eight devices", "alone"]}


@pytest.fixture(scope="module", params=["narrow", "r50_c5"])
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
    sizes = 8 if steps["model"] == "narrow" else 4
    assert len({tuple(hw) for hw in steps["sizes"]}) == sizes


def ways(steps) -> list[str]:
    return WAYS[str(steps["model"])]


def test_losses_are_the_same(steps):
    for way in ways(steps):
        np.testing.assert_allclose(steps[f"{way}/total"], steps["one device/total"], rtol=2e-6)
        for name in ("losses", "class_error") if way != "alone" else ():
            expected = steps[f"one device/{name}"]
            np.testing.assert_allclose(steps[f"{way}/{name}"], expected, rtol=1e-5)


def test_gradients_are_the_same(steps):
    one = {key: value for key, value in steps.items() if key.startswith("one device/gradient/")}
    whole = np.sqrt(sum(norm(gradient) ** 2 for gradient in one.values()))
    # Some are zero in truth, and noise in float32: the biases of keys, which no softmax sees.
    one = {key: value for key, value in one.items() if norm(value) > 1e-8 * whole}
    assert len(one) > 100
    for way in ways(steps):
        others = {key: steps[key.replace("one device", way)] for key in one}
        apart = {key: norm(others[key] - value) / norm(value) for key, value in one.items()}
        assert max(apart.values()) < 2e-4, max(apart, key=apart.__getitem__)
        assert np.median(list(apart.values())) < 2e-5


def norm(array) -> float:
    return float(np.linalg.norm(array.astype(np.float64)))


def test_parameters_are_cut_where_asked(steps):
    for way in ways(steps):
        if way != "alone":
            assert (steps[f"{way}/cut"] >= 4) == (way == CUT)
