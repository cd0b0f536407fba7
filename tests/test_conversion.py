"""The converter: a bijection, and everything that is wrong said at once."""

import jax
import ml_dtypes
import numpy as np
import pytest
from conftest import NARROW, make_detector, official_args, official_tensors
from safetensors.numpy import save_file
from write_pth import write_pth

import anchor_detr_jax as ad
from anchor_detr_jax.backbones.resnet import ResNetConfig
from anchor_detr_jax.checkpoint import load_backbone_folder, save_folder
from anchor_detr_jax.conversion.anchor_detr import ANCHOR_DETR
from anchor_detr_jax.conversion.convert import read_torch_backbone, read_torch_detector
from anchor_detr_jax.conversion.state_dict import (
    ConversionError,
    to_state_dict,
    to_variables,
)
from anchor_detr_jax.conversion.torch_file import TorchFileError, read_torch_file
from anchor_detr_jax.models.anchor_detr import AnchorDETRConfig
from anchor_detr_jax.models.build import variable_shapes
from anchor_detr_jax.variable_names import flatten


@pytest.fixture(scope="module")
def tensors():
    """A small model's state dict in the official layout."""
    detector = make_detector()
    return to_state_dict(ANCHOR_DETR.rules(NARROW), detector.variables)


def convert(tmp_path, tensors, args=None, **options):
    path = tmp_path / "model.pth"
    write_pth(path, tensors, args=args)
    return read_torch_detector(path, **options)


def test_official_names_and_shapes_are_all_used():
    """Both ways, to the bit, and every variable is filled."""
    tensors = official_tensors("r50_c5")
    config = ANCHOR_DETR.infer(tensors, {"dilation": False}, None)
    shapes = variable_shapes(config)
    variables = to_variables(ANCHOR_DETR.rules(config), tensors, shapes)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    sizes = {kind: sum(v.size for v in flatten(variables[kind]).values()) for kind in variables}
    assert sizes == {"params": 37_038_711, "frozen": 106_240}
    back = to_state_dict(ANCHOR_DETR.rules(config), variables)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, strict=True)


def test_saved_and_loaded_again(tmp_path, narrow):
    narrow.save(tmp_path / "folder")
    narrow.save_torch(tmp_path / "model.pth")
    from_folder = ad.load(tmp_path / "folder")
    from_file = ad.load(tmp_path / "model.pth")
    assert from_folder.config == narrow.config
    assert from_folder.categories == narrow.categories
    for loaded in (from_folder, from_file):
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(narrow.variables))
    image = np.full((40, 30, 3), 90, np.uint8)
    expected = narrow.forward([image])
    np.testing.assert_array_equal(from_folder.forward([image]).logits, expected.logits)


@pytest.mark.parametrize("variant", ["r50_c5", "r50_dc5"])
def test_args_say_the_dilation(tmp_path, tensors, variant):
    detector, _ = convert(tmp_path, tensors, official_args(variant) | {"nheads": 4})
    assert detector.config.backbone.dilation == (variant == "r50_dc5")
    assert detector.config.num_heads == 4


def test_what_leaves_no_trace_is_asked_for(tmp_path, tensors):
    with pytest.warns(UserWarning, match=r"dilation=True or dilation=False"):
        detector, _ = convert(tmp_path, tensors)
    assert not detector.config.backbone.dilation
    detector, _ = convert(tmp_path, tensors, dilation=True)
    assert detector.config.backbone.dilation
    with pytest.raises(TorchFileError, match="args say dilation=False"):
        convert(tmp_path, tensors, official_args("r50_c5"), dilation=True)


def test_the_report(tmp_path, tensors):
    counted = tensors | {"transformer.total_ops": np.zeros(1), "total_params": np.zeros(1)}
    detector, report = convert(tmp_path, counted, dilation=False)
    assert report.ignored.keys() == {"total_params", "transformer.total_ops"}
    assert report.read == len(tensors) + 2
    assert f"used {len(tensors)}" in str(report)
    assert len(detector.source["sha256"]) == 64
    assert detector.categories.names[0] == "class 0"


