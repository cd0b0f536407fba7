"""Fine-tuning: any checkpoint, any data set, with nothing said twice."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from conftest import NARROW, make_detector, random_variables
from data_sets import NAMES, PICTURES, write_voc

import anchor_detr_jax as ad
from anchor_detr_jax.checkpoint import StoredDetector
from anchor_detr_jax.data.categories import Categories
from anchor_detr_jax.training import start
from anchor_detr_jax.training.config import (
    TrainConfig,
    train_config_from_dict,
    train_config_to_dict,
)
from anchor_detr_jax.training.loop import train
from anchor_detr_jax.training.run import prepare_run
from anchor_detr_jax.training.start import first_weights, settled
from anchor_detr_jax.variable_names import flatten
from configs.finetune import get_config

DILATED = dataclasses.replace(
    NARROW, backbone=dataclasses.replace(NARROW.backbone, dilation=True), num_anchors=9
)


def finetuning(root, init, **changes):
    """The configuration as the command line would make it."""
    config = get_config()
    config.update_from_flattened_dict({"data.root": str(root), "init": str(init), **changes})
    return train_config_from_dict(config.to_dict())


@pytest.fixture
def root(tmp_path):
    return write_voc(tmp_path / "voc")


def test_the_model_is_the_checkpoints(root, tmp_path):
    make_detector(DILATED).save(tmp_path / "out")
    config = settled(finetuning(root, tmp_path / "out"), tmp_path / "run")
    assert config.model == DILATED
    assert (config.data.train_split, config.data.val_split) == ("train", "val")


def test_a_file_that_says_its_dilation_needs_no_word_about_it(root, tmp_path):
    """Warnings are errors here."""
    make_detector(DILATED).save_torch(tmp_path / "model.pth")
    assert settled(
        finetuning(root, tmp_path / "model.pth"), tmp_path / "run"
    ).model.backbone.dilation


def test_what_cannot_be(root, tmp_path):
    with pytest.raises(ValueError, match="init is empty, and the model comes from it"):
        settled(finetuning(root, ""), tmp_path)
    with pytest.raises(AttributeError, match="model"):
        get_config().model.num_anchors = 300
    values = {**train_config_to_dict(TrainConfig()), "model_from_init": True}
    with pytest.raises(ValueError, match="model_from_init is True and there is a model"):
        train_config_from_dict(values)


def test_settings_come_back_from_what_a_run_writes(root, tmp_path):
    make_detector().save(tmp_path / "out")
    config = settled(finetuning(root, tmp_path / "out"), tmp_path)
    values = json.loads(json.dumps(train_config_to_dict(config)))
    assert settled(train_config_from_dict(values), tmp_path) == config


def test_columns_of_one_name_are_kept_however_it_is_written(tmp_path, monkeypatch):
    model = dataclasses.replace(NARROW, num_classes=4)
    new = flatten(random_variables(model, 1)["params"])
    new = {name: new[f"class_head/{name}"] for name in ("kernel", "bias")}
    heads = {f"class_head/{name}": leaf for name, leaf in new.items()}
    monkeypatch.setattr(start, "_new_class_head", lambda model, seed: heads)
    categories = Categories((1, 2, 3, 4, 5), ("Hot_Dog", "cat", None, "traffic light", "hot dog"))
    stored = StoredDetector(NARROW, random_variables(NARROW, 0), categories)
    ad.Detector(stored).save(tmp_path / "out")
    mine = Categories((0, 1, 2, 3), ("Traffic-Light", "cats", "hot  dog", "CAT"))
    config = TrainConfig(model=NARROW, init=str(tmp_path / "out"))
    first = first_weights(config, model, mine)
    for name in ("kernel", "bias"):
        head = first.variables["params"]["class_head"][name]
        there = stored.variables["params"]["class_head"][name]
        np.testing.assert_array_equal(head[..., [0, 2, 3]], there[..., [3, 0, 1]])
        np.testing.assert_array_equal(head[..., 1], new[name][..., 1])
    assert first.notes[-1].endswith("but for the columns of Traffic-Light, hot  dog, CAT")


TINY = {
    "augmentation.short_sides": (32, 48),
    "augmentation.long_side": 64,
    "augmentation.crop": 0.0,
    "evaluation.short_side": 48,
    "evaluation.long_side": 64,
    "data.buckets": 1,
    "data.batch_size": 2,
    "log.tensorboard": False,
    "schedule.steps": 4,
    "log.every_steps": 1,
}


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_detector(root, tmp_path):
    """From start to end, the second time from the first run's best checkpoint."""
    make_detector().save(tmp_path / "out")
    (root / "ImageSets/Main/val.txt").unlink()
    settings = {**TINY, "data.val_fraction": 0.4, "data.split_seed": 1}
    run = prepare_run(finetuning(root, tmp_path / "out", **settings), tmp_path / "run")
    assert len(run.dataset) == 3
    assert [image.path.name for image in run.validation.dataset.images] == ["a.png", "e.png"]
    bias = run.start()[0].trained["class_head/bias"]
    np.testing.assert_allclose(bias, -np.log(99), rtol=1e-6)  # a probability of 1 in 100
    end = train(run)
    assert (end.step, end.reason) == (4, "finished")
    assert end.best is not None
    assert sorted((tmp_path / "run/pictures").rglob("*.jpg"))
    detector = ad.load(tmp_path / "run")
    assert detector.categories == Categories((1, 2, 3), NAMES)
    found = detector.predict([root / "JPEGImages/a.png"], threshold=0.0, short_side=48)[0]
    assert set(found.names) <= set(NAMES)

    # The run goes on without its `init`, and another one starts from it, head and all.
    (tmp_path / "out").rename(tmp_path / "moved")
    settings["schedule.steps"] = 5
    longer = prepare_run(finetuning(root, tmp_path / "out", **settings), tmp_path / "run")
    assert train(longer).step == 5
    again = prepare_run(finetuning(root, tmp_path / "run", **settings), tmp_path / "again")
    state, notes = again.start()
    assert notes == [f"weights from {tmp_path / 'run'}"]
    best = flatten(ad.load(tmp_path / "run").variables["params"])
    for name, leaf in jax.device_get(state.trained).items():
        np.testing.assert_array_equal(leaf, best[name])
    assert len(PICTURES["train"]) == len(again.dataset) + len(again.validation.dataset.images)
