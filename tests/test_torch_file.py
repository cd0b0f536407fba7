"""Reading PyTorch's files without running them, and writing them."""

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from write_legacy import legacy_bytes
from write_pth import write_pth

from anchor_detr_jax.conversion.torch_file import TorchFileError, read_torch_file
from anchor_detr_jax.conversion.torch_writer import write_torch_file

TENSORS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a.bias": np.linspace(-1, 1, 5).astype(np.float32),
    "scalar": np.array(2.5, np.float32),
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "count": np.array([7], np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "model.pth"
    write_pth(path, TENSORS, args={"dilation": True, "nheads": 8})
    return path


def rezip(path, target, change):
    """A copy of a zip file with `change(name, data)` in place of each entry; None leaves it out."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def test_reads_tensors_and_args(written):
    checkpoint = read_torch_file(written)
    assert checkpoint.args == {"dilation": True, "nheads": 8}
    assert list(checkpoint.tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert checkpoint.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)


def test_reads_a_bare_state_dict(tmp_path):
    write_torch_file(tmp_path / "wrapped.pth", {"x": TENSORS["a.bias"]}, {})

    def unwrapped(name, data):
        if not name.endswith("data.pkl"):
            return data
        start = data.index(b"ccollections")  # the state dict itself, up to `args`
        return b"\x80\x02" + data[start : data.index(b"X\x04\x00\x00\x00args")] + b"."

    checkpoint = read_torch_file(rezip(tmp_path / "wrapped.pth", tmp_path / "bare.pth", unwrapped))
    np.testing.assert_array_equal(checkpoint.tensors["x"], TENSORS["a.bias"])
    assert checkpoint.args is None


def test_reads_the_format_before_1_6(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(legacy_bytes(TENSORS))
    checkpoint = read_torch_file(path)
    assert list(checkpoint.tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)


@pytest.mark.parametrize("cut", [1, 5, 100, 400])
def test_an_old_file_that_is_cut(tmp_path, cut):
    path = tmp_path / "old.pth"
    path.write_bytes(legacy_bytes(TENSORS)[:-cut])
    with pytest.raises(TorchFileError, match=r"old\.pth: .*(truncated|damaged|ends early)"):
        read_torch_file(path)


def test_an_old_file_with_a_bomb(tmp_path):
    whole = legacy_bytes({"x": TENSORS["a.bias"]})
    header = whole[: whole.index(b"ccollections") - 2]
    path = tmp_path / "old.pth"
    path.write_bytes(header + pickle.dumps({"model": {"x": Bomb(tmp_path / "ran")}}, 2) + whole)
    with pytest.raises(TorchFileError, match=r"posix\.system.*nothing was run"):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def test_a_public_file_of_the_old_format(shared):
    """A ResNet-20 that its author published for CIFAR-10."""
    tensors = read_torch_file(shared / "checkpoints/resnet20-12fca82f.th").tensors
    assert len(tensors) == 97
    assert tensors["module.linear.weight"].shape == (10, 64)
    assert 0.1 < tensors["module.layer3.2.bn2.running_var"].mean() < 10


def test_what_we_write_we_read(tmp_path):
    shared = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {"one": shared, "two": shared, "scalar": np.array(1.5, np.float32)}
    path = tmp_path / "ours.pth"
    write_torch_file(path, tensors, {"dilation": False, "backbone": "resnet50"})
    checkpoint = read_torch_file(path)
    assert checkpoint.args == {"dilation": False, "backbone": "resnet50"}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(checkpoint.tensors[name], tensor)
    with zipfile.ZipFile(path) as archive:
        assert sum("/data/" in name for name in archive.namelist()) == 2  # shared once
    assert [p.name for p in tmp_path.iterdir()] == ["ours.pth"]


def test_torch_reads_what_we_write(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    path = tmp_path / "ours.pth"
    write_torch_file(path, {"w": TENSORS["a.weight"]}, {"dilation": True})
    loaded = torch.load(path, weights_only=True)
    assert loaded["args"] == {"dilation": True}
    np.testing.assert_array_equal(loaded["model"]["w"].numpy(), TENSORS["a.weight"])


class Bomb:
    """Unpickles by running a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def zip_with_pickle(path, data: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return path


def test_hostile_pickles_are_refused_and_do_not_run(tmp_path):
    ran = tmp_path / "ran"
    bomb = pickle.dumps({"model": {"x": Bomb(ran)}}, 2)
    for name, data in {"zipped.pth": None, "raw.pth": bomb}.items():
        path = tmp_path / name
        if data is None:
            zip_with_pickle(path, bomb)
        else:
            path.write_bytes(data)
        with pytest.raises(TorchFileError, match=name):
            read_torch_file(path)
        assert not ran.exists()
    with pytest.raises(TorchFileError, match=r"posix.system.*refused, and nothing was run"):
        read_torch_file(tmp_path / "zipped.pth")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n}X\x01\x00\x00\x00aK\x01sb.",  # state of a class
        b"\x80\x02c__builtin__\ngetattr\n.",
        b"\x80\x02(X\x02\x00\x00\x00os\x94X\x06\x00\x00\x00systemi.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02K\x01",
        b"\x80\x02a.",
        b"",
    ],
)
def test_pickles_that_are_no_weights(tmp_path, data):
    with pytest.raises(TorchFileError, match=r"x\.pth"):
        read_torch_file(zip_with_pickle(tmp_path / "x.pth", data))