def test_all_faults_are_named_at_once(tmp_path, tensors):
    broken = dict(tensors)
    del broken["transformer.encoder_layers.1.norm1.weight"]
    broken["transformer.surplus"] = np.zeros((2, 3), np.float32)
    broken["input_proj.0.0.bias"] = np.zeros(5, np.float32)
    broken["transformer.adapt_pos1d.0.bias"] = np.full(64, np.nan, np.float32)
    broken["transformer.class_embed.1.weight"] = tensors["transformer.class_embed.1.weight"] + 1
    broken["backbone.body.bn1.bias"] = np.zeros(8, np.int64)
    with pytest.raises(TorchFileError) as caught:
        convert(tmp_path, broken, dilation=False)
    message = str(caught.value)
    assert "in 6 places" in message
    for expected in (
        "missing: transformer.encoder_layers.1.norm1.weight",
        "unknown: transformer.surplus [2, 3]",
        "shape: input_proj.0.0.bias is [5], expected [64]",
        "not finite: transformer.adapt_pos1d.0.bias",
        "unequal: transformer.class_embed.1.weight differs from transformer.class_embed.0.weight",
        "type: backbone.body.bn1.bias is int64",
    ):
        assert expected in message


def test_another_model_is_refused(tmp_path):
    with pytest.raises(
        TorchFileError, match=r"none of AnchorDETR's transformer\.pattern.*with fc\.weight"
    ):
        convert(tmp_path, {"fc.weight": np.zeros((2, 2), np.float32)})


def test_half_precision_becomes_float32(tmp_path, tensors):
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    detector, _ = convert(tmp_path, halves, dilation=False)
    leaves = jax.tree.leaves(detector.variables)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    assert np.dtype(ml_dtypes.bfloat16).itemsize == 2


def test_a_table_that_misses_a_variable_is_a_fault(narrow):
    rules = [r for r in ANCHOR_DETR.rules(NARROW) if r.flax != ("params/patterns",)]
    with pytest.raises(ConversionError, match="params/patterns"):
        to_state_dict(rules, narrow.variables)


def test_nothing_is_left_of_a_failed_save(tmp_path, narrow, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    with pytest.raises(OSError, match="No space"):
        narrow.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path, narrow):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists; choose another"):
        narrow.save(tmp_path / "out")
    assert (tmp_path / "out/precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"format": 1', '"format": 99'), "format is 99"),
        (lambda text: text.replace('"anchor_detr"', '"yolo"'), "'yolo'.*anchor_detr"),
        (lambda text: text.replace('"num_heads"', '"heads"'), r"no \['heads'\]"),
        (lambda text: text[:40], "detector.json is not as"),
    ],
)
def test_a_spoiled_folder_says_what_is_wrong(tmp_path, narrow, change, says):
    narrow.save(tmp_path / "out")
    file = tmp_path / "out/detector.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=says):
        ad.load(tmp_path / "out")


def test_a_folder_without_a_detector(tmp_path):
    with pytest.raises(ValueError, match=r"no detector\.json"):
        ad.load(tmp_path)


def test_read_torch_file_gives_plain_arrays(tmp_path, tensors):
    write_pth(tmp_path / "m.pth", tensors)
    read = read_torch_file(tmp_path / "m.pth").tensors
    assert not any(tensor.flags.writeable for tensor in read.values())


VARIANTS = ["r50_c5", "r101_c5", "r50_3level", "r50_c5_grid", "r50_c5_mha"]


@pytest.mark.parametrize("with_args", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_known_from_its_tensors(variant, with_args):
    """And its table is a bijection; nothing is computed."""
    tensors = official_tensors(variant)
    args = official_args(variant) if with_args else {}
    config = ANCHOR_DETR.infer(tensors, args, None if "3level" in variant or args else False)
    assert sum(config.backbone.blocks) == (33 if "r101" in variant else 16)
    assert (config.num_levels, config.level_layers) == ((3, 3) if "3level" in variant else (1, 0))
    assert config.backbone.dilation == ("3level" in variant)
    assert config.attention == ("multi_head" if "mha" in variant else "rcda")
    grid = "grid" in variant
    assert (config.anchors, config.num_anchors) == (("grid", 289) if grid else ("learned", 300))
    variables = to_variables(ANCHOR_DETR.rules(config), tensors, variable_shapes(config))
    back = to_state_dict(ANCHOR_DETR.rules(config), variables)
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], tensor) for name, tensor in tensors.items())


