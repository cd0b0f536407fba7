"""scripts/visualize.py, on pictures, on a data set, and on what cannot be."""

import dataclasses

import pytest
from conftest import DATA, NARROW, make_detector
from PIL import Image
from test_commands import errors_of, one_error, run

SIDES = ("--short_side=64", "--long_side=96")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A detector of three levels."""
    backbone = dataclasses.replace(NARROW.backbone, dilation=True)
    folder = tmp_path_factory.mktemp("levels") / "out"
    make_detector(dataclasses.replace(NARROW, backbone=backbone, num_levels=3)).save(folder)
    return folder


def visualize(checkpoint, output, *arguments, check=True):
    script = ("scripts/visualize.py", "--checkpoint", checkpoint, "--output", output)
    return run(*script, *SIDES, *arguments, check=check)


@pytest.mark.slow
def test_everything_of_a_data_set(checkpoint, tmp_path):
    data = ("--data", DATA / "coco", "--split=val2017", "--count=1", "--threshold=0.2")
    done = visualize(checkpoint, tmp_path / "drawn", *data)
    kinds = ["truth", "anchors", "patterns", "layers"]
    kinds += [f"attention_0_C{level}{suffix}" for level in (3, 4, 5) for suffix in ("", "_all")]
    expected = {f"000000005001_{kind}.png" for kind in kinds} | {"scatter.png", "queries.png"}
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == expected
    assert "000000005001: 0 kind " in done.stdout
    with Image.open(tmp_path / "drawn/000000005001_truth.png") as picture:
        assert picture.width > 2 * 640


@pytest.mark.slow
def test_a_bad_picture_and_one_without_detections(checkpoint, tmp_path):
    (tmp_path / "bad.jpg").write_text("no picture")
    Image.new("RGB", (96, 64)).save(tmp_path / "black.png")
    photograph = DATA / "coco/val2017/000000005001.jpg"
    done = visualize(
        *(checkpoint, tmp_path / "drawn", "--images", tmp_path, photograph),
        *("--what=patterns,anchors", "--threshold=0.999"),
        check=False,
    )
    errors = errors_of(done)
    assert len(errors) == 4
    assert "bad.jpg: not a readable image" in errors[0]
    assert "no detection reaches the threshold of 0.999; the best has 0." in errors[1]
    assert "3 of 3 pictures failed" in errors[3]
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {"black_anchors.png", "000000005001_anchors.png"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer=2"], "--layer is 2, and must be from 0 to 1, or -1 for the last"),
        (["--head=4"], "--head is 4, and must be from 0 to 3"),
        (["--head=best"], "--head is 'best', and must be `mean` or from 0 to 3"),
        (["--threshold=0", "--detection=70"], "detection is 70, and must be from 0 to 69"),
    ],
)
def test_numbers_that_there_are_not(checkpoint, tmp_path, arguments, says):
    photograph = DATA / "coco/val2017/000000005001.jpg"
    arguments = ["--images", photograph, "--what=attention", *arguments]
    done = visualize(checkpoint, tmp_path / "drawn", *arguments, check=False)
    assert done.returncode == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say either --images, or --data"),
        (["--images=docs", "--data=docs"], "say either --images, or --data"),
        (["--images=docs"], "docs: the folder has no pictures"),
        (["--images=docs", "--what=anchors,paterns"], "--what paterns: did you mean patterns?"),
        (["--images=docs", "--what=truth"], "--what truth needs --data"),
    ],
)
def test_what_is_asked_for_is_checked_before_any_work(tmp_path, arguments, says):
    assert says in one_error(visualize("nowhere", tmp_path / "drawn", *arguments, check=False))
    assert not (tmp_path / "drawn").exists()
