"""scripts/predict.py, on good and bad pictures and folders."""

import json

import pytest
from PIL import Image
from test_commands import errors_of, one_error, run
from test_images import BAD, COLOURS


@pytest.fixture(scope="module")
def checkpoint(narrow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("narrow") / "out"
    narrow.save(folder)
    return folder


def test_a_folder_with_bad_pictures(checkpoint, tmp_path):
    """The rest is done, nothing overwrites anything, and all that failed is named."""
    folder, other = tmp_path / "a", tmp_path / "b"
    for place in (folder, other, folder / "folder.jpg"):
        place.mkdir()
    for path in ("a/x.png", "a/X.gif", "a/y.bmp", "b/x.bmp", "b/Y.jpg"):
        Image.fromarray(COLOURS).save(tmp_path / path)
    Image.new("RGB", (70_000, 1)).save(folder / "long.png")
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "._x.png").write_text("a file that some systems leave beside a picture")
    (folder / "readme.txt").write_text("no picture")
    done = run(
        *("scripts/predict.py", "--checkpoint", checkpoint, "--output", tmp_path / "drawn"),
        *("--short_side=64", "--long_side=96", "--threshold=0", "--top_k=3"),
        *("--images", folder, f"{other}/[xY].*", folder / "x.png"),
        check=False,
    )
    failed = {str(folder / name) for name in [*BAD, "gone.jpg"]}
    errors = errors_of(done)
    assert len(errors) == len(failed) + 1
    assert all(any(file in line for line in errors) for file in failed)
    assert "7 of 13 pictures failed" in errors[-1]
    assert "Warning" not in done.stderr
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {
        "X.jpg",
        "x_2.jpg",
        "x_3.jpg",
        "y.jpg",
        "Y_2.jpg",
        "long.png",
        "detections.json",
    }
    listed = json.loads((tmp_path / "drawn/detections.json").read_text())
    assert len(listed) == 13
    assert {file for file, one in listed.items() if "error" in one} == failed
    good = listed[str(other / "Y.jpg")]
    assert set(good) == {"boxes", "scores", "labels", "names"}
    assert [len(one) for one in good.values()] == [3] * 4


def test_an_output_that_cannot_be_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    Image.fromarray(COLOURS).save(tmp_path / "x.png")
    for output, says in {
        tmp_path / "file": "no folder to write to",
        tmp_path / "file/below": "no folder to write to",
        tmp_path: "has pictures of --images",
    }.items():
        done = run(
            *("scripts/predict.py", "--checkpoint=nowhere", "--images", tmp_path / "x.png"),
            *("--output", output),
            check=False,
        )
        error = one_error(done)
        assert error.startswith(f"error: --output {output}")
        assert says in error


def test_a_pattern_without_pictures(tmp_path):
    done = run(
        *("scripts/predict.py", "--checkpoint=nowhere", "--output", tmp_path / "drawn"),
        *("--images", f"{tmp_path}/*.jpg"),
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "the pattern has no pictures" in done.stderr


def test_a_size_that_is_none():
    done = run(
        *("scripts/predict.py", "--checkpoint=nowhere", "--output=drawn", "--images=x.jpg"),
        "--fixed_hw=640",
        check=False,
    )
    assert "expected HEIGHTxWIDTH, such as 640x640" in one_error(done)
