"""What a run writes for people to look at: rows of numbers, and pictures."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from PIL import Image

from anchor_detr_jax.whole_files import append_whole, file_written_whole

__all__ = ["RunLog", "read_rows"]

_KINDS = ("train", "eval")


class RunLog:
    """Writes a run's numbers and pictures, in its folder and where else they are wanted.

    For each kind of row, `train` and `eval`, there are KIND.jsonl and KIND.csv: one row a step,
    `step` first, floats with all their digits, so that two runs can be compared to the bit. What is
    not finite is "nan", "inf" or "-inf", in JSON as a string. A CSV file has the columns of all its
    rows, in the order in which they came, and empty cells where a row lacks one. A row is in its
    files when `write` returns: a kill loses none.

    A run that goes on at `start_step` drops the rows of later steps, which the run before it wrote
    after its last checkpoint, and a last line that a kill left half written. The CSV file is then
    made anew from the JSON lines.

    TensorBoard's files, in `tensorboard/`, hold the same: a train row's numbers by their names,
    those of an eval row under `eval/`.

    W&B goes on with the run whose id is in `wandb_id.txt`. It takes no step twice, so of the steps
    that are done again it keeps the numbers of the first time.

    Attributes:
        folder: of the run.
    """

    def __init__(
        self,
        folder: Path,
        *,
        start_step: int = 0,
        tensorboard: bool = True,
        wandb_project: str = "",
        wandb_config: Mapping[str, Any] | None = None,
    ):
        """Open a run's log; one process of a run does.

        Args:
            folder: of the run; made if need be.
            start_step: the last step that counts as done; 0 starts over.
            tensorboard: also write TensorBoard's event files.
            wandb_project: also send all to this project of W&B.
            wandb_config: what W&B shows as the run's settings.

        Raises:
            ValueError: if W&B is wanted and not installed, or a file here is no run's log.
            OSError: if a file cannot be written; it has the file's name, as at every write.
        """
        self.folder = folder
        self._wandb = _import_wandb(wandb_project) if wandb_project else None
        folder.mkdir(parents=True, exist_ok=True)
        self._tables = {kind: _Table(folder, kind, start_step) for kind in _KINDS}
        self._events = None
        if tensorboard:
            from anchor_detr_jax.training.event_file import EventFile

            self._events = EventFile(folder / "tensorboard", start_step)
        self._wandb_run = self._wandb and self._wandb.init(
            project=wandb_project,
            config=dict(wandb_config or {}),
            dir=str(folder),
            name=folder.resolve().name,
            id=_wandb_id(folder / "wandb_id.txt", start_step),
            resume="allow",
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        """Say to W&B how the run ended; the files are whole at any time."""
        if self._wandb_run:
            self._wandb_run.finish(exit_code=0 if error is None else 1)
        self._wandb_run = None

    def write(self, kind: str, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Add a row. One of the last row's step takes that row's place.

        Args:
            kind: "train" or "eval".
            step: steps done.
            values: numbers by name; "/" makes groups, as in "loss/total".

        Raises:
            ValueError: for another kind, a step before the last row's, or a value named "step".
        """
        if kind not in self._tables:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(_KINDS)}")
        if "step" in values:
            raise ValueError('a value is named "step", which is the row\'s own; choose another')
        numbers = {name: float(value) for name, value in values.items()}
        self._tables[kind].add(step, numbers)
        shown = {_shown_name(kind, name): value for name, value in numbers.items()}
        if self._events:
            self._events.add_scalars(step, shown)
        if self._wandb_run:
            self._wandb_run.log(shown, step=step)

    def picture(self, name: str, step: int, image: Image.Image) -> Path:
        """Keep a picture, as `pictures/NAME_STEP.jpg` with eight digits of the step.

        Returns:
            The file.

        Raises:
            ValueError: if a file cannot have this name.
        """
        if not name or Path(name).name != name:
            raise ValueError(f"a picture's name is {name!r}, expected one that a file can have")
        encoded = io.BytesIO()
        image.convert("RGB").save(encoded, "JPEG", quality=92, subsampling=0)
        path = self.folder / "pictures" / f"{name}_{step:08d}.jpg"
        path.parent.mkdir(exist_ok=True)
        with file_written_whole(path) as file:
            file.write(encoded.getvalue())
        if self._events:
            self._events.add_picture(step, f"pictures/{name}", image.size, encoded.getvalue())
        if self._wandb and self._wandb_run:
            self._wandb_run.log({f"pictures/{name}": self._wandb.Image(image)}, step=step)
        return path


