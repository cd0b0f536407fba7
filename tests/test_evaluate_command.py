"""`scripts/evaluate.py`, as a user types it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, make_detector

from anchor_detr_jax.command import compilation_cache

ROOT = Path(__file__).parents[1]
SIDES = ["--short_side=96", "--long_side=160"]
FAKE = DATA / "coco_eval/instances_val2014_fakebbox100_results.json"
TRUTH = DATA / "coco_eval/instances_val2014_100.json"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}


def evaluate(*arguments, fails=False, **environment):
    """The command; where it fails, it says why in one line of its own and leaves no traceback."""
    done = subprocess.run(
        [sys.executable, "scripts/evaluate.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT | {"JAX_PLATFORMS": "cpu"} | environment,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == (1 if fails else 0), done.stderr
    if fails:
        # A progress bar may stand before it, in lines of its own.
        *before, last = done.stderr.splitlines()
        assert last.startswith("error: ")
        assert all("images/s]" in line for line in before if line), done.stderr
        return last
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "narrow"
    make_detector().save(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs, shared by these tests and not with the user's."""
    return {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def test_per_class_and_scorers(tmp_path):
    said = {}
    for scorer in ("pycocotools", "hotcoco"):
        output = tmp_path / f"{scorer}.json"
        options = ["--results", FAKE, "--annotations", TRUTH, "--output", output]
        text = evaluate(*options, "--per_class", f"--scorer={scorer}")
        assert text.count("Average") == 12
        said[scorer] = text.replace(scorer, "")
        assert output.read_bytes() == (tmp_path / "pycocotools.json").read_bytes()
    assert said["hotcoco"] == said["pycocotools"]
    stats, classes = (
        [json.loads((tmp_path / f"{s}.json.{kind}.json").read_text()) for s in said]
        for kind in ("stats", "per_class")
    )
    assert stats[0] == stats[1]
    assert classes[0] == classes[1]
    assert len(classes[0]) == 80
    assert set(classes[0][0]) == {"id", "name", "ap", "ap50", "boxes"}
    known = [c["ap"] for c in classes[0] if c["ap"] is not None]
    np.testing.assert_allclose(np.mean(known), stats[0][0], rtol=1e-12)
    table = said["pycocotools"].split("category", 1)[1]
    assert "bear" in table


def test_test_dev_is_detected_and_not_scored(checkpoint, cache, tmp_path):
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    (coco / "test2017").symlink_to(DATA / "coco/val2017")
    info = json.loads((DATA / "coco/annotations/instances_val2017.json").read_text())
    del info["annotations"]
    info["images"] = info["images"][:2]
    (coco / "annotations/image_info_test-dev2017.json").write_text(json.dumps(info))
    output = tmp_path / "r.json"
    (tmp_path / "r.json.stats.json").write_text("[]")  # of an earlier run
    options = ["--checkpoint", checkpoint, "--output", output, *SIDES]
    text = evaluate(*options, "--coco", coco, "--split=test-dev2017", **cache)
    assert "2 images in" in text
    assert "Average" not in text
    assert "nothing was scored" in text
    assert "detections_test-dev2017_NAME_results.json" in text
    assert "upload" in text
    results = json.loads(output.read_text())
    assert {r["image_id"] for r in results} == {image["id"] for image in info["images"]}
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco", "r.json"]

    annotations = tmp_path / "mine.json"
    annotations.write_text(json.dumps(info))
    pictures = ["--images", coco / "test2017"]
    text = evaluate(*options, "--annotations", annotations, *pictures, **cache)
    assert f"{annotations} has no annotations, so nothing was scored" in text
    assert f"--results {output}" in text
    assert json.loads(output.read_text()) == results
    # Programs were kept, in the folder that was said.
    assert list(Path(cache["XDG_CACHE_HOME"]).glob("anchor_detr_jax/jit_detect*"))


def test_a_corrupt_picture_is_named_at_the_end(checkpoint, cache, tmp_path):
    shutil.copytree(DATA / "coco", tmp_path / "coco")
    broken = tmp_path / "coco/val2017/000000168974.jpg"
    broken.write_bytes(b"no picture")
    output = tmp_path / "r.json"
    options = ["--checkpoint", checkpoint, "--coco", tmp_path / "coco", *SIDES]
    says = evaluate(*options, "--output", output, fails=True, **cache)
    assert f"1 of 5 pictures cannot be read, first {broken}: " in says
    partial = tmp_path / "r.json.partial.json"
    assert str(partial) in says
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coco", "r.json.partial.json"]
    assert len({r["image_id"] for r in json.loads(partial.read_text())}) == 4
    annotations = tmp_path / "coco/annotations/instances_val2017.json"
    scored = ["--results", partial, "--annotations", annotations, "--output", tmp_path / "s.json"]
    assert evaluate(*scored).count("Average") == 12


def test_a_report_of_results_with_pictures_and_pascal_voc_s_numbers(tmp_path):
    annotations = DATA / "coco/annotations/instances_val2017.json"
    content = json.loads(annotations.read_text())
    results = [
        {k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for a in content["annotations"][::2]
    ]
    (tmp_path / "r.json").write_text(json.dumps(results))
    output, page = tmp_path / "s.json", tmp_path / "page.html"
    options = ["--results", tmp_path / "r.json", "--output", output, "--report", page]
    truth = ["--annotations", annotations]
    text = evaluate(*options, *truth, "--images", DATA / "coco/val2017", "--voc")
    stats = json.loads((tmp_path / "s.json.stats.json").read_text())
    numbers = json.loads((tmp_path / "page.html.json").read_text())
    assert numbers["coco"]["AP"] == stats[0]
    voc = json.loads((tmp_path / "s.json.voc.json").read_text())
    assert voc["ap_all"] == numbers["voc"]["ap_all"]
    assert f"over 11 points {voc['ap_11']:.3f}, over all points {voc['ap_all']:.3f}" in text
    assert f"{page}, its numbers in {page}.json" in text
    with_pictures = page.read_text()
    assert with_pictures.count("image/jpeg") == len(numbers["worst_images"]) > 0
    assert evaluate(*options, *truth).count("Average") == 12
    assert "image/jpeg" not in page.read_text()
    assert not (tmp_path / "s.json.voc.json").exists()  # it was of an earlier run
    # The same by the data set's folder, whose only split that begins with val it is.
    evaluate(*options, "--data", DATA / "coco")
    assert len(page.read_text()) == pytest.approx(len(with_pictures), rel=0.01)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("page.html", "page.html.json", "r.json", "s.json", "s.json.stats.json")
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--results=r.json"], "--results needs --annotations, or --data"),
        (["--results=r.json", "--coco=a", "--data=b"], "say either --coco or --data"),
        (["--coco=a", "--images=b"], "say either --coco or --data"),
        (["--annotations=a", "--report=no/such/p.html"], "--report no/such/p.html: there is no"),
    ],
)
def test_what_to_say_is_said(options, says, tmp_path):
    assert says in evaluate(*options, "--output", tmp_path / "o.json", fails=True)


