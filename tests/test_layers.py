"""Positions, norms and plain attention against the reference's numbers and against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import golden

from anchor_detr_jax.layers.normalization import FrozenBatchNorm, MaskedGroupNorm
from anchor_detr_jax.layers.padding import FeatureMap, downsampled, valid_mask
from anchor_detr_jax.layers.position import cell_centres, sine_embedding_1d, sine_embedding_2d
from anchor_detr_jax.models.heads import inverse_sigmoid


def test_cell_centres_are_the_references():
    file = golden("position")
    real = ~file["mask"]
    rows, columns = real[:, :, 0].sum(1), real[:, 0, :].sum(1)
    ours_y = cell_centres(jnp.asarray(rows), real.shape[1])
    ours_x = cell_centres(jnp.asarray(columns), real.shape[2])
    # Beyond the valid part the reference repeats the last one; nothing may depend on it.
    np.testing.assert_allclose(np.where(real[:, :, 0], ours_y - file["pos_col"], 0), 0, atol=1e-7)
    np.testing.assert_allclose(np.where(real[:, 0, :], ours_x - file["pos_row"], 0), 0, atol=1e-7)


def test_sine_embeddings_are_the_references():
    file = golden("position")
    points = jnp.asarray(file["points"])
    np.testing.assert_allclose(sine_embedding_2d(points, 256), file["emb2d"], atol=1e-6)
    np.testing.assert_allclose(sine_embedding_1d(points[..., 0], 256), file["emb1d_x"], atol=1e-6)


def test_group_norm_ignores_padding():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (1, 5, 7, 64)).astype(np.float32)
    norm = MaskedGroupNorm(groups=32)
    padded = rng.normal(50, 9, (1, 8, 9, 64)).astype(np.float32)
    padded[:, :5, :7] = x
    variables = {"params": {"scale": rng.normal(size=64), "bias": rng.normal(size=64)}}
    variables = jax.tree.map(jnp.float32, variables)
    ours = norm.apply(variables, jnp.asarray(padded), jnp.array([[5, 7]]))[:, :5, :7]
    grouped = x.astype(np.float64).reshape(1, 35, 32, 2)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    normal = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    params = variables["params"]
    np.testing.assert_allclose(ours, normal * params["scale"] + params["bias"], atol=2e-5)


def test_frozen_batch_norm_is_its_formula():
    rng = np.random.default_rng(0)
    scale, bias, mean = rng.normal(size=(3, 6))
    var = rng.uniform(0.1, 3, 6)
    x = rng.normal(size=(2, 3, 4, 6)).astype(np.float32)
    variables = {"frozen": {"scale": scale, "bias": bias, "mean": mean, "var": var}}
    variables = jax.tree.map(jnp.float32, variables)
    expected = (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    np.testing.assert_allclose(
        FrozenBatchNorm().apply(variables, jnp.asarray(x)), expected, atol=1e-5
    )


def test_valid_sizes_round_up():
    valid_hw = jnp.array([[250, 333], [1, 2]])
    for size in (250, 333), (256, 335):
        x = FeatureMap(jnp.zeros((2, *size, 1)), valid_hw)
        np.testing.assert_array_equal(downsampled(x, 2), [[125, 167], [1, 1]])
        np.testing.assert_array_equal(downsampled(x, 4), [[63, 84], [1, 1]])
        np.testing.assert_array_equal(downsampled(x, 1), valid_hw)
    np.testing.assert_array_equal(valid_mask(valid_hw, (3, 4))[1], [[1, 1, 0, 0]] + 2 * [[0] * 4])


def test_inverse_sigmoid_is_clamped():
    x = jnp.array([0.0, 0.3, 1.0, 1.2])
    expected = [np.log(1e-5), np.log(3 / 7), -np.log(1e-5), -np.log(1e-5)]
    np.testing.assert_allclose(inverse_sigmoid(x), expected, rtol=1e-5)
