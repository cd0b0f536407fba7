"""Encoded pictures kept in memory."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from anchor_detr_jax.data.cache import CachedPictures


@dataclass
class Counted:
    """Pictures of 10 bytes that know how often they were read."""

    count: int = 8
    read: list[int] = field(default_factory=list)

    def __len__(self):
        return self.count

    def name(self, index):
        """A name."""
        return f"picture {index}"

    def encoded(self, index):
        """Ten bytes."""
        self.read.append(index)
        return b"%010d" % index


def test_what_fits_is_read_once():
    counted = Counted()
    pictures = CachedPictures(counted, 35)
    for _ in range(3):
        assert [pictures.encoded(i) for i in range(8)] == [b"%010d" % i for i in range(8)]
    # The first three come are kept: a fourth would pass 35 bytes.
    assert [counted.read.count(i) for i in range(8)] == [1] * 3 + [3] * 5
    assert (len(pictures), pictures.name(4)) == (8, "picture 4")


def test_a_smaller_picture_may_still_fit():
    counted = Counted()
    counted.encoded = lambda index: counted.read.append(index) or bytes(30 if index == 0 else 4)
    pictures = CachedPictures(counted, 12)
    for index in (0, 1, 2, 3, 0, 1, 2, 3):
        pictures.encoded(index)
    assert counted.read == [0, 1, 2, 3, 0]


def test_no_limit_no_memory():
    counted = Counted()
    pictures = CachedPictures(counted, 0)
    pictures.encoded(1)
    pictures.encoded(1)
    assert counted.read == [1, 1]
    with pytest.raises(ValueError, match="limit_bytes is -1"):
        CachedPictures(counted, -1)


def test_another_process_starts_with_nothing():
    pictures = CachedPictures(Counted(), 1000)
    pictures.encoded(3)
    sent = pickle.loads(pickle.dumps(pictures))  # noqa: S301
    for _ in range(2):
        assert sent.encoded(3) == b"%010d" % 3
    assert sent.pictures.read == [3, 3]  # once here, once there
    assert sent.limit_bytes == 1000


def test_many_threads_stay_within_the_limit():
    counted = Counted(count=500)
    pictures = CachedPictures(counted, 2500)
    with ThreadPoolExecutor(8) as pool:
        wanted = [i % 500 for i in range(4000)]
        assert list(pool.map(pictures.encoded, wanted)) == [b"%010d" % i for i in wanted]
    counted.read.clear()
    for index in range(500):
        pictures.encoded(index)
    assert len(counted.read) == 250