def test_which_split_is_asked_for_if_no_name_begins_with_val(tmp_path):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for split in ("one", "two"):
        (tmp_path / "coco" / split).symlink_to(DATA / "coco/val2017")
        shutil.copy(
            DATA / "coco/annotations/instances_val2017.json",
            tmp_path / f"coco/annotations/instances_{split}.json",
        )
    (tmp_path / "r.json").write_text("[]")
    options = ["--results", tmp_path / "r.json", "--data", tmp_path / "coco"]
    says = evaluate(*options, "--output", tmp_path / "o.json", fails=True)
    assert "--split is missing" in says
    assert "has one, two" in says
    assert "= 0.000" in evaluate(*options, "--split=two", "--output", tmp_path / "o.json")


def test_a_report_needs_annotations_before_anything_is_detected(tmp_path):
    annotations = tmp_path / "a.json"
    annotations.write_text('{"images": [{"id": 1, "file_name": "000000005001.jpg"}]}')
    data = ["--annotations", annotations, "--images", DATA / "coco/val2017"]
    options = ["--checkpoint=nowhere", *data, "--output", tmp_path / "o.json", "--voc"]
    assert "a.json has no annotations to score" in evaluate(*options, fails=True)


def bad_results(content):
    return lambda folder: (folder / "results.json").write_text(content)


