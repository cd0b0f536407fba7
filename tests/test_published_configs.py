"""Every configuration, and the model zoo: each builds the model that it promises."""

import importlib
import re
from pathlib import Path

import jax
import pytest

from anchor_detr_jax.benchmark.flops import count_detection
from anchor_detr_jax.evaluation.published import published_ap
from anchor_detr_jax.models.build import variable_shapes
from anchor_detr_jax.training.config import TrainConfig, train_config_from_dict

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
STARTS = ("demo", "finetune")
"""Where one begins with data of one's own; the others are published."""

PUBLISHED = [name for name in NAMES if name not in STARTS]

DROPS = {50: 40, 108: 86, 150: 100, 250: 200, 300: 200, 500: 400}
"""Epochs after which rates drop, by the length of a run."""

PARAMETERS = {
    "detr_r50": 41_524_768,
    "detr_r101": 60_464_672,
    "conditional_detr_r50": 43_418_401,
    "conditional_detr_r101": 62_358_305,
    "smca_r50_c5_type1": 41_735_810,
    "smca_r50_c5_type2": 41_748_146,
    "smca_r50_c5": 41_760_482,
    "smca_r50_c5_type4": 41_772_818,
    "anchor_detr_r50": 37_038_711,
    "anchor_detr_r101": 55_978_615,
}
"""What the references' models hold, but for batch norms, by how a configuration's name begins."""


def module(name: str):
    return importlib.import_module(f"configs.{name}")


def config(name: str) -> TrainConfig:
    return train_config_from_dict(module(name).get_config().to_dict())


def zoo() -> dict[str, list[str]]:
    """The cells of each row: AP, epochs, parameters, GFLOPs by us and published, file."""
    text = (ROOT / "docs/model_zoo.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows}


@pytest.mark.parametrize("name", NAMES)
def test_each_configuration_can_be_trained(name):
    """It is read without a complaint, and says how it is started."""
    config(name)
    assert f"configs/{name}.py" in module(name).__doc__


def test_the_zoo_has_each_published_configuration():
    assert sorted(zoo()) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_zoo_says_what_each_is(name):
    ap, epochs, size, ours, *_ = zoo()[name]
    one, doc = config(name), module(name).__doc__
    assert size == f"{expected_parameters(name):,}"
    assert ours == f"{count_detection(one.model, (800, 1066)).total / 1e9:.1f}"
    if one.schedule.steps:
        assert int(epochs) == round(one.schedule.steps * one.data.batch_size / 118_287)
    else:
        assert (int(epochs), DROPS[int(epochs)]) == (one.schedule.epochs, one.schedule.drop)
    if ap:
        assert re.search(rf"AP .*: {re.escape(ap)}\b", doc)
    else:
        assert "No AP is published" in doc


QUICK = ("detr_r50_c5", "conditional_detr_r50_dc5", "smca_r50_c5")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in PUBLISHED],
)
def test_each_has_as_many_parameters_as_the_references(name):
    shapes = variable_shapes(config(name).model)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected_parameters(name)


def expected_parameters(name: str) -> int:
    return PARAMETERS[max((key for key in PARAMETERS if name.startswith(key)), key=len)]


BATCHES = {
    "anchor_detr_r50_dc5": 8,
    "detr_r50_c5": 32 * 2,
    "detr_r101_dc5": 64,
    "detr_r50_c5_150_epochs": 8 * 2,
    "detr_r50_c5_1024": 36,
    "conditional_detr_r101_c5": 8 * 2,
    "conditional_detr_r50_dc5": 8,
    "smca_r50_c5": 8 * 2,
    "smca_r50_c5_type1": 4 * 4,
}


def test_a_step_has_the_pictures_of_all_devices():
    assert {name: config(name).data.batch_size for name in BATCHES} == BATCHES


@pytest.mark.parametrize(
    "name",
    [
        *(f"{family}_r{depth}_{maps}" for family in ("detr", "conditional_detr")
          for depth in (50, 101) for maps in ("c5", "dc5")),
        "smca_r50_c5",
    ],
)  # fmt: skip
def test_what_is_published_is_expected(name):
    """The AP that a converted file is compared with stands in the configuration, too."""
    figures = published_ap(config(name).model)
    assert figures is not None
    assert zoo()[name][0] == f"{figures[0]}"
    doc = module(name).__doc__
    assert all(f"{figure}" in doc for figure in figures if figure is not None)


def test_variants_have_no_published_ap():
    for name in zoo():
        if not zoo()[name][0]:
            assert published_ap(config(name).model) is None
