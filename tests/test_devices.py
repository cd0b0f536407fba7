"""Eight devices find what one finds."""

import os
import subprocess
import sys
from itertools import chain

import jax
import numpy as np
from conftest import NARROW

from anchor_detr_jax.data.batching import PreparedImage
from anchor_detr_jax.devices import LocalDevices, unbatched

BUCKET = (64, 96)
EIGHT = """
import re, sys
import jax, numpy as np
import anchor_detr_jax as ad
from anchor_detr_jax.data.batching import PreparedImage, bucketed_batches
from anchor_detr_jax.detector import default_batch_size
from anchor_detr_jax.devices import unbatched

folder, images, output = sys.argv[1:]
detector = ad.load(folder)
prepared = [PreparedImage(int(i), pixels, (100, 150)) for i, pixels in np.load(images).items()]
columns = np.ones(detector.config.num_classes, bool)
options = {"buckets": [(64, 96)], "top_k": 20, "columns": columns}
batches = list(detector.detect_batches(prepared, batch_size=3, **options))
found = [one for batch in batches for _, one in unbatched(batch)]

programs = detector._programs
devices, prepared_variables = programs._devices, programs._for_inference(detector.variables)
variables = devices.copied(prepared_variables)
assert devices.copied(prepared_variables)["params"] == variables["params"]
batch = next(iter(bucketed_batches(prepared, [(64, 96)], 8)))
split = devices.split((batch.images, batch.original_hw))
program = programs._detect.lower(variables, *split, columns, count=20).compile().as_text()
together = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"

changed = jax.tree.map(lambda leaf: leaf, detector.variables)
changed["params"]["class_head"]["bias"] = changed["params"]["class_head"]["bias"] + 1.0
detector.variables["params"]["class_head"] = changed["params"]["class_head"]
(batch,) = detector.detect_batches(prepared[:1], batch_size=3, **options)
((_, moved),) = unbatched(batch)
outputs = detector.forward([prepared[0].pixels])

np.savez(
    output,
    batch_sizes=[len(b.batch.images.valid_hw) for b in batches],
    members=[len(b.batch.indices) for b in batches],
    devices=[jax.local_device_count(), len(outputs.logits.devices()), default_batch_size()],
    collectives=len(re.findall(together, program)),
    boxes=[one.boxes for one in found],
    scores=[one.scores for one in found],
    moved=moved.scores,
)
"""


def test_eight_devices_find_what_one_finds(narrow, tmp_path):
    rng = np.random.default_rng(0)
    pixels = {str(i): rng.integers(0, 256, (64 - i, 80 + i, 3), np.uint8) for i in range(11)}
    np.savez(tmp_path / "images.npz", **pixels)
    narrow.save(tmp_path / "narrow")
    subprocess.run(
        [sys.executable, "-c", EIGHT, *(tmp_path / n for n in ("narrow", "images.npz", "out.npz"))],
        check=True,
        env=os.environ
        | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"},
    )
    eight = np.load(tmp_path / "out.npz")
    assert eight["devices"].tolist() == [8, 1, 8]  # forward stays on one device
    assert eight["batch_sizes"].tolist() == [8, 8]  # 3, rounded up
    assert eight["members"].tolist() == [8, 3]
    assert eight["collectives"] == 0  # no device waits for another

    prepared = [PreparedImage(int(i), image, (100, 150)) for i, image in pixels.items()]
    columns = np.ones(NARROW.num_classes, bool)
    options = {"buckets": [BUCKET], "batch_size": 1, "top_k": 20, "columns": columns}
    one = dict(chain.from_iterable(map(unbatched, narrow.detect_batches(prepared, **options))))
    assert eight["scores"].shape == (11, 20)
    for i in range(11):
        np.testing.assert_allclose(eight["scores"][i], one[i].scores, atol=1e-5)
        np.testing.assert_allclose(eight["boxes"][i], one[i].boxes, atol=1e-2)
    # New variables are seen, though the old ones had been copied to all devices.
    odds = one[0].scores / (1 - one[0].scores) * np.e
    np.testing.assert_allclose(eight["moved"], odds / (1 + odds), atol=1e-5)


def test_one_device_moves_nothing():
    devices = LocalDevices()
    assert devices.count == jax.local_device_count() == 1
    tree = {"a": np.zeros(3), "b": [np.ones(2)]}
    assert devices.split(tree) is tree
    assert devices.copied(tree) is tree
    assert [devices.rounded(n) for n in (1, 3, 8)] == [1, 3, 8]