def test_args_of_our_own_say_the_same():
    """What `save_torch` writes into `args` leads back to the same configuration."""
    for variant in VARIANTS:
        tensors = official_tensors(variant)
        config = ANCHOR_DETR.infer(tensors, official_args(variant), None)
        assert ANCHOR_DETR.infer(tensors, ANCHOR_DETR.args(config), None) == config


def test_levels_need_dilation():
    tensors = official_tensors("r50_3level")
    with pytest.raises(ValueError, match="3 levels, for which dilation=True"):
        ANCHOR_DETR.infer(tensors, {}, False)


def test_detrex_layout(tmp_path, tensors):
    eighty = {
        name: np.repeat(tensor, 16, axis=0) if "class_embed" in name else tensor
        for name, tensor in tensors.items()
    }
    theirs = {name.replace("input_proj.0.", "input_proj."): t for name, t in eighty.items()}
    detector, report = convert(tmp_path, theirs, dilation=False)
    assert report.layout == "detrex"
    assert detector.categories.ids[0] == 1
    assert detector.categories.ids[79] == 90
    assert detector.categories.names[79] == "toothbrush"
    official, _ = convert(tmp_path, eighty, dilation=False)
    jax.tree.map(np.testing.assert_array_equal, detector.variables, official.variables)


def test_safetensors(tmp_path, tensors):
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    detector, _ = read_torch_detector(path, dilation=False)
    expected, _ = convert(tmp_path, tensors, dilation=False)
    jax.tree.map(np.testing.assert_array_equal, detector.variables, expected.variables)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(TorchFileError, match=r"model\.safetensors: no readable safetensors"):
        read_torch_detector(path)


def imagenet_tensors(tensors):
    """A small ResNet as torchvision saves it, with its classifier and counters."""
    prefix = "backbone.body."
    resnet = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    resnet["fc.weight"], resnet["fc.bias"] = np.zeros((10, 256), "f4"), np.zeros(10, "f4")
    resnet["bn1.num_batches_tracked"] = np.array(7, np.int64)
    return resnet


def test_a_pretrained_backbone(tmp_path, tensors):
    path = tmp_path / "resnet.pth"
    write_pth(path, imagenet_tensors(tensors))
    backbone, report = read_torch_backbone(path)
    assert report.ignored.keys() == {"fc.weight", "fc.bias", "bn1.num_batches_tracked"}
    expected = make_detector().variables
    for kind in ("params", "frozen"):
        jax.tree.map(
            np.testing.assert_array_equal,
            backbone.variables[kind]["backbone"],
            expected[kind]["backbone"],
        )
    save_folder(tmp_path / "backbone", backbone)
    loaded = load_backbone_folder(tmp_path / "backbone")
    assert loaded.config == backbone.config == NARROW.backbone
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, backbone.variables)
    with pytest.raises(ValueError, match=r"holds no detector \(no detector\.json\)"):
        ad.load(tmp_path / "backbone")


def test_a_detector_is_no_backbone(tmp_path, tensors):
    write_pth(tmp_path / "m.pth", tensors)
    with pytest.raises(TorchFileError, match="no ResNet with bottleneck blocks"):
        read_torch_backbone(tmp_path / "m.pth")


def test_a_backbone_that_pytorch_does_not_have_is_refused():
    backbone = ResNetConfig((1, 1, 1, 1), 8, norm="group")
    with pytest.raises(ConversionError, match=r"norm='group'.*Detector\.save keeps it"):
        ANCHOR_DETR.rules(AnchorDETRConfig(backbone=backbone))
