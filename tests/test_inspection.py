"""The dataset doctor: finds each fault, and none where there is none."""

import dataclasses
import json
import random

import numpy as np
import pytest
from broken_data import broken_coco, broken_voc, broken_yolo, clean_coco
from conftest import DATA
from narrow_run import get_config

from anchor_detr_jax.inspection import doctor, inspect_data
from anchor_detr_jax.inspection.page import inspection_page, inspection_summary
from anchor_detr_jax.inspection.training_plan import TrainingPreview
from anchor_detr_jax.training.config import EvaluationConfig, train_config_from_dict


def narrow_config(**data):
    values = get_config().to_dict()
    values["data"].update(categories="dataset", train_split="train2017", **data)
    return train_config_from_dict(values)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A data set broken in many ways, what is to be found in it, and what was found."""
    root = tmp_path_factory.mktemp("broken") / "coco"
    faults = broken_coco(root)
    return root, faults, inspect_data(root, config=narrow_config())


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    root = tmp_path_factory.mktemp("clean") / "coco"
    clean_coco(root)
    return inspect_data(root, config=narrow_config())


@pytest.fixture
def checks_only(monkeypatch):
    """No preview of training, which takes longer than all checks of a small data set."""
    monkeypatch.setattr(doctor, "preview_training", lambda *_, **__: TrainingPreview())


def not_found(faults, inspection):
    return [
        fault
        for fault in faults
        if not any(f.kind == fault.kind and fault.named in f.where for f in inspection.findings)
    ]


def test_each_fault_is_found_and_named(broken):
    _, faults, inspection = broken
    assert len({fault.kind for fault in faults}) >= 20
    assert not_found(faults, inspection) == []


def test_every_word_of_it_is_meant(broken):
    """Nothing is found of kinds that the builder did not put in, but for what follows from them."""
    _, faults, inspection = broken
    follows = {"box small for the model", "training would refuse"}
    assert {f.kind for f in inspection.findings} - follows == {fault.kind for fault in faults}


@pytest.mark.usefixtures("checks_only")
@pytest.mark.parametrize("build", [broken_voc, broken_yolo])
def test_faults_of_other_layouts_are_found(build, tmp_path):
    faults = build(tmp_path / "data")
    inspection = inspect_data(tmp_path / "data", config=narrow_config(), quick=True)
    assert not_found(faults, inspection) == []


def test_a_clean_data_set_has_no_findings(clean):
    assert clean.findings == ()
    assert clean.training.refusal == ""
    assert list(inspection_summary(clean))[-1].startswith("nothing is wrong")


@pytest.mark.usefixtures("checks_only")
def test_photographs_have_nothing_but_unused_categories():
    config = dataclasses.replace(narrow_config(), evaluation=EvaluationConfig())
    inspection = inspect_data(DATA / "coco", config=config)
    assert {f.kind for f in inspection.findings} == {"unused category"}


def shuffled(records, seed):
    rng = random.Random(seed)  # noqa: S311
    pictures = [
        dataclasses.replace(p, boxes=tuple(rng.sample(p.boxes, len(p.boxes))))
        for p in records.pictures
    ]
    rng.shuffle(pictures)
    return dataclasses.replace(records, pictures=pictures)


@pytest.mark.usefixtures("checks_only")
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_records_changes_nothing(broken, monkeypatch, seed):
    root, _, inspection = broken
    read = doctor.read_records
    monkeypatch.setattr(doctor, "read_records", lambda *a: shuffled(read(*a), seed))
    expected = tuple(f for f in inspection.findings if f.kind != "training would refuse")
    assert inspect_data(root, config=narrow_config()).findings == expected


@pytest.mark.usefixtures("checks_only")
def test_quick_decodes_nothing_and_finds_the_rest(broken):
    root, faults, _ = broken
    quick = inspect_data(root, config=narrow_config(), quick=True)
    left = {fault.kind for fault in not_found(faults, quick)}
    assert left == {
        "damaged picture",
        "picture twice",
        "picture in two splits",
        "similar pictures",
        "similar pictures in two splits",
    }


def test_json_has_everything(broken):
    _, _, inspection = broken
    content = json.loads(json.dumps(inspection.to_json(), allow_nan=False))
    assert len(content["findings"]) == len(inspection.findings)
    assert content["findings"][0] == dataclasses.asdict(inspection.findings[0])
    assert sum(content["counts"].values()) == len(inspection.findings)
    train = content["splits"][0]
    assert train["name"] == "train2017"
    assert train["pictures"] == len(inspection.splits[0].hw)
    assert set(train["boxes_by_category"]) >= {"cell", "plate", "rare", "<script>never</script>"}


def test_a_preview_says_what_training_would_do(clean, broken):
    plan = clean.training.plan
    assert (plan.pictures, plan.steps, plan.batch_size) == (4, 2, 2)
    assert sum(bucket.steps for bucket in plan.buckets) == plan.steps
    assert clean.training.sheet.width == 1100
    assert broken[2].training.plan is None
    assert any("would refuse" in line for line in inspection_summary(broken[2]))


def test_numbers_by_hand(clean):
    train, val = clean.splits
    assert (len(train.hw), train.boxes, train.empty, train.crowd) == (4, 4, 0, 0)
    assert (len(val.hw), val.boxes) == (2, 2)
    assert train.per_name(clean.categories) == {"cell": 2, "plate": 2}
    np.testing.assert_array_equal(train.hw, [[64, 96]] * 4)
    np.testing.assert_array_equal(train.xyxy_px, [[10, 10, 40, 30]] * 4)


def test_the_page_shows_text_as_text(broken):
    page = inspection_page(broken[2])
    assert "&lt;script&gt;never&lt;/script&gt;" in page
    assert "<script" not in page
    for kind in {f.kind for f in broken[2].findings}:
        assert f"{kind} (" in page


def test_figures_are_drawn_for_any_data(clean, broken):
    assert len(clean.figures()) == len(broken[2].figures()) == 6


@pytest.mark.usefixtures("checks_only")
def test_a_split_without_boxes_is_said_once_and_its_files_are_looked_at(tmp_path):
    clean_coco(tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_val2017.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    (tmp_path / "coco/val2017/5.jpg").write_bytes(b"")
    inspection = inspect_data(tmp_path / "coco", config=narrow_config())
    assert [f.kind for f in inspection.findings] == ["empty file", "no annotations"]
    nothing = inspect_data(tmp_path / "coco", splits=["val2017"], config=narrow_config())
    assert {f.kind for f in nothing.findings} == {"empty file", "no boxes", "unused category"}
    assert len(nothing.figures()) == 6


@pytest.mark.usefixtures("checks_only")
def test_a_wrong_unit_is_said_once(tmp_path):
    clean_coco(tmp_path / "coco")
    file = tmp_path / "coco/annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    fractions = [[0.1, 0.1 * i, 0.3, 0.05] for i in range(8)] * 2
    content["annotations"] = [
        {"id": i, "image_id": 1 + i % 4, "category_id": 1, "bbox": box}
        for i, box in enumerate(fractions)
    ]
    file.write_text(json.dumps(content))
    kinds = [f.kind for f in inspect_data(tmp_path / "coco", config=narrow_config()).findings]
    assert kinds.count("boxes as fractions") == 1
    corners = [[60, 30, 80 + i % 4, 50 + i // 4] for i in range(16)]
    for annotation, box in zip(content["annotations"], corners, strict=True):
        annotation["bbox"] = box
    file.write_text(json.dumps(content))
    kinds = [f.kind for f in inspect_data(tmp_path / "coco", config=narrow_config()).findings]
    assert kinds.count("boxes as corners") == 1
    assert "boxes as fractions" not in kinds
