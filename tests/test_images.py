"""Pictures of every kind, size and defect."""

import io
import struct
import warnings
import zlib
from contextlib import ExitStack

import numpy as np
import pytest
from conftest import DATA
from PIL import Image

import anchor_detr_jax as ad
from anchor_detr_jax.data.transforms import open_rgb, upright_rgb

SIDES = {"short_side": 64, "long_side": 96}
PHOTOGRAPH = sorted((DATA / "coco/val2017").glob("*.jpg"))[0]

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 44), np.uint8)
COLOURS = RNG.integers(0, 256, (30, 44, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (30, 44), np.uint8)
DEEP = (np.arange(30 * 44, dtype=np.uint16) * 49).reshape(30, 44)
TABLE = RNG.integers(0, 256, (256, 3), np.uint8)
INKS = np.repeat(RNG.integers(0, 256, (30, 1, 4), np.uint8), 44, axis=1)


def in_three(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def palette_picture():
    picture = Image.frombytes("P", (44, 30), GREY.tobytes())
    picture.putpalette(TABLE.tobytes())
    return picture


def printed(inks):
    """What light is left by cyan, magenta and yellow under black."""
    light = 255 - inks.astype(float)
    return light[..., :3] * light[..., 3:] / 255


def in_frames(picture):
    """`picture`, and the same upside down as a second frame."""
    second = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return {"save_all": True, "append_images": [second]}


def turned(orientation):
    """A picture that is stored as an orientation of EXIF says, for `COLOURS` to be upright."""
    stored = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.swapaxes(0, 1),
        6: np.rot90(COLOURS, 1),
        7: np.rot90(COLOURS.swapaxes(0, 1), 2),
        8: np.rot90(COLOURS, -1),
    }[orientation]
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = picture.getexif()
    exif[0x0112] = orientation
    return picture, {"exif": exif}


RGB = Image.fromarray(COLOURS)
ANIMATED = palette_picture()
FROM_16_BITS = in_three(np.rint(DEEP / 257))
# Name of a file -> the picture, options to save it with, the RGB pixels that it shows, tolerance.
KINDS = {
    "grey.png": (Image.fromarray(GREY), {}, in_three(GREY), 0),
    "grey_alpha.png": (Image.fromarray(np.stack([GREY, ALPHA], -1)), {}, in_three(GREY), 0),
    "palette.png": (palette_picture(), {}, TABLE[GREY], 0),
    "see_through.png": (palette_picture(), {"transparency": bytes(range(256))}, TABLE[GREY], 0),
    "hole.gif": (palette_picture(), {"transparency": int(GREY[0, 0])}, TABLE[GREY], 0),
    "one_bit.png": (Image.fromarray(GREY > 99), {}, in_three(255 * (GREY > 99)), 0),
    "rgba.png": (Image.fromarray(np.dstack([COLOURS, ALPHA])), {}, COLOURS, 0),
    "cmyk.tif": (Image.fromarray(INKS, "CMYK"), {}, printed(INKS), 1),
    "cmyk.jpg": (Image.fromarray(INKS, "CMYK"), {"quality": 100}, printed(INKS), 9),
    "deep.png": (Image.fromarray(DEEP), {}, FROM_16_BITS, 0),
    "deep.tif": (Image.fromarray(DEEP), {}, FROM_16_BITS, 0),
    "deep_big_endian.tif": (Image.fromarray(DEEP.astype(">u2")), {}, FROM_16_BITS, 0),
    "deep.pgm": (Image.fromarray(DEEP.astype(np.int32)), {}, FROM_16_BITS, 0),
    "integers.tif": (Image.fromarray(GREY.astype(np.int32)), {}, in_three(GREY), 0),
    "shares.tif": (Image.fromarray(GREY.astype(np.float32) / 255), {}, in_three(GREY), 0),
    "floats.tif": (Image.fromarray(GREY.astype(np.float32)), {}, in_three(GREY), 0),
    "animated.gif": (ANIMATED, in_frames(ANIMATED), TABLE[GREY], 0),
    "animated.png": (RGB, in_frames(RGB), COLOURS, 0),
    "animated.webp": (RGB, in_frames(RGB) | {"lossless": True}, COLOURS, 0),
    **{f"turned_{i}.png": (*turned(i), COLOURS, 0) for i in range(1, 9)},
    "turned.tif": (*turned(6), COLOURS, 0),
    "turned.webp": (turned(7)[0], turned(7)[1] | {"lossless": True}, COLOURS, 0),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A folder with one picture of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, (picture, options, _, _) in KINDS.items():
        picture.save(folder / name, **options)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_becomes_rgb(kinds, name):
    _, _, expected, tolerance = KINDS[name]
    image = open_rgb(kinds / name, apply_exif_rotation=True)
    assert image.mode == "RGB"
    np.testing.assert_allclose(np.asarray(image, float), expected, atol=tolerance)
    # What was turned once is not turned again.
    np.testing.assert_array_equal(np.asarray(upright_rgb(image)), np.asarray(image))


def test_boxes_of_every_kind_are_in_the_frame_of_the_picture_as_it_is_seen(narrow, kinds):
    """A file, opened by Pillow or not, gives what the pixels that it shows give."""
    files = [kinds / name for name in KINDS]
    options = {"threshold": 0.0, "top_k": 5, **SIDES}
    from_files = narrow.predict(files, **options)
    with ExitStack() as opened:
        pictures = [opened.enter_context(Image.open(file)) for file in files]
        from_pillow = narrow.predict(pictures, **options)
    arrays = [np.rint(pixels).astype(np.uint8) for _, _, pixels, _ in KINDS.values()]
    from_arrays = narrow.predict(arrays, **options)
    for name, file, pillow, array in zip(KINDS, from_files, from_pillow, from_arrays, strict=True):
        np.testing.assert_array_equal(file.boxes, pillow.boxes, err_msg=name)
        if not KINDS[name][-1]:
            np.testing.assert_allclose(file.boxes, array.boxes, atol=1e-3, err_msg=name)
            np.testing.assert_allclose(file.scores, array.scores, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, np.nan, np.inf, -3, 1]], [0, 0, 255, 0, 255]),
        ([[0, 1e6, 2e6]], [0, 128, 255]),
        ([[0, 0, 0]], [0, 0, 0]),
        ([[0, 65535, 257]], [0, 255, 1]),
    ],
)
def test_floats_of_any_range(values, expected):
    image = upright_rgb(Image.fromarray(np.array(values, np.float32)))
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], expected)


