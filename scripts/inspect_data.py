"""Check a data set before it is trained on, and see what training would make of it.

    python scripts/inspect_data.py path/to/data --output inspection/
    python scripts/inspect_data.py path/to/data --quick --splits=train,val
    python scripts/inspect_data.py path/to/data --config configs/anchor_detr_r50_dc5.py

Takes COCO, Pascal VOC, YOLO and TFDS folders. Prints a summary; writes report.html, with plots and
augmented pictures, and report.json, with every finding. Exit codes: 1 for errors (training would
stop, or learn or measure something wrong), 0 otherwise.
"""

import json
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from anchor_detr_jax.command import run_command

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What would be trained: a file of configs/; configs/finetune.py by default."
)
_DATA = flags.DEFINE_string("data", None, "The folder, if it is not given without a flag.")
_SPLITS = flags.DEFINE_list("splits", None, "Splits to look at; all by default.")
_OUTPUT = flags.DEFINE_string("output", "inspection", "Folder for the report; made if need be.")
_QUICK = flags.DEFINE_bool("quick", False, "Read headers of pictures alone, and decode nothing.")
_MEMORY = flags.DEFINE_bool("memory", False, "Have XLA plan a step's memory: minutes on a CPU.")
_STRICT = flags.DEFINE_bool("strict", False, "Exit code 1 for warnings, too.")


def main(arguments: list[str]) -> int:
    """Look, say what was found, and write it down."""
    folders = [*arguments, *([_DATA.value] if _DATA.value else [])]
    if len(folders) != 1:
        raise ValueError(f"expected one folder with a data set, got {folders or 'none'}")

    from anchor_detr_jax.inspection import inspect_data
    from anchor_detr_jax.inspection.page import inspection_page, inspection_summary
    from anchor_detr_jax.training.config import train_config_from_dict

    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)  # what cannot be written fails before it is made
    inspection = inspect_data(
        folders[0],
        splits=_SPLITS.value or (),
        config=train_config_from_dict(_CONFIG.value.to_dict()),
        quick=_QUICK.value,
        memory=_MEMORY.value,
    )
    report = json.dumps(inspection.to_json(), indent=1)
    (output / "report.json").write_text(f"{report}\n", encoding="utf-8")
    (output / "report.html").write_text(inspection_page(inspection), encoding="utf-8")
    print(*inspection_summary(inspection), f"the report: {output / 'report.html'}", sep="\n")
    bad = inspection.count("error") + (inspection.count("warning") if _STRICT.value else 0)
    return 1 if bad else 0


if __name__ == "__main__":
    run_command(main, default_config=_ROOT / "configs/finetune.py")
