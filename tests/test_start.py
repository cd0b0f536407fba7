"""What a run starts from."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import NARROW, make_detector, random_variables

from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.checkpoint import StoredBackbone, save_folder
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.training import start
from anchor_detr_jax.training.config import OptimizerConfig, ScheduleConfig, TrainConfig
from anchor_detr_jax.training.optimizer import make_schedules, parameter_groups
from anchor_detr_jax.training.start import first_weights
from anchor_detr_jax.variable_names import flatten

CONFIG = TrainConfig(model=NARROW)
OWN = Categories((1, 2), ("kind 3", "unheard of"))


new_class_head = start._new_class_head


@pytest.fixture(autouse=True)
def _quick_weights(monkeypatch):
    """New weights by numpy, which has nothing to compile."""

    def new(model, key):
        return random_variables(model.config, int(jax.random.key_data(key)[-1]))

    def new_head(model, seed):
        params = flatten(random_variables(model, seed)["params"])
        return {name: params[name] for name in params if name.startswith("class_head/")}

    monkeypatch.setattr(start, "init_variables", new)
    monkeypatch.setattr(start, "_new_class_head", new_head)


def weights(config, model=NARROW, categories=None):
    first = first_weights(config, model, categories or make_detector().categories)
    return flatten(first.variables), first.notes


def test_new_weights_follow_from_the_seed():
    one, notes = weights(CONFIG)
    again, _ = weights(CONFIG)
    other, _ = weights(dataclasses.replace(CONFIG, seed=1))
    assert "new" in notes[0]
    for name in one:
        np.testing.assert_array_equal(one[name], again[name])
    assert np.any(one["params/class_head/kernel"] != other["params/class_head/kernel"])


def test_a_detector_of_the_same_classes_is_taken_whole(tmp_path):
    detector = make_detector()
    detector.save(tmp_path / "out")
    found, _ = weights(dataclasses.replace(CONFIG, init=str(tmp_path / "out")))
    for name, leaf in flatten(detector.variables).items():
        np.testing.assert_array_equal(found[name], leaf)


def test_other_classes_keep_all_but_the_class_head(tmp_path):
    detector = make_detector()
    detector.save_torch(tmp_path / "model.pth")
    detector.save(tmp_path / "out")
    model = dataclasses.replace(NARROW, num_classes=2)
    found, notes = weights(dataclasses.replace(CONFIG, init=str(tmp_path / "out")), model, OWN)
    theirs = flatten(detector.variables)
    new = weights(CONFIG, model, OWN)[0]
    for name, leaf in theirs.items():
        if "class_head" in name:
            assert name.removeprefix("params/") in notes[-1]
            np.testing.assert_array_equal(found[name][..., 0], leaf[..., 3])  # kind 3
            np.testing.assert_array_equal(found[name][..., 1], new[name][..., 1])
        else:
            np.testing.assert_array_equal(found[name], leaf)
    assert "kind 3" in notes[-1]


def test_a_new_class_head_is_that_of_new_weights():
    head = new_class_head(NARROW, seed=3)
    np.testing.assert_allclose(head["class_head/bias"], -np.log(99), rtol=1e-6)
    assert np.std(head["class_head/kernel"]) > 0
    again, other = new_class_head(NARROW, seed=3), new_class_head(NARROW, seed=4)
    np.testing.assert_array_equal(again["class_head/kernel"], head["class_head/kernel"])
    assert np.any(other["class_head/kernel"] != head["class_head/kernel"])


def test_another_model_is_refused_with_the_differences(tmp_path):
    make_detector().save(tmp_path / "out")
    config = dataclasses.replace(CONFIG, init=str(tmp_path / "out"))
    model = dataclasses.replace(NARROW, num_anchors=9, backbone=ResNetConfig((1, 1, 1, 2), 8))
    with pytest.raises(ValueError, match=r"backbone/blocks.*num_anchors: 7 there, 9 here"):
        weights(config, model)


def test_a_backbone_is_taken(tmp_path):
    variables = random_variables(NARROW, 5)
    stored = {kind: {"backbone": tree["backbone"]} for kind, tree in variables.items()}
    save_folder(tmp_path / "backbone", StoredBackbone(NARROW.backbone, stored, {}))
    config = dataclasses.replace(CONFIG, backbone_init=str(tmp_path / "backbone"))
    found, _ = weights(config)
    new, _ = weights(CONFIG)
    for name, leaf in flatten(variables).items():
        expected = leaf if "/backbone/" in name else new[name]
        np.testing.assert_array_equal(found[name], expected)
    # Dilation changes no parameter: the same file serves DC5.
    backbone = dataclasses.replace(NARROW.backbone, dilation=True)
    weights(config, dataclasses.replace(NARROW, backbone=backbone))
    wider = dataclasses.replace(NARROW, backbone=ResNetConfig((1, 1, 1, 1), 16))
    with pytest.raises(ValueError, match="width=16"):
        weights(config, wider)
    with pytest.raises(ValueError, match="both given"):
        weights(dataclasses.replace(config, init="x"))


def test_every_parameter_is_in_one_group():
    names = list(flatten(random_variables(NARROW, 0)["params"]))
    groups = parameter_groups(names, OptimizerConfig())
    assert {groups[n] for n in names if n.startswith("backbone/layer1")} == {"frozen"}
    assert groups["backbone/conv1/kernel"] == "frozen"
    assert groups["backbone/layer2_0/conv1/kernel"] == "backbone"
    assert groups["class_head/bias"] == "rest"
    with pytest.raises(ValueError, match=r"class_head/bias \(neither\)"):
        parameter_groups(["class_head/bias"], OptimizerConfig(rest="nothing"))
    with pytest.raises(ValueError, match=r"class_head/bias \(rest and backbone\)"):
        parameter_groups(["class_head/bias"], OptimizerConfig(backbone=".*"))
    with pytest.raises(ValueError, match=r"optimizer\.frozen is no regular expression"):
        parameter_groups([], OptimizerConfig(frozen="("))


def test_schedules():
    optimizer = OptimizerConfig(lr=1.0, backbone_lr=0.1)

    def rates(**settings):
        schedules = make_schedules(optimizer, ScheduleConfig(**settings), steps_per_epoch=10)
        of_group = {g: jax.vmap(s)(np.arange(60)) for g, s in schedules.items()}
        np.testing.assert_allclose(of_group["backbone"], 0.1 * of_group["rest"], rtol=1e-6)
        return np.asarray(of_group["rest"])

    step = rates(epochs=6, drop=4)
    np.testing.assert_allclose(step[[0, 39, 40, 59]], [1, 1, 0.1, 0.1], rtol=1e-6)
    step = rates(steps=60, drop_step=25, warmup_steps=5)
    np.testing.assert_allclose(step[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)
    np.testing.assert_allclose(step[[24, 25]], [1, 0.1], rtol=1e-6)
    cosine = rates(kind="cosine", epochs=6, warmup_steps=10)
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(50) / 50))
    np.testing.assert_allclose(cosine[10:], expected, atol=1e-6)
    with pytest.raises(ValueError, match="warmup_steps is 60"):
        rates(epochs=6, warmup_steps=60)