def test_one_lazy_picture_many_times(narrow):
    """Pillow decodes on demand, in whichever thread asks first."""
    with Image.open(PHOTOGRAPH) as picture:
        found = narrow.predict([picture] * 12, threshold=0.0, top_k=3, **SIDES)
    (expected,) = narrow.predict(PHOTOGRAPH, threshold=0.0, top_k=3, **SIDES)
    for one in found:
        np.testing.assert_allclose(one.boxes, expected.boxes, atol=1e-3)


def test_many_sizes_few_programs(narrow, tmp_path):
    rng = np.random.default_rng(2)
    sizes = [(1, 1), (1, 10_000), (10_000, 1), (2, 3), (1, 64), (3000, 40), (40, 3000), (64, 96)]
    sizes += [tuple(hw) for hw in rng.integers(1, 200, (52, 2))]
    arrays = [rng.integers(0, 256, (*hw, 3), np.uint8) for hw in sizes]
    narrow.save(tmp_path / "fresh")
    detector = ad.load(tmp_path / "fresh")
    found = detector.predict(arrays, threshold=0.0, top_k=4, **SIDES)
    assert 1 < detector._programs._detect._cache_size() <= 6
    assert [len(one) for one in found] == [4] * len(sizes)
    for (height, width), one in zip(sizes, found, strict=True):
        assert np.isfinite(one.boxes).all()
        centres = (one.boxes[:, :2] + one.boxes[:, 2:]) / 2
        assert (centres >= -1e-3).all()
        assert (centres <= np.array([width, height]) * 1.001).all()


def huge_png(width, height):
    """A small file that says that it is a large picture."""

    def chunk(kind, content):
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99)))


def encoded(form, **options):
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, form, **options)
    return file.getvalue()


BAD = {
    "cut.jpg": (PHOTOGRAPH.read_bytes()[:2000], "truncated"),
    "cut.png": (encoded("PNG")[:900], "truncated"),
    "text.jpg": (b"no picture", "no format that Pillow knows"),
    "empty.png": (b"", "no format that Pillow knows"),
    "large.png": (huge_png(12_000, 9_000), "raise PIL.Image.MAX_IMAGE_PIXELS"),
    "larger.png": (huge_png(60_000, 60_000), "raise PIL.Image.MAX_IMAGE_PIXELS"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_bad_file_is_named(tmp_path, name, action):
    """Whether or not the program makes errors of warnings."""
    content, says = BAD[name]
    (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ValueError, match=rf"{name}: not a readable image \(.*{says}"):
            open_rgb(tmp_path / name, apply_exif_rotation=True)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_no_damage_ends_in_another_error(tmp_path, form):
    rng = np.random.default_rng(len(form))
    good = encoded(form)
    refused = 0
    for _ in range(60):
        damaged = np.frombuffer(good, np.uint8).copy()
        places = rng.integers(rng.choice([40, len(good)]), size=rng.choice([1, 5, 25]))
        damaged[places] = rng.integers(0, 256, len(places))
        end = rng.choice([len(good), rng.integers(len(good))])
        (tmp_path / "x").write_bytes(damaged[:end].tobytes())
        try:
            open_rgb(tmp_path / "x", apply_exif_rotation=True)
        except ValueError as error:
            assert str(error).startswith(f"{tmp_path / 'x'}: ")  # noqa: PT017
            refused += 1
    assert refused > 0


def test_damaged_exif_does_not_spoil_the_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded("PNG", exif=b"Exif\0\0no such thing"))
    image = open_rgb(tmp_path / "a.png", apply_exif_rotation=True)
    np.testing.assert_array_equal(np.asarray(image), COLOURS)


def test_predict_raises_or_goes_on(narrow, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    cut = Image.open(io.BytesIO(encoded("PNG")[:900]))
    sources = [COLOURS, tmp_path / "text.jpg", cut, tmp_path / "nowhere.jpg", GREY, COLOURS]
    options = {"threshold": 0.0, "top_k": 3, **SIDES}
    for index, (kind, says) in enumerate(
        [
            (ValueError, r"text\.jpg: not a readable"),
            (ValueError, r"image 0: .*truncated"),
            (FileNotFoundError, r"nowhere\.jpg"),
            (ValueError, r"image 0: .*uint8\[30, 44\]"),
        ]
    ):
        with pytest.raises(kind, match=says):
            narrow.predict([sources[index + 1]], **options)
    errors = {}
    found = narrow.predict(sources, **options, batch_size=2, on_error=errors.__setitem__)
    assert [len(one) for one in found] == [3, 0, 0, 0, 0, 3]
    assert sorted(errors) == [1, 2, 3, 4]
    assert "image 4: " in str(errors[4])
    np.testing.assert_allclose(found[5].boxes, found[0].boxes, atol=1e-4)
    assert found[1].boxes.shape == (0, 4)
