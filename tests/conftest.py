"""What tests share: golden arrays, and detectors made from them."""

import atexit
import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

from jaxtyping import install_import_hook

# Shapes in annotations are checked at every call, in the tests only.
_HOOK = install_import_hook("anchor_detr_jax", "beartype.beartype")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from seeded_weights import seeded_state_dict  # noqa: E402
from train_processes import train_starter  # noqa: E402
from write_pth import write_pth  # noqa: E402

import anchor_detr_jax as ad  # noqa: E402
from anchor_detr_jax.backbones.resnet import ResNetConfig  # noqa: E402
from anchor_detr_jax.checkpoint import StoredDetector  # noqa: E402
from anchor_detr_jax.data.categories import Categories  # noqa: E402
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig  # noqa: E402
from anchor_detr_jax.models.build import variable_shapes  # noqa: E402

# A program that several tests need is compiled by the first of them, in whichever process that is.
if "ANCHOR_DETR_JAX_TEST_PROGRAMS" not in os.environ:
    _PROGRAMS = tempfile.mkdtemp(prefix="anchor_detr_jax_tests_")
    os.environ["ANCHOR_DETR_JAX_TEST_PROGRAMS"] = _PROGRAMS
    atexit.register(shutil.rmtree, _PROGRAMS, ignore_errors=True)
_PROGRAMS = os.environ["ANCHOR_DETR_JAX_TEST_PROGRAMS"]
jax.config.update("jax_compilation_cache_dir", _PROGRAMS)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared"

NARROW = AnchorDETRConfig(
    backbone=ResNetConfig(blocks=(1, 1, 1, 1), width=8),
    num_classes=5,
    hidden_dim=64,
    num_heads=4,
    feedforward_dim=96,
    encoder_layers=2,
    decoder_layers=2,
    num_anchors=7,
    num_patterns=2,
)
"""A model that compiles in seconds."""


_LONG = (
    "test_overfit",
    "test_train",
    "test_family_",
    "test_finetune",
    "test_step_options",
    "test_run_options",
    "test_parity",
)
"""Beginnings of the names of files that take long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the processes that tests run in end at about the same time."""
    items.sort(key=lambda item: not item.path.name.startswith(_LONG))


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    """Arrays that the reference computed; tests/data/README.md says how."""
    with np.load(DATA / "golden" / f"{name}.npz") as file:
        return dict(file)


def official_tensors(variant: str) -> dict[str, np.ndarray]:
    """The state dict that the golden files of a variant were computed with."""
    shapes = json.loads((DATA / "golden/checkpoint_keys.json").read_text())[
        variant.replace("dc5", "c5")  # dilation leaves no trace
    ]
    return seeded_state_dict(shapes, int(golden(f"forward_{variant}")["seed"]))


def official_args(variant: str) -> dict[str, object]:
    """What the reference's training writes beside the weights of a variant."""
    return {
        "backbone": "resnet101" if "r101" in variant else "resnet50",
        "dilation": variant.endswith(("dc5", "3level")),
        "num_query_position": 300,
        "num_query_pattern": 3,
        "num_feature_levels": 3 if variant.endswith("3level") else 1,
        "spatial_prior": "grid" if variant.endswith("grid") else "learned",
        "attention_type": "nn.MultiheadAttention" if variant.endswith("mha") else "RCDA",
        "nheads": 8,
    }


def random_variables(config: AnchorDETRConfig, seed: int) -> dict[str, object]:
    """Weights that keep features at their size; made by numpy, which has nothing to compile."""
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            return rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, shape)
        if name == "anchor_points":
            return rng.uniform(0, 1, shape)
        return rng.normal(0, 0.1 if name in ("bias", "mean") else 1.0, shape)

    return jax.tree_util.tree_map_with_path(
        lambda path, like: leaf(path, like.shape).astype(np.float32), variable_shapes(config)
    )


def make_detector(config: AnchorDETRConfig = NARROW, seed: int = 0) -> ad.Detector:
    """A detector with weights from a seed; its batch norms are not the identity."""
    names = tuple(f"kind {i}" for i in range(config.num_classes))
    categories = Categories(tuple(range(10, 10 + config.num_classes)), names)
    variables = random_variables(config, seed)
    return ad.Detector(StoredDetector(config, variables, categories, {"seed": seed}))


@pytest.fixture(scope="session")
def narrow() -> ad.Detector:
    return make_detector()


SLOW_VARIANTS = ["r101_c5", "r101_dc5", "r50_3level", "r50_c5_grid", "r50_c5_mha"]
VARIANTS = [
    "r50_c5",
    "r50_dc5",
    *(pytest.param(variant, marks=pytest.mark.slow) for variant in SLOW_VARIANTS),
]


@pytest.fixture(scope="session", params=VARIANTS)
def official(request, tmp_path_factory) -> tuple[str, ad.Detector]:
    """A variant's name, and it loaded from a file in the official format."""
    variant = request.param
    path = tmp_path_factory.mktemp(variant) / f"{variant}.pth"
    write_pth(path, official_tensors(variant), args=official_args(variant))
    detector = ad.load(path)
    path.unlink()
    return variant, detector


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """Three pieces of photographs, uint8 [h, w, 3], of different sizes."""
    return dict(golden("images"))


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Starts the train command; its programs are compiled once for all tests of a file."""
    with train_starter(tmp_path_factory.mktemp("programs")) as start:
        yield start


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """What is kept is kept here, for one test, and nothing in the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """As `own_cache`, for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with large files beside a developer's checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (large files), which is not here")
    return SHARED