def damaged(written, tmp_path, kind):
    whole = written.read_bytes()
    path = tmp_path / f"{kind}.pth"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("weights are at https://example.com/model.pth\n")
    elif kind == "lfs":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif kind == "no_pickle":
        rezip(written, path, lambda n, d: None if n.endswith("data.pkl") else d)
    elif kind == "no_storage":
        rezip(written, path, lambda n, d: None if n.endswith("data/0") else d)
    elif kind == "short_storage":
        rezip(written, path, lambda n, d: d[:-4] if n.endswith("data/0") else d)
    elif kind == "big_endian":
        rezip(written, path, lambda n, d: b"big" if n.endswith("byteorder") else d)
    elif kind == "no_model":
        path = zip_with_pickle(path, pickle.dumps({"weights": 3, "epoch": 1}, 2))
    elif kind == "list":
        path = zip_with_pickle(path, pickle.dumps([1, 2], 2))
    elif kind == "no_tensors":
        path = zip_with_pickle(path, pickle.dumps({"model": {"x": 3}}, 2))
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty"),
        ("truncated", "truncated"),
        ("text", "it begins with b'weights are at"),
        ("lfs", "git lfs pull"),
        ("no_pickle", "0 data.pkl"),
        ("no_storage", "no item named 'archive/data/0'"),
        ("short_storage", "claims 12 numbers"),
        ("big_endian", "big-endian"),
        ("no_model", "has no `model`; it has .*epoch.*weights"),
        ("list", "holds a list"),
        ("no_tensors", "no tensors.*x"),
    ],
)
def test_damaged_files_say_what_is_wrong(written, tmp_path, kind, says):
    path = damaged(written, tmp_path, kind)
    with pytest.raises(TorchFileError, match=says) as caught:
        read_torch_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "nowhere.pth")


def crafted(tmp_path, *, count, offset, shape, strides):
    """A file with one tensor of our description, over a storage of 4 numbers."""
    path = tmp_path / "crafted.pth"
    write_torch_file(path, {"x": np.arange(4, dtype=np.float32)}, {})
    plain = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731
    before = plain(0) + plain((4,)) + plain((1,))
    after = plain(offset) + plain(shape) + plain(strides)

    def change(name, data):
        if not name.endswith("data.pkl"):
            return data
        assert before in data
        return data.replace(before, after).replace(
            plain("cpu") + plain(4), plain("cpu") + plain(count)
        )

    return rezip(path, tmp_path / "changed.pth", change)


def test_crafted_is_read_when_it_makes_sense(tmp_path):
    path = crafted(tmp_path, count=4, offset=1, shape=(3,), strides=(1,))
    np.testing.assert_array_equal(read_torch_file(path).tensors["x"], [1, 2, 3])
    path = crafted(tmp_path, count=4, offset=0, shape=(2, 2), strides=(1, 2))
    np.testing.assert_array_equal(read_torch_file(path).tensors["x"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("description", "says"),
    [
        ({"offset": 3, "shape": (2,), "strides": (1,)}, "outside its storage"),
        ({"offset": 0, "shape": (2, 2), "strides": (9, 1)}, "outside its storage"),
        ({"offset": 0, "shape": (10**15,), "strides": (0,)}, "outside its storage"),
        ({"offset": 0, "shape": (10**15,), "strides": (1,), "count": 10**15}, "claims 10+ numbers"),
        ({"offset": -1, "shape": (2,), "strides": (1,)}, "makes no sense"),
        ({"offset": 0, "shape": (2,), "strides": (-1,)}, "makes no sense"),
        ({"offset": 0, "shape": (2,), "strides": (1, 1)}, "damaged"),
        ({"offset": 0, "shape": (2.0,), "strides": (1,)}, "makes no sense"),
        ({"offset": 0, "shape": (True,), "strides": (1,)}, "makes no sense"),
    ],
)
def test_tensors_that_reach_outside(tmp_path, description, says):
    path = crafted(tmp_path, **{"count": 4, **description})
    with pytest.raises(TorchFileError, match=says):
        read_torch_file(path)


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    write_pth(buffer, TENSORS, args={"nheads": 8})
    return buffer.getvalue()


WHOLE = {"zip": zip_bytes(), "legacy": legacy_bytes(TENSORS)}


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    hole=st.tuples(st.floats(0, 1), st.integers(0, 9)),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_any_damage_is_refused_or_harmless(tmp_path_factory, kind, flips, hole, cut):
    """Flipped, missing and cut bytes: a clean refusal, or arrays of the shapes that it claims."""
    whole = WHOLE[kind]
    data = bytearray(whole if cut is None else whole[: round(cut * len(whole))])
    start = round(hole[0] * len(data))
    del data[start : start + hole[1]]
    for place, value in flips:
        if data:
            data[round(place * (len(data) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(data)
    try:
        checkpoint = read_torch_file(path)
    except TorchFileError:
        return
    for tensor in checkpoint.tensors.values():
        np.array(tensor)  # every number of it can be read


@settings(max_examples=300, deadline=2000)
@given(data=st.binary(max_size=200))
def test_any_bytes_as_a_pickle(tmp_path_factory, data):
    path = zip_with_pickle(tmp_path_factory.getbasetemp() / "random.pth", b"\x80\x02" + data)
    with pytest.raises(TorchFileError):
        read_torch_file(path)


def test_metadata_of_an_ordered_dict_is_passed_over(tmp_path):
    """Torch's own state dicts carry `_metadata`; here it is set as a pickle would."""
    state = collections.OrderedDict(x=1)
    state.extra = {"version": 1}
    path = zip_with_pickle(tmp_path / "meta.pth", pickle.dumps({"model": state}, 2))
    with pytest.raises(TorchFileError, match="no tensors"):
        read_torch_file(path)