def read_rows(path: str | Path) -> list[dict[str, float]]:
    """The rows of a JSON lines file of `RunLog`, without a last one that is half written.

    Raises:
        ValueError: if another line is no row; it says which.
        OSError: if the file cannot be read.
    """
    return list(_rows(Path(path)))


class _Table:
    """The rows of one kind. The JSON lines count; the CSV file shows the same."""

    def __init__(self, folder: Path, kind: str, start_step: int) -> None:
        self._lines = folder / f"{kind}.jsonl"
        self._csv = folder / f"{kind}.csv"
        self._columns: dict[str, None] = {}  # a set that keeps its order
        self._last_step = -1
        if self._lines.exists():
            self._keep_until(start_step)

    def add(self, step: int, numbers: dict[str, float]) -> None:
        if step < self._last_step:
            raise ValueError(
                f"{self._lines}: a row of step {step} came after one of step {self._last_step}; "
                "to go back, open the log anew with start_step"
            )
        if step == self._last_step:
            self._keep_until(step - 1)
        row = {"step": float(step), **numbers}
        append_whole(self._lines, _json_line(row))
        self._last_step = step
        if row.keys() <= self._columns.keys():
            append_whole(self._csv, self._csv_row(row))
        else:
            self._columns |= dict.fromkeys(row)
            self._write_csv()

    def _keep_until(self, last_step: int) -> None:
        self._columns, self._last_step = {}, -1
        with file_written_whole(self._lines) as file:
            for row in _rows(self._lines):
                if row["step"] <= last_step:
                    file.write(_json_line(row))
                    self._columns |= dict.fromkeys(row)
                    self._last_step = int(row["step"])
        self._write_csv()

    def _write_csv(self) -> None:
        with file_written_whole(self._csv) as file:
            file.write(_csv_line(self._columns) if self._columns else b"")
            for row in _rows(self._lines):
                file.write(self._csv_row(row))

    def _csv_row(self, row: dict[str, float]) -> bytes:
        cells: list[Any] = [row.get(name, "") for name in self._columns]
        return _csv_line([int(row["step"]), *cells[1:]])


def _rows(path: Path) -> Iterator[dict[str, float]]:
    """As `read_rows`, one after another: a long run's rows need not fit into memory."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = {name: float(value) for name, value in json.loads(line).items()}
                row = {"step": row.pop("step"), **row}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                if not file.read(1):  # the last line
                    return
                fault = f"{type(error).__name__}: {error}"
                raise ValueError(
                    f"{path}: line {number} is no row of numbers with a step ({fault}); remove it"
                ) from None
            yield row


def _json_line(row: Mapping[str, float]) -> bytes:
    shown = {name: x if math.isfinite(x) else str(x) for name, x in row.items()}
    line = json.dumps({**shown, "step": int(row["step"])}, ensure_ascii=False, allow_nan=False)
    return (line + "\n").encode()


def _csv_line(cells: Iterable[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _shown_name(kind: str, name: str) -> str:
    return name if kind == "train" else f"{kind}/{name}"


def _import_wandb(project: str) -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ValueError(
            f"wandb_project is {project!r}, but W&B cannot be imported ({error}); "
            'pip install "anchor_detr_jax[wandb]", or leave wandb_project empty'
        ) from None


def _wandb_id(path: Path, start_step: int) -> str:
    """The id of this run at W&B: a new one for a run that starts."""
    if start_step == 0 or not path.exists():
        with file_written_whole(path) as file:
            file.write(secrets.token_hex(8).encode())
    return path.read_text().strip()
