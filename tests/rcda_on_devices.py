"""Run by test_rcda_kernel.py with eight simulated devices: RCDA's kernels on a batch cut over them.

python tests/rcda_on_devices.py OUTPUT: results, and what devices say to each other, to an npz file.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_rcda import inputs, with_gradients

from anchor_detr_jax.layers.rcda_kernel import attend_by_kernel

COLLECTIVE = re.compile(r"= .* (all-gather|all-reduce|all-to-all|collective-permute)\S*\(")


def main(output: str) -> None:
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "fsdp"))
    by_image = PartitionSpec(("data", "fsdp"))
    arrays = inputs(b=8, n=2, q=14, h=5, w=3, d=8)
    cut = jax.device_put(arrays, NamedSharding(mesh, by_image))

    def function(*arrays):
        return with_gradients(attend_by_kernel, *arrays)

    found = {"one device": jax.jit(function)(*arrays)}
    compiled = jax.jit(function).lower(*cut).compile()
    found["cut by XLA"] = compiled(*cut)
    by_hand = jax.shard_map(
        function, mesh=mesh, in_specs=by_image, out_specs=by_image, check_vma=False
    )
    found["cut by hand"] = jax.jit(by_hand)(*cut)
    kept = all(array.sharding.spec == by_image for array in found["cut by XLA"])
    said = [match.group(1) for match in COLLECTIVE.finditer(compiled.as_text())]
    flat = {f"{way}/{i}": array for way, arrays in found.items() for i, array in enumerate(arrays)}
    np.savez(output, kept=kept, said=said, **flat)


if __name__ == "__main__":
    main(*sys.argv[1:])