def bad_truth(content):
    return lambda folder: (folder / "truth.json").write_text(content)


@pytest.mark.parametrize(
    ("prepare", "output", "says"),
    [
        (bad_results("[{"), "o.json", "results.json is no JSON file"),
        (bad_results("{}"), "o.json", "holds a dict, expected a list"),
        (bad_results('[{"image_id": 42}]'), "o.json", "results.json: result 0 is not in COCO's"),
        (bad_results('[{"image_id": 4, "score": NaN}]'), "o.json", "results.json: result 0"),
        (bad_truth("[{"), "o.json", "truth.json is no COCO annotation file"),
        (
            bad_truth('{"images": [{"id": 3}, {"id": 3}]}'),
            "o.json",
            "more than one image with id 3",
        ),
        (bad_truth('{"images": [{"id": 3}]}'), "o.json", "truth.json has no annotations to score"),
        (lambda folder: None, "no/such/o.json", "there is no folder"),
        (lambda folder: None, "results.json/o.json", "results.json is a file"),
        (lambda folder: None, "", "is a folder, expected a file's name"),
    ],
)
def test_bad_scoring_input_is_one_line_and_writes_nothing(tmp_path, prepare, output, says):
    shutil.copy(FAKE, tmp_path / "results.json")
    shutil.copy(TRUTH, tmp_path / "truth.json")
    prepare(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    options = ["--results", tmp_path / "results.json", "--annotations", tmp_path / "truth.json"]
    assert says in evaluate(*options, "--output", tmp_path / output, fails=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        (None, "neither annotations/instances_val2017.json nor"),
        ('{"images": [{"id": 1, "file_name": "x.jpg"}]}', "x.jpg"),
        ('{"images": [{"id": 1, "file_name": 3}]}', "without file_name"),
        (
            '{"images": [{"id": 1, "file_name": "000000005001.jpg"}], "annotations": [1]}',
            "needs categories",
        ),
    ],
)
def test_a_bad_data_set_ends_before_the_model_is_loaded(tmp_path, annotations, says):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/val2017").symlink_to(DATA / "coco/val2017")
    if annotations:
        (tmp_path / "coco/annotations/instances_val2017.json").write_text(annotations)
    options = ["--checkpoint=nowhere", "--coco", tmp_path / "coco"]
    assert says in evaluate(*options, "--output", tmp_path / "o.json", fails=True)
    assert [p.name for p in tmp_path.iterdir()] == ["coco"]


def test_where_programs_are_kept(tmp_path):
    chosen = {"XDG_CACHE_HOME": str(tmp_path / "x")}
    assert compilation_cache(chosen) == tmp_path / "x/anchor_detr_jax"
    assert (tmp_path / "x/anchor_detr_jax").is_dir()
    assert compilation_cache(chosen | {"JAX_COMPILATION_CACHE_DIR": "/mine"}) is None
    (tmp_path / "file").write_text("")
    assert compilation_cache({"XDG_CACHE_HOME": str(tmp_path / "file")}) is None


def test_they_are_kept_at_home_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache/anchor_detr_jax"
    assert compilation_cache({}) == expected
    assert compilation_cache({"XDG_CACHE_HOME": "relative"}) == expected  # as the standard says


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_breaks_nothing(checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    annotations = tmp_path / "a.json"
    annotations.write_text('{"images": [{"id": 1, "file_name": "000000005001.jpg"}]}')
    data = ["--annotations", annotations, "--images", DATA / "coco/val2017"]
    options = ["--checkpoint", checkpoint, *data, *SIDES, "--output", tmp_path / "r.json"]
    assert "1 images in" in evaluate(*options, XDG_CACHE_HOME=str(tmp_path / "file"))


def test_importing_the_library_keeps_nothing(tmp_path):
    program = "import os, anchor_detr_jax.detector; print(*os.environ)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    assert "JAX_COMPILATION_CACHE_DIR" not in done.stdout
    assert "PATH" in done.stdout
