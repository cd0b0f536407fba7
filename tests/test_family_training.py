"""The sister models' training: the references' losses, gradients and updates."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from families import MAIN, family_golden

pytestmark = pytest.mark.slow  # R50 is compiled, with its gradients


def steps_of(family: str, precision: str, steps: int, folder: Path) -> dict[str, np.ndarray]:
    output = folder / f"{family}_{precision}.npz"
    script = Path(__file__).parent / "family_steps.py"
    command = [sys.executable, str(script), family, precision, str(steps), str(output)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(output) as file:
        return dict(file)


def seen(norms: np.ndarray, whole: float) -> np.ndarray:
    """True for parameters whose gradient is no mere rounding."""
    return norms > 1e-8 * whole


@pytest.mark.parametrize("family", MAIN)
def test_a_step_is_the_references(family, tmp_path):
    file, found = family_golden(family, "training"), steps_of(family, "float32", 1, tmp_path)
    np.testing.assert_allclose(found["loss"], file["loss"][:1], rtol=1e-5)
    np.testing.assert_allclose(found["last_layer_losses"], file["last_layer_losses"][:1], rtol=1e-4)
    np.testing.assert_allclose(found["global_grad_norm"][0], file["global_grad_norm"][0], rtol=1e-3)
    norms = np.array([file[f"grad_norm/{name}"] for name in file["trainable"]])
    for name in file["trainable"][seen(norms, file["global_grad_norm"][0])]:
        expected = float(file[f"grad_norm/{name}"])
        assert found[f"grad_norm/{name}"] == pytest.approx(expected, rel=5e-3), name
    for key in (key for key in file if key.startswith("grad/")):
        actual = found[key][::5] if key == "grad/query_embed.weight" else found[key]
        np.testing.assert_allclose(actual, file[key], atol=2e-3 * np.abs(file[key]).max())


@pytest.mark.parametrize("family", MAIN)
def test_four_steps_in_double_precision_are_the_references(family, tmp_path):
    """In float32 the references themselves, their weights rounded otherwise, end 3 % apart."""
    file = family_golden(family, "training_float64")
    found = steps_of(family, "float64", 4, tmp_path)
    np.testing.assert_allclose(found["loss"], file["loss"], rtol=1e-7)
    np.testing.assert_allclose(found["global_grad_norm"], file["global_grad_norm"], rtol=1e-6)
    np.testing.assert_allclose(found["last_layer_losses"], file["last_layer_losses"], rtol=1e-6)
    names = file["trainable"]
    some = seen(file["grad_norms"], file["global_grad_norm"][0])
    gradients = np.array([found[f"grad_norm/{name}"] for name in names])
    np.testing.assert_allclose(gradients[some], file["grad_norms"][some], rtol=1e-6)
    updates = np.array([found[f"update_norm/{name}"] for name in names])
    np.testing.assert_allclose(updates[some], file["update_norms"][some], rtol=1e-5)

    still = {k.removeprefix("update_norm/") for k in found if k.startswith("update_norm/") and
             not found[k].any()}  # fmt: skip
    body = "backbone.0.body."
    frozen = tuple(body + part for part in ("conv1.", "bn1.", "layer1."))
    assert any(name.startswith(frozen) for name in still)
    assert still.isdisjoint(names)
