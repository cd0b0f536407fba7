"""What TensorBoard and Weights & Biases are told of a run."""

import sys
import types

import pytest
from PIL import Image
from tensorboardX.record_writer import RecordWriter
from test_run_log import events, largest_file, scalars

from anchor_detr_jax.training.run_log import RunLog


def test_a_full_disk_does_not_hang_tensorboard(tmp_path):
    log = RunLog(tmp_path)

    def write_on():
        for step in range(60):
            log.write("train", step, {"a": 1})

    with largest_file(1000), pytest.raises(OSError, match="tfevents"):
        write_on()
    steps = [step for step, _ in scalars(tmp_path, "a")]
    assert steps == [*range(len(steps))]
    assert 15 < len(steps) < 40


def test_tensorboards_files_are_as_tensorboardx_frames_them(tmp_path):
    with RunLog(tmp_path / "run") as log:
        log.write("train", 3, {"loss/total": 0.5, "lr/rest": 0.25})
        log.write("eval", 3, {"AP": 0.125})
        log.picture("beside", 3, Image.new("RGB", (20, 10), (255, 0, 0)))
    (file,) = events(tmp_path / "run")
    assert file[0].file_version == "brain.Event:2"
    writer = RecordWriter(str(tmp_path / "theirs"))
    for event in file:
        writer.write(event.SerializeToString())
    writer.close()
    (path,) = (tmp_path / "run/tensorboard").iterdir()
    assert path.read_bytes() == (tmp_path / "theirs").read_bytes()
    assert scalars(tmp_path / "run", "loss/total") == [(3, 0.5)]
    assert scalars(tmp_path / "run", "eval/AP") == [(3, 0.125)]
    (shown,) = file[-1].summary.value
    assert (shown.tag, shown.image.width, shown.image.height) == ("pictures/beside", 20, 10)
    kept = (tmp_path / "run/pictures/beside_00000003.jpg").read_bytes()
    assert shown.image.encoded_image_string == kept


def test_tensorboard_forgets_what_is_done_again(tmp_path):
    for start in (0, 4, 8):  # within a second: each has a file of its own all the same
        with RunLog(tmp_path, start_step=start) as log:
            log.write("train", start + 1, {"a": 1})
    files = list(events(tmp_path))
    starts = [(event.step, event.session_log.status) for file in files for event in file[1:2]]
    assert starts == [(1, 1), (5, 1), (9, 1)]


class FakeWandb(types.ModuleType):
    """Keeps what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.told = [], []

    def init(self, **settings):  # noqa: D102
        self.started.append(settings)
        return types.SimpleNamespace(
            log=lambda values, step: self.told.append((step, values)),
            finish=lambda exit_code: self.told.append(exit_code),
        )

    def Image(self, picture):  # noqa: D102, N802
        return picture.size


def test_wandb_is_told_the_same_and_goes_on_with_its_run(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    options = {"wandb_project": "fish", "tensorboard": False}
    with RunLog(tmp_path / "r", **options, wandb_config={"seed": 3}) as log:
        log.write("train", 1, {"loss/total": 2.5})
        log.write("eval", 1, {"AP": 0.5})
        log.picture("beside", 1, Image.new("RGB", (20, 10)))
    expected = [{"loss/total": 2.5}, {"eval/AP": 0.5}, {"pictures/beside": (20, 10)}]
    assert wandb.told == [(1, values) for values in expected] + [0]
    with pytest.raises(ZeroDivisionError), RunLog(tmp_path / "r", start_step=1, **options):
        _ = 1 / 0
    assert wandb.told[-1] == 1  # the exit code of a run that failed
    RunLog(tmp_path / "r", **options)
    first, resumed, over = wandb.started
    assert first["project"] == "fish"
    assert first["config"] == {"seed": 3}
    assert (first["name"], first["dir"]) == ("r", str(tmp_path / "r"))
    assert first["id"] == resumed["id"] != over["id"]
    assert {run["resume"] for run in wandb.started} == {"allow"}


def test_wandb_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r'pip install "anchor_detr_jax\[wandb\]"'):
        RunLog(tmp_path / "r", wandb_project="fish")
    assert not (tmp_path / "r").exists()
    RunLog(tmp_path / "r", tensorboard=False)
