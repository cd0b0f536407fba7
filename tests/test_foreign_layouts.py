"""Models of other projects, read: against what the projects' own code computes with them."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from conftest import DATA
from safetensors.numpy import save_file
from seeded_weights import seeded_array
from write_pth import write_pth

import anchor_detr_jax as ad
from anchor_detr_jax.conversion.convert import read_torch_detector
from anchor_detr_jax.conversion.torch_file import TorchFileError
from anchor_detr_jax.data.categories import COCO_NAMES
from anchor_detr_jax.models.build import make_model
from anchor_detr_jax.structures import Images

KEYS = json.loads((DATA / "golden/foreign/keys.json").read_text())
PROJECTS = {
    "detrex": "detrex",
    "detr_pytorch": "detr_pytorch",
    "hugging_face": "Hugging Face",
}
CONFIG = {
    "model_type": "detr",
    "activation_function": "relu",
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "dropout": 0.1,
    "dilation": False,
    "id2label": {"0": "N/A", "1": "person", "2": "bicycle", "3": "car", "4": "motorcycle"},
}


@pytest.fixture(scope="module")
def outputs():
    with np.load(DATA / "golden/foreign/outputs.npz") as file:
        return dict(file)


def weights(layout):
    """Of the golden outputs: matrices are doubled, so that attention is sharp."""
    arrays = {name: seeded_array(name, tuple(shape), 7) for name, shape in KEYS[layout].items()}
    return {name: 2 * array if array.ndim == 2 else array for name, array in arrays.items()}


def torchvision_names(tensors):
    """Transformers' and detectron2's backbones as timm and torchvision call them."""
    changed = {}
    for name, tensor in tensors.items():
        for mine, theirs in (
            (".embedder.embedder.convolution.", ".conv1."),
            (".embedder.embedder.normalization.", ".bn1."),
            (".shortcut.convolution.", ".downsample.0."),
            (".shortcut.normalization.", ".downsample.1."),
            *((f".encoder.stages.{i}.layers.0.", f".layer{i + 1}.0.") for i in range(4)),
            *((f".layer.{i}.convolution.", f".conv{i + 1}.") for i in range(3)),
            *((f".layer.{i}.normalization.", f".bn{i + 1}.") for i in range(3)),
            ("backbone.stem.", "backbone.body."),
            *((f"backbone.res{i + 1}.", f"backbone.body.layer{i}.") for i in range(1, 5)),
            *((f".conv{i}.norm.", f".bn{i}.") for i in (1, 2, 3)),
            (".shortcut.norm.", ".downsample.1."),
            (".shortcut.", ".downsample.0."),
        ):
            name = name.replace(mine, theirs)
        changed[name] = tensor
    return changed


def read(tmp_path, tensors, **options):
    path = tmp_path / "model.pth.tar"
    write_pth(path, tensors)
    return read_torch_detector(path, **options)


def folder(tmp_path, tensors, **changes):
    """As `save_pretrained` writes it; a change to None leaves a setting out."""
    path = tmp_path / "pretrained"
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    config = {name: value for name, value in (CONFIG | changes).items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))
    return path


@partial(jax.jit, static_argnums=0)
def forward(model, variables, images):
    return model.apply(variables, images, last_layer_only=True)


@pytest.mark.parametrize("layout", KEYS)
def test_outputs_are_those_of_the_projects_code(tmp_path, outputs, layout):
    project = next(name for start, name in PROJECTS.items() if layout.startswith(start))
    stored, report = read(tmp_path, weights(layout), dilation=False)
    assert report.layout == project
    assert report.read == len(KEYS[layout])
    assert not report.ignored
    pixels = outputs["image"][None]
    images = Images(pixels, np.array([pixels.shape[1:3]]))
    got = forward(make_model(stored.config), stored.variables, images)
    np.testing.assert_allclose(got.logits[0], outputs[f"{layout}/logits"], rtol=0, atol=2e-4)
    np.testing.assert_allclose(got.boxes[0], outputs[f"{layout}/boxes"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("layout", ["detrex_detr", "detrex_conditional_detr", "hugging_face_detr"])
def test_backbones_with_torchvisions_names(tmp_path, layout):
    tensors = weights(layout)
    changed = torchvision_names(tensors)
    assert len(changed.keys() - tensors.keys()) == 85
    stored, _ = read(tmp_path, changed, dilation=True)
    expected, _ = read(tmp_path, tensors, dilation=False)
    assert stored.config.backbone.dilation
    jax.tree.map(np.testing.assert_array_equal, stored.variables, expected.variables)


def test_detrex_has_cocos_80_classes(tmp_path):
    tensors = weights("detrex_detr")
    tensors |= {
        "class_embed.weight": np.zeros((81, 64), np.float32),
        "class_embed.bias": np.zeros(81, np.float32),
        "criterion.empty_weight": np.ones(81, np.float32),
    }
    stored, report = read(tmp_path, tensors, dilation=False)
    assert stored.config.num_classes == 80
    assert stored.categories.ids == tuple(COCO_NAMES)
    assert report.ignored == {"criterion.empty_weight": "a loss's weights of the classes"}


def test_several_devices_leave_a_prefix(tmp_path):
    """detr_pytorch has no dilation, so nothing is asked."""
    tensors = weights("detr_pytorch")
    stored, report = read(tmp_path, {f"module.{name}": tensors[name] for name in tensors})
    expected, _ = read(tmp_path, tensors)
    assert report.layout == "detr_pytorch"
    jax.tree.map(np.testing.assert_array_equal, stored.variables, expected.variables)
    with pytest.raises(TorchFileError, match="dilation=True was asked for"):
        read(tmp_path, tensors, dilation=True)


def test_a_folder_of_hugging_face(tmp_path):
    path = folder(tmp_path, weights("hugging_face_detr"), dropout=0.2)
    detector = ad.load(path)
    assert detector.config.dropout == 0.2
    assert detector.categories.names == (None, "person", "bicycle", "car", "motorcycle")
    assert detector.categories.ids == (0, 1, 2, 3, 4)
    assert detector.source["file"] == "model.safetensors"
    assert ad.load(path / "model.safetensors").categories == detector.categories
    (path / "model.safetensors").unlink()
    write_pth(path / "pytorch_model.bin", weights("hugging_face_detr"))
    assert ad.load(path).config == detector.config
    (path / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"neither of model\.safetensors and pytorch_model\.bin"):
        ad.load(path)


@pytest.mark.parametrize(
    ("settings", "dilated"),
    [
        ({"dilation": True}, True),
        ({"dilation": True, "backbone_config": {"output_stride": 16}}, True),
        ({"dilation": None, "backbone_kwargs": {"output_stride": 16}}, True),
        ({"backbone_config": None, "backbone_kwargs": None, "id2label": None}, False),
    ],
)
def test_what_the_settings_say(tmp_path, settings, dilated):
    tensors = torchvision_names(weights("hugging_face_detr"))
    stored, _ = read_torch_detector(folder(tmp_path, tensors, **settings))
    assert stored.config.backbone.dilation == dilated
    if "id2label" in settings:
        assert stored.categories.names[0] == "class 0"


def resnet(**settings):
    return {"backbone_config": {"model_type": "resnet", **settings}}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "yolos"}, "model_type is 'yolos', not 'detr' or 'conditional_detr'"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu', not 'relu'"),
        ({"decoder_attention_heads": 4}, "decoder_attention_heads is 4, not 8, as the encoder"),
        (resnet(downsample_in_bottleneck=True), "downsample_in_bottleneck is True, not False"),
        (resnet(layer_type="basic"), "backbone_config.layer_type is 'basic', not 'bottleneck'"),
        ({"backbone_kwargs": {"output_stride": 8}}, "output_stride is 8, not 16 or 32"),
        ({"id2label": {"0": "cat"}}, "names 1 categories, and the model's head has columns for 5"),
        ({"id2label": {"1": "cat"}}, r"id2label has \['1'\], not each column from 0 on"),
    ],
)
def test_another_model_is_refused(tmp_path, settings, says):
    path = folder(tmp_path, weights("hugging_face_detr"), **settings)
    with pytest.raises(TorchFileError, match=f"^[^\n]*{says}[^\n]*$"):
        read_torch_detector(path)


def test_other_pixels_are_refused(tmp_path):
    path = folder(tmp_path, weights("hugging_face_detr"))
    file = path / "preprocessor_config.json"
    file.write_text('{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}')
    read_torch_detector(path)
    file.write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(TorchFileError, match=r"preprocessor_config\.json: image_mean is \[0\.5, "):
        read_torch_detector(path)
    file.write_text("{")
    with pytest.raises(TorchFileError, match=r"preprocessor_config\.json is no JSON"):
        read_torch_detector(path)


def test_all_faults_are_named_at_once(tmp_path):
    broken = weights("hugging_face_detr")
    del broken["model.encoder.layers.0.self_attn.k_proj.weight"]
    broken["model.surplus"] = np.zeros(3, np.float32)
    broken["bbox_predictor.layers.0.bias"] = np.zeros(5, np.float32)
    with pytest.raises(TorchFileError) as caught:
        read(tmp_path, broken)
    for expected in (
        "(names of DETR; the file has Hugging Face's)",
        "in 5 places",
        "missing: transformer.encoder.layers.0.self_attn.in_proj_weight",
        "unknown: transformer.encoder.layers.0.self_attn.q_proj.weight [64, 64]",
        "unknown: model.surplus [3]",
        "shape: bbox_embed.layers.0.bias is [5], expected [64]",
    ):
        assert expected in str(caught.value)


def test_two_names_for_one_tensor(tmp_path):
    tensors = weights("hugging_face_detr")
    tensors["model.encoder.layers.0.mlp.fc1.bias"] = np.zeros(96, np.float32)
    with pytest.raises(TorchFileError, match=r"fc1\.bias and .*fc1\.bias are two tensors for one"):
        read(tmp_path, tensors)


def test_another_norm_in_detrex_is_another_model(tmp_path):
    """Its option `post_norm` of the encoder; not DETR's pre_norm, whose norms stand before."""
    tensors = weights("detrex_detr")
    tensors["transformer.encoder.post_norm_layer.weight"] = np.ones(64, np.float32)
    with pytest.raises(TorchFileError, match=r"unknown: transformer\.encoder\.post_norm_layer"):
        read(tmp_path, tensors, dilation=False)
