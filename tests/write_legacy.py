"""Write arrays as `torch.save` did before PyTorch 1.6, with no torch: files for tests."""

import collections
import io
import pickle
from collections.abc import Mapping

import numpy as np
import write_pth
from write_pth import _Global, _Pickler, _Tensor

_STORAGE = write_pth._STORAGE
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _LegacyPickler(_Pickler):
    """Its storages have six parts, and its tensors the older builder."""

    dispatch = _Pickler.dispatch.copy()

    def persistent_id(self, obj):
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None

    def save_tensor(self, obj):
        a = obj.array
        kind = _Global("torch", _STORAGE[a.dtype.str[1:]])
        storage = ("storage", kind, obj.key, "cuda:0", a.size, None)
        self.save(_Global("torch._utils", "_rebuild_tensor"))
        self.save((storage, 0, a.shape, tuple(s // a.itemsize for s in a.strides)))
        self.write(pickle.REDUCE)

    dispatch[_Tensor] = save_tensor


def legacy_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The file of a bare state dict."""
    numbered = enumerate(tensors.items(), start=9000)
    stored = {name: _Tensor(np.asarray(a), str(i)) for i, (name, a) in numbered}
    out = io.BytesIO()
    for header in (_MAGIC, _PROTOCOL, {"protocol_version": _PROTOCOL, "little_endian": True}):
        pickle.dump(header, out, protocol=2)
    _LegacyPickler(out, protocol=2).dump(collections.OrderedDict(stored))
    pickle.dump(sorted((t.key for t in stored.values()), reverse=True), out, protocol=2)
    for tensor in sorted(stored.values(), key=lambda t: t.key, reverse=True):
        out.write(tensor.array.size.to_bytes(8, "little") + tensor.array.tobytes())
    return out.getvalue()
