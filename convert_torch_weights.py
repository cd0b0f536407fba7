"""Convert an official PyTorch checkpoint of Anchor DETR.

    python convert_torch_weights.py model.pth out/

PyTorch is not needed, and nothing in the file is run. `out/` can be given to every command as
--checkpoint, and to `anchor_detr_jax.load`.
"""

from pathlib import Path

from absl import flags

from anchor_detr_jax.checkpoint import save_folder
from anchor_detr_jax.command import run_command
from anchor_detr_jax.conversion.convert import read_torch_detector

_DILATION = flags.DEFINE_bool(
    "dilation", None, "Whether the model is a DC5, for files whose args do not say it."
)


def main(arguments: list[str]) -> None:
    """Convert the first argument into the second."""
    if len(arguments) != 2:
        raise ValueError(
            f"expected a checkpoint and a folder to write, got {len(arguments)} arguments: "
            "python convert_torch_weights.py model.pth out/"
        )
    source, folder = map(Path, arguments)
    detector, report = read_torch_detector(source, dilation=_DILATION.value)
    save_folder(folder, detector)
    print(f"{source} (sha256 {detector.source['sha256'][:16]}...)")
    print(report)
    print(f"model: {detector.config}")
    on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote {folder}, {on_disk / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main)
