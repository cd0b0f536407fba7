"""What is learned from, and what is measured on."""

import dataclasses

import pytest
from conftest import NARROW
from data_sets import PICTURES, write_coco, write_voc, write_yolo

from anchor_detr_jax.data.formats.layout import read_records
from anchor_detr_jax.data.formats.splits import Share, chosen_splits, share_of
from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder
from anchor_detr_jax.evaluation.sets import read_evaluation_set
from anchor_detr_jax.training.config import DataConfig, TrainConfig
from anchor_detr_jax.training.start import settled, training_set


def chosen(there, train="auto", val="auto", fraction=0.0):
    return chosen_splits(there, train, val, fraction=fraction, seed=7)


def test_usual_names():
    assert chosen(["test", "train", "trainval", "val"]) == ("train", "val")
    assert chosen(["train2017", "val2017"]) == ("train2017", "val2017")
    assert chosen(["train", "valid", "test"], fraction=0.5) == ("train", "valid")
    assert chosen(["train", "test"]) == ("train", "")  # never the test set
    assert chosen(["train", "val"], val="") == ("train", "")
    assert chosen(["a", "b"], train="a", val="b") == ("a", "b")
    with pytest.raises(ValueError, match=r"there is no split train or .*, but night; say data\.tr"):
        chosen(["night"])


def test_a_share_is_held_out_where_there_is_nothing_to_measure_on():
    parts = ("train:rest:0.25:7", "train:held_out:0.25:7")
    assert chosen(["train", "test"], fraction=0.25) == parts
    assert chosen(["train", "val"], val="", fraction=0.25) == parts
    # `val` is a part of `trainval`, so what is learned must not be measured on it.
    trainval = ("trainval:rest:0.25:7", "trainval:held_out:0.25:7")
    assert chosen(["trainval", "val"], fraction=0.25) == trainval
    assert chosen(["trainval", "val"]) == ("trainval", "")
    assert chosen(["all"], fraction=0.5)[0] == "all:rest:0.5:7"
    # Who learns from the usual validation split does not measure on it, nor on what holds it.
    assert chosen(["train", "val"], train="val", fraction=0.5)[1] == "val:held_out:0.5:7"
    assert chosen(["trainval", "val"], train="trainval:rest:0.5:7") == ("trainval:rest:0.5:7", "")
    with pytest.raises(ValueError, match="a share already"):
        chosen(["train"], train=parts[0], fraction=0.25)


def test_a_share_is_drawn_by_names_and_seed():
    names = [f"folder/{i}.jpg" for i in range(4000)]
    shares = [Share(0.2, seed, held_out=True) for seed in (0, 1)]
    one, other = ({name for name in names if share.has(name)} for share in shares)
    assert 700 < len(one) < 900
    assert 100 < len(one & other) < 220  # a fifth of a fifth
    rest = Share(0.2, 0, held_out=False)
    assert {name for name in names if rest.has(name)} == set(names) - one
    more = Share(0.3, 0, held_out=True)
    assert all(more.has(name) for name in one)
    assert {name for name in names if shares[0].has(f"elsewhere/{name}")} == one


def test_copies_of_a_picture_stay_together():
    """Roboflow's exports have several augmented ones of each."""
    share = Share(0.3, 0, held_out=True)
    lots = [{share.has(f"p{i}_jpg.rf.{i * 7 + copy:032x}.jpg") for copy in range(3)}
            for i in range(200)]  # fmt: skip
    assert all(len(lot) == 1 for lot in lots)
    assert 30 < sum(True in lot for lot in lots) < 90


def test_how_a_share_is_written():
    assert share_of("train") == ("train", None)
    assert share_of("train:held_out:0.2") == ("train", Share(0.2, 0, held_out=True))
    assert share_of("train:rest:0.2:7") == ("train", Share(0.2, 7, held_out=False))
    for wrong in ("train:", "train:some:0.2", "train:rest:2", "train:rest:nan", "t:rest:0.1:x:y"):
        with pytest.raises(ValueError, match=r"expected a name, or as in 'train:held_out:0\.2'"):
            share_of(wrong)


@pytest.mark.usefixtures("own_cache")
def test_every_layout_holds_out_the_same(tmp_path):
    roots = [write_coco(tmp_path / "c"), write_voc(tmp_path / "v"), write_yolo(tmp_path / "y")]
    roots.append(prepare_tfds_folder(roots[1], tmp_path / "t"))
    for root in roots:
        data = DataConfig(str(root), val_split="", train_split="train", categories="dataset")
        data = dataclasses.replace(data, val_fraction=0.4, split_seed=1)
        data = settled(TrainConfig(model=NARROW, data=data), tmp_path).data
        learned = training_set(data)
        names = [learned.pictures.name(i).rpartition("/")[2] for i in range(len(learned))]
        dataset, _ = read_evaluation_set(root, data.val_split)
        held_out = [image.path.name for image in dataset.images]
        assert held_out == ["a.png", "e.png"]
        assert sorted(names + held_out) == sorted(PICTURES["train"])
    with pytest.raises(ValueError, match=r"no picture in val:held_out:0\.01, of 2 in val; choose"):
        read_records(roots[0], "val:held_out:0.01")


def test_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"data\.root is empty; say --config\.data\.root="):
        settled(TrainConfig(model=NARROW), tmp_path)
    with pytest.raises(ValueError, match=r"data\.val_fraction is 1.0, and must be in \[0, 1\)"):
        DataConfig(val_fraction=1.0)
