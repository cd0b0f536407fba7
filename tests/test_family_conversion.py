"""DETR, Conditional DETR and SMCA in their authors' files: both ways, to the bit, and strictly."""

import json

import jax
import numpy as np
import pytest
from conftest import DATA, make_detector
from families import NARROW_SISTERS
from seeded_weights import seeded_state_dict
from test_commands import run
from write_pth import write_pth

import anchor_detr_jax as ad
from anchor_detr_jax.conversion.convert import read_torch_detector
from anchor_detr_jax.conversion.layouts import layout_of, recognised
from anchor_detr_jax.conversion.state_dict import to_state_dict, to_variables
from anchor_detr_jax.conversion.torch_file import TorchFileError, read_torch_file
from anchor_detr_jax.data.categories import coco_columns
from anchor_detr_jax.models.build import variable_shapes
from anchor_detr_jax.models.conditional_detr import ConditionalDETRConfig
from anchor_detr_jax.models.detr import DETRConfig
from anchor_detr_jax.models.smca import SMCAConfig
from anchor_detr_jax.variable_names import flatten

# What the references' papers and files say: parameters, of R50 and of R101.
OFFICIAL = {
    ("detr", "r50"): (DETRConfig, 41_524_768),
    ("detr", "r101"): (DETRConfig, 60_464_672),
    ("conditional_detr", "r50"): (ConditionalDETRConfig, 43_418_401),
    ("conditional_detr", "r101"): (ConditionalDETRConfig, 62_358_305),
    ("smca", "type1"): (SMCAConfig, 41_735_810),
    ("smca", "type2"): (SMCAConfig, 41_748_146),
    ("smca", "type3"): (SMCAConfig, 41_760_482),
    ("smca", "type4"): (SMCAConfig, 41_772_818),
}
FAST = [("detr", "r50"), ("conditional_detr", "r50"), ("smca", "type3")]


def tensors_of(detector):
    return to_state_dict(layout_of(detector.config).rules(detector.config), detector.variables)


def convert(tmp_path, tensors, args=None, **options):
    write_pth(tmp_path / "model.pth", tensors, args=args)
    return read_torch_detector(tmp_path / "model.pth", **options)


@pytest.mark.parametrize(
    ("family", "variant"),
    [one if one in FAST else pytest.param(*one, marks=pytest.mark.slow) for one in OFFICIAL],
)
def test_official_names_and_shapes_are_all_used(family, variant):
    """And the model has as many parameters as theirs."""
    keys = json.loads((DATA / "golden" / family / "checkpoint_keys.json").read_text())[variant]
    shapes = {name: np.broadcast_to(np.float32(0), shape) for name, shape in keys.items()}
    kind, parameters = OFFICIAL[family, variant]
    layout = recognised(shapes).layout
    config = layout.infer(shapes, {"dilation": False}, None)
    assert type(config) is layout.config is kind
    assert config.num_classes == 91
    variables = to_variables(layout.rules(config), shapes, variable_shapes(config))
    sizes = {part: sum(v.size for v in flatten(variables[part]).values()) for part in variables}
    frozen = 210_688 if variant == "r101" else 106_240
    assert sizes == {"params": parameters, "frozen": frozen}
    back = to_state_dict(layout.rules(config), variables)
    assert {name: list(tensor.shape) for name, tensor in back.items()} == keys


@pytest.mark.parametrize("config", NARROW_SISTERS.values(), ids=NARROW_SISTERS)
def test_to_the_bit_and_back(tmp_path, config):
    """From a file with weights of its own to a detector, to a file that says as much."""
    layout = layout_of(config)
    names = {name: tensor.shape for name, tensor in tensors_of(make_detector(config)).items()}
    theirs = seeded_state_dict(names, seed=4)
    write_pth(tmp_path / "model.pth", theirs, args=layout.args(config))
    detector = ad.load(tmp_path / "model.pth")
    assert detector.config == config
    detector.save_torch(tmp_path / "again.pth")
    again = read_torch_file(tmp_path / "again.pth")
    assert again.tensors.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(again.tensors[name], tensor, strict=True)
    assert layout.infer(again.tensors, again.args, None) == config
    # Without args, what leaves no trace in the names has its default.
    found = layout.infer(again.tensors, {}, config.backbone.dilation)
    for name in ("positions", "pre_norm", "dynamic_scale"):
        assert getattr(found, name, None) == getattr(config, name, None)
    assert getattr(found, "smooth", 8.0) == 8.0


