r"""Write a data set as one of TensorFlow Datasets: a few large files in array_record.

    python scripts/prepare_tfds.py --data path/to/data --output prepared/
    python scripts/prepare_tfds.py --data path/to/coco --output prepared/ \
        --splits train2017,val2017

--data is a folder in the layout of COCO, Pascal VOC or YOLO. Training reads --output in its place,
with the same result. It needs no TensorFlow. --output appears when all of it is written.
"""

from absl import flags

from anchor_detr_jax.command import run_command

_DATA = flags.DEFINE_string(
    "data", None, "A folder in COCO's, VOC's or YOLO's layout.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)
_SPLITS = flags.DEFINE_list("splits", None, "Such as train2017,val2017; by default, all there are.")
_ON_BAD = flags.DEFINE_enum(
    "on_bad", "stop", ["stop", "skip"], "At pictures and annotations with a fault: leave them out?"
)
flags.DEFINE_alias("coco", "data")


def main(arguments: list[str]) -> None:
    """Prepare, and say what was written."""
    if arguments:
        raise ValueError(f"unexpected arguments {arguments}; everything is given by flags")
    from anchor_detr_jax.data.formats.tfds_builder import prepare_tfds_folder

    folder = prepare_tfds_folder(
        _DATA.value, _OUTPUT.value, splits=_SPLITS.value, on_bad=_ON_BAD.value
    )
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{size / 1e6:.1f} MB in {folder}")


if __name__ == "__main__":
    run_command(main)
