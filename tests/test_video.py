"""Videos: read, written, and what is found in them, frame by frame."""

import json
import struct
import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from test_commands import errors_of, run

import anchor_detr_jax as ad
from anchor_detr_jax.data.video import Frame, VideoReader, VideoWriter, check_video_support
from anchor_detr_jax.insight.videos import annotate_video, frames_with_detections
from anchor_detr_jax.visualize import category_colour

av = pytest.importorskip("av", reason="needs PyAV, of the extra `video`")

RED, GREEN, BLUE = (200, 30, 60), (20, 180, 90), (40, 60, 210)
FPS = Fraction(30000, 1001)
TICK = Fraction(1, 30000)


def write(path, frames, *, times=None, suffix="mp4", options=None, sound=False):
    """A video by PyAV itself; `times` in ticks."""
    av.logging.set_level(av.logging.PANIC)
    with av.open(str(path), "w", format={"mkv": "matroska"}.get(suffix, suffix)) as container:
        height, width, _ = frames[0].shape
        stream = container.add_stream("libx264", rate=FPS, options=options or {"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = TICK
        stream.codec_context.gop_size = 10
        noise = container.add_stream("aac", rate=44100) if sound else None
        for time, pixels in zip(times or range(0, 1001 * len(frames), 1001), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if noise:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
            silence.sample_rate = 44100
            container.mux(noise.encode(silence))
            container.mux(noise.encode(None))
    return path


def halves(left, right, *, hw=(48, 64)):
    pixels = np.empty((*hw, 3), np.uint8)
    pixels[:, : hw[1] // 2], pixels[:, hw[1] // 2 :] = left, right
    return pixels


def grounds(count, hw=(48, 64)):
    """Frames that differ, and have enough in them for a stream of some size."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*hw, 3)).astype(np.uint8) for _ in range(count)]


def read(path):
    damage = []
    with VideoReader(path) as video:
        frames = list(video.frames(lambda *what: damage.append(what)))
    return frames, damage


def turned(path, matrix):
    """Give an MP4's track a matrix, as cameras that are held upright do."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


ONE = 1 << 16
QUARTER_CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
HALF = (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30)


def test_frames_and_their_times(tmp_path):
    frames, damage = read(write(tmp_path / "a.mp4", [halves(RED, GREEN), halves(BLUE, RED)] * 4))
    assert damage == []
    assert [frame.number for frame in frames] == list(range(8))
    assert [frame.seconds for frame in frames] == [i / FPS for i in range(8)]
    for frame, (left, right) in zip(frames, [(RED, GREEN), (BLUE, RED)] * 4, strict=True):
        assert frame.pixels.shape == (48, 64, 3)
        assert np.abs(frame.pixels[24, 10].astype(int) - left).max() < 8
        assert np.abs(frame.pixels[24, -10].astype(int) - right).max() < 8


@pytest.mark.parametrize(("matrix", "corners"), [(QUARTER_CLOCKWISE, (RED, GREEN)), (HALF, None)])
def test_a_camera_held_upright(tmp_path, matrix, corners):
    path = write(tmp_path / "a.mp4", [halves(RED, GREEN)] * 3)
    turned(path, matrix)
    frame = read(path)[0][0].pixels.astype(int)
    if corners:  # what was left is above now
        assert frame.shape == (64, 48, 3)
        assert np.abs(frame[5, 24] - RED).max() < 8
        assert np.abs(frame[-5, 24] - GREEN).max() < 8
    else:
        assert np.abs(frame[24, 5] - GREEN).max() < 8


@pytest.mark.parametrize("hw", [(48, 64), (47, 63), (720, 1280)])
def test_what_is_written_is_read_again(tmp_path, hw):
    """Colours, odd sides, and times that are no multiples of anything."""
    times = [0, 1001, 3003, 3004, 12000, 90000]
    source = write(tmp_path / "a.mp4", [halves(RED, GREEN)] * 6, times=times)
    shown = [halves(RED, GREEN, hw=hw), halves(GREEN, BLUE, hw=hw)] * 3
    with VideoReader(source) as video, VideoWriter(tmp_path / "b.mp4", video) as writer:
        moments = [frame.seconds for frame in video.frames(print)]
        for pixels, seconds in zip(shown, moments, strict=True):
            writer.write(pixels, seconds)
        assert moments == [time * TICK for time in times]
    frames, damage = read(tmp_path / "b.mp4")
    assert damage == []
    assert [frame.seconds for frame in frames] == moments
    for frame, pixels in zip(frames, shown, strict=True):
        height, width = frame.pixels.shape[:2]
        assert (height, width) == (hw[0] + hw[0] % 2, hw[1] + hw[1] % 2)
        for x in (5, -5):
            assert np.abs(frame.pixels[20, x].astype(int) - pixels[20, x]).max() < 8
    with av.open(str(tmp_path / "b.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"  # which browsers play
        assert next(container.decode(stream)).colorspace == 1  # BT.709, as it is converted


def test_the_speed_stays_to_the_digit(tmp_path):
    source = write(tmp_path / "a.mp4", grounds(30))
    with VideoReader(source) as video, VideoWriter(tmp_path / "b.mp4", video) as writer:
        assert (video.fps, video.count, video.has_sound) == (FPS, 30, False)
        for frame in video.frames(print):
            writer.write(frame.pixels, frame.seconds)
    with VideoReader(tmp_path / "b.mp4") as video:
        assert (video.fps, video.count) == (FPS, 30)


def test_damage_is_said_and_passed_over(tmp_path):
    path = write(tmp_path / "a.mp4", grounds(60))
    content = bytearray(path.read_bytes())
    middle = slice(int(len(content) * 0.35), int(len(content) * 0.5))
    content[middle] = np.random.default_rng(1).bytes(len(content[middle]))
    path.write_bytes(content)
    frames, damage = read(path)
    assert 40 < len(frames) < 60
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert frames[-1].seconds == pytest.approx(59 / FPS, abs=2e-3)  # those after it have their time
    assert damage
    assert all(0.3 < second < 1.6 for second, _ in damage)
    assert any("decoded" in what for _, what in damage)


def test_a_file_that_ends_early(tmp_path):
    path = write(tmp_path / "a.mkv", grounds(60), suffix="mkv")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, damage = read(path)
    assert 20 < len(frames) < 40
    (second, what), *_ = damage[-1:]
    assert second == pytest.approx(float(len(frames) / FPS), abs=0.01)
    assert "should go on to 2.00 s" in what


@pytest.mark.parametrize(
    ("content", "says"), [(b"hello", "not a readable video"), (b"", "not a readable video")]
)
def test_what_is_no_video(tmp_path, content, says):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.mp4: {says}"):
        VideoReader(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.mp4"):
        VideoReader(tmp_path / "a.mp4")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r'pip install "anchor_detr_jax\[video\]"'):
        check_video_support()


def test_what_cannot_be_encoded(tmp_path):
    """The encoder refuses the size; what it is said to be is no traceback."""
    source = write(tmp_path / "a.mp4", grounds(2))
    target, wide = tmp_path / "b.mp4", np.zeros((48, 20_000, 3), np.uint8)
    with (
        VideoReader(source) as video,
        VideoWriter(target, video) as writer,
        pytest.raises(OSError, match=r"b\.mp4 cannot be written at 20000x48"),
    ):
        writer.write(wide, Fraction(0))


def nothing(count=0):
    return ad.Detections(
        boxes=np.tile(np.float32([8, 8, 40, 30]), (count, 1)),
        scores=np.full(count, 0.9, np.float32),
        labels=np.full(count, 3),
        names=["thing"] * count,
    )


def test_frames_are_drawn_as_they_come(tmp_path):
    """The first ones are in the file before the last are read, each with what was found in it."""
    source = write(tmp_path / "a.mp4", [np.full((240, 320, 3), 90, np.uint8)] * 40)
    alternately = (nothing(i % 2) for i in range(99))
    with VideoReader(source) as video:
        drawn = annotate_video(
            video,
            tmp_path / "b.mp4",
            lambda images: (found for _, found in zip(images, alternately, strict=False)),
            on_damage=print,
        )
        assert [(frame.number, len(found)) for frame, found in drawn] == [
            (i, i % 2) for i in range(40)
        ]
    frames, _ = read(tmp_path / "b.mp4")
    for frame in frames:
        near = np.abs(frame.pixels.astype(int) - category_colour(3)).max(axis=2) < 40
        assert near.any() == (frame.number % 2 == 1)


@pytest.mark.parametrize("batch_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_few_frames_are_alive(narrow, batch_size):
    """However long a video is, and where its first frame has another size."""
    ever, most = [], 0

    def frames():
        nonlocal most
        for i in range(30):
            pixels = np.full((48, 64, 3) if i else (64, 48, 3), i, np.uint8)
            ever.append(weakref.ref(pixels))
            most = max(most, sum(one() is not None for one in ever))
            yield Frame(i, Fraction(i), pixels)

    def detect(images):
        return narrow.predict_stream(
            images, short_side=48, long_side=64, threshold=0.0, top_k=2, batch_size=batch_size
        )

    numbers = []
    for frame, found in frames_with_detections(frames(), detect):
        assert len(found) == 2
        numbers.append(frame.number)
    assert numbers == list(range(30))
    assert most <= 6 + 4 * batch_size


def test_a_stream_finds_what_predict_finds(narrow):
    """In their order, though batches are made of images of one shape."""
    rng = np.random.default_rng(0)
    lying, standing = (
        rng.integers(0, 256, hw).astype(np.uint8) for hw in [(48, 64, 3), (64, 48, 3)]
    )
    images = [lying, standing, lying, lying, "no/such/file.png", lying, standing, lying]
    options = {"short_side": 48, "long_side": 64, "threshold": 0.0, "top_k": 2, "batch_size": 2}
    failed = {}
    found = list(narrow.predict_stream(iter(images), **options, on_error=failed.__setitem__))
    assert list(failed) == [4]
    assert len(found.pop(4)) == 0
    del images[4]
    boxes = [narrow.predict(image, **options)[0].boxes for image in (lying, standing)]
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one.boxes, boxes[image is standing], atol=1e-3)
    assert np.abs(boxes[0] - boxes[1]).max() > 1


@pytest.mark.slow
def test_predict_on_videos_and_pictures(narrow, tmp_path):
    narrow.save(tmp_path / "out")
    clips = tmp_path / "clips"
    clips.mkdir()
    Image.fromarray(halves(RED, GREEN)).save(clips / "a.png")
    write(clips / "a.mp4", grounds(12, (50, 66)), sound=True)
    bad = write(clips / "bad.mkv", grounds(60), suffix="mkv")
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    (clips / "text.mov").write_text("no video")
    done = run(
        *("scripts/predict.py", "--checkpoint", tmp_path / "out", "--images", clips),
        *("--output", tmp_path / "drawn", "--short_side=48", "--long_side=64"),
        *("--threshold=0", "--top_k=2"),
        check=False,
    )
    errors = errors_of(done)
    assert len(errors) == 3
    assert "bad.mkv: at " in errors[0]
    assert "text.mov: not a readable video" in errors[1]
    assert "2 of 4 files failed" in errors[2]
    assert "12 frames, 24 objects; its sound is left out" in done.stdout
    drawn = {path.name for path in (tmp_path / "drawn").iterdir()}
    assert drawn == {"a.mp4", "a_2.jpg", "bad.mp4", "detections.json", "detections.jsonl"}
    lines = (tmp_path / "drawn/detections.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    first = [row for row in rows if row["video"].endswith("a.mp4")]
    assert [row["frame"] for row in first] == list(range(12))
    assert [row["seconds"] for row in first] == [float(i / FPS) for i in range(12)]
    assert all(len(row["boxes"]) == len(row["names"]) == 2 for row in first)
    assert [row["video"].endswith("text.mov") for row in rows if "frame" not in row] == [
        False,
        True,
    ]
    with VideoReader(tmp_path / "drawn/a.mp4") as video:
        assert (video.fps, video.count) == (FPS, 12)