def test_columns_are_cocos(tmp_path):
    """Of 92, the last is "no object", or never a target: it has no category."""
    detr = make_detector(NARROW_SISTERS["detr"])
    tensors = tensors_of(detr)
    tensors["class_embed.weight"] = np.zeros((92, 64), np.float32)
    tensors["class_embed.bias"] = np.zeros(92, np.float32)
    stored, _ = convert(tmp_path, tensors, dilation=False)
    assert stored.config.num_classes == 91
    assert stored.categories == coco_columns()


def test_all_faults_are_named_at_once(tmp_path):
    broken = tensors_of(make_detector(NARROW_SISTERS["smca_type3"]))
    del broken["transformer.decoder.layers.1.point2.bias"]
    broken["transformer.decoder.surplus"] = np.zeros((2, 3), np.float32)
    broken["bbox_embed.layers.1.bias"] = np.zeros(5, np.float32)
    with pytest.raises(TorchFileError) as caught:
        convert(tmp_path, broken, dilation=False)
    for expected in (
        "in 3 places",
        "missing: transformer.decoder.layers.1.point2.bias",
        "unknown: transformer.decoder.surplus [2, 3]",
        "shape: bbox_embed.layers.1.bias is [5], expected [64]",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize("family", ["conditional_detr", "smca_type1"])
def test_options_of_detr_alone(tmp_path, family):
    """Neither of the others has learned positions or a last norm in the encoder."""
    tensors = tensors_of(make_detector(NARROW_SISTERS[family]))
    tensors["backbone.1.row_embed.weight"] = np.zeros((50, 32), np.float32)
    tensors["transformer.encoder.norm.weight"] = np.zeros(64, np.float32)
    with pytest.raises(TorchFileError, match=r"(?s)unknown: backbone\.1\.row.*encoder\.norm"):
        convert(tmp_path, tensors, dilation=False)


def test_a_query_table_of_another_shape(tmp_path):
    tensors = tensors_of(make_detector(NARROW_SISTERS["detr"]))
    tensors["query_embed.weight"] = np.zeros(64, np.float32)
    with pytest.raises(TorchFileError, match=r"query_embed\.weight is \[64\], expected two axes"):
        convert(tmp_path, tensors, dilation=False)


def test_of_a_model_with_masks_the_detector_is_kept(tmp_path):
    detr = make_detector(NARROW_SISTERS["detr"])
    theirs = {f"detr.{name}": tensor for name, tensor in tensors_of(detr).items()}
    heads = {"bbox_attention.q_linear.weight": (8, 8), "mask_head.lay1.weight": (8, 8, 3, 3)}
    theirs |= {name: np.zeros(shape, np.float32) for name, shape in heads.items()}
    args = layout_of(detr.config).args(detr.config)
    with pytest.warns(UserWarning, match="mask head, and masks are not part of this package"):
        stored, report = convert(tmp_path, theirs, args)
    assert stored.config == detr.config
    jax.tree.map(np.testing.assert_array_equal, stored.variables, dict(detr.variables))
    assert report.ignored.keys() == heads.keys()
    theirs["mask.surplus"] = np.zeros(2, np.float32)
    with (
        pytest.warns(UserWarning, match="mask head"),
        pytest.raises(TorchFileError, match="those of no known family"),
    ):
        convert(tmp_path, theirs, args)


@pytest.mark.slow
@pytest.mark.parametrize("sister", ["detr", "conditional_detr", "smca_type3"])
def test_convert_and_verify(tmp_path, sister):
    """As a user types it; a model that has learned nothing has an AP of 0."""
    make_detector(NARROW_SISTERS[sister]).save_torch(tmp_path / "model.pth")
    flags = ["--verify", DATA / "coco", "--short_side=96", "--long_side=160", "--expected_ap=0.0"]
    done = run("convert_torch_weights.py", tmp_path / "model.pth", tmp_path / "out", *flags)
    assert "AP agrees to 0.1" in done.stdout
    assert (tmp_path / "out/detector.json").is_file()
