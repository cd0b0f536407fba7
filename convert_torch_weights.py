"""Convert a PyTorch checkpoint of a detector, or a pretrained ResNet.

    python convert_torch_weights.py AnchorDETR_r50_dc5.pth out/
    python convert_torch_weights.py AnchorDETR_r50_dc5.pth out/ --verify path/to/coco
    python convert_torch_weights.py detr-r50-e632da11.pth out/ --nodilation
    python convert_torch_weights.py --backbone resnet50-0676ba61.pth backbone/

Reads Anchor DETR, DETR, Conditional DETR and SMCA as their authors save them; the first three in
detrex's layout, DETR in detr_pytorch's, DETR and Conditional DETR in Hugging Face's (the folder, or
its model.safetensors); and ResNets of torchvision; as .pth, .pth.tar or .safetensors. Family and
variant are told from the names of the tensors. PyTorch is not needed, and nothing in the file is
run. `out/` can be given to every command as --checkpoint, and to `anchor_detr_jax.load`. --verify
evaluates what was converted, and compares with the published AP or with --expected_ap.
"""

import time
from pathlib import Path

from absl import flags

from anchor_detr_jax.checkpoint import StoredDetector, save_folder
from anchor_detr_jax.command import run_command
from anchor_detr_jax.command.image_size import ImageSizeFlags
from anchor_detr_jax.conversion.convert import read_torch_backbone, read_torch_detector

_DILATION = flags.DEFINE_bool(
    "dilation", None, "Whether the model is a DC5, for files whose args do not say it."
)
_BACKBONE = flags.DEFINE_bool("backbone", False, "The file is a ResNet pretrained on ImageNet.")
_VERIFY = flags.DEFINE_string("verify", None, "Folder of COCO to evaluate on.")
_EXPECTED_AP = flags.DEFINE_float(
    "expected_ap", None, "AP to agree with, in per cent, for models that are not published."
)
_SPLIT = flags.DEFINE_string("split", "val2017", "Which part of --verify.")
_SIZE = ImageSizeFlags()
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images at a time; changes no number.", 1)

_TOLERANCE = 0.1
_NAMES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")


def main(arguments: list[str]) -> None:
    """Convert the first argument into the second, and verify it."""
    if len(arguments) != 2:
        raise ValueError(
            f"expected a checkpoint and a folder to write, got {len(arguments)} arguments: "
            "python convert_torch_weights.py model.pth out/"
        )
    if _BACKBONE.value and (_VERIFY.value or _DILATION.value is not None):
        raise ValueError("--backbone goes without --verify and --dilation: it detects nothing")
    source, folder = map(Path, arguments)
    start = time.perf_counter()
    if _BACKBONE.value:
        stored, report = read_torch_backbone(source)
    else:
        stored, report = read_torch_detector(source, dilation=_DILATION.value)
    save_folder(folder, stored)
    seconds = time.perf_counter() - start
    print(f"{source} (sha256 {stored.source['sha256'][:16]}...)")
    print(report)
    print(f"model: {stored.config}")
    on_disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote {folder}, {on_disk / 1e6:.1f} MB, in {seconds:.1f} s")
    if _VERIFY.value and isinstance(stored, StoredDetector):
        _verify(stored, Path(_VERIFY.value))


def _verify(stored: StoredDetector, coco: Path) -> None:
    """Evaluate, and compare with what is expected; raises if they differ."""
    from anchor_detr_jax.data.formats.coco import read_coco_split
    from anchor_detr_jax.detector import Detector, default_batch_size
    from anchor_detr_jax.evaluation.coco_ap import score_results
    from anchor_detr_jax.evaluation.published import published_ap
    from anchor_detr_jax.evaluation.runner import detect_dataset

    dataset = read_coco_split(coco, _SPLIT.value)
    results = detect_dataset(
        Detector(stored),
        dataset,
        **_SIZE.value,
        batch_size=_BATCH_SIZE.value or default_batch_size(),
        progress=True,
    )
    scores = score_results(results, dataset.annotations)
    print(scores.summary)
    expected = published_ap(stored.config)
    if _EXPECTED_AP.value is not None:
        expected = (_EXPECTED_AP.value,)
    if expected is None:
        print("this model is not published; --expected_ap gives an AP to compare with")
        return
    print(f"{'':12}{'ours':>8}{'expected':>10}{'difference':>12}")
    ours = [100 * figure for figure in scores.stats]
    for name, mine, theirs in zip(_NAMES, ours, expected, strict=False):
        if theirs is not None:
            print(f"{name:12}{mine:8.1f}{theirs:10.1f}{mine - theirs:+12.2f}")
    gap = abs(round(ours[0], 1) - expected[0])
    if gap > _TOLERANCE + 1e-6:
        raise ValueError(
            f"AP differs by {gap:.1f}, more than {_TOLERANCE}; was the model trained for other "
            f"sizes, or is {coco} not all of {_SPLIT.value}?"
        )
    print(f"AP agrees to {_TOLERANCE}")


if __name__ == "__main__":
    run_command(main)
