"""The service in one process: its batches, its limits, its answers."""

import asyncio
import gc
import io
import json
import re
import threading
import time
import weakref
from itertools import chain

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the service needs the extra [serve]")
pytest.importorskip("uvicorn", reason="the service needs the extra [serve]")

from serving_clients import ROOT, bomb, call

from anchor_detr_jax.data.batching import PreparedImage
from anchor_detr_jax.serving import app as app_module
from anchor_detr_jax.serving.app import make_app
from anchor_detr_jax.serving.limits import Limits
from anchor_detr_jax.serving.reading import read_body
from anchor_detr_jax.serving.served import Program, ServedDetector
from anchor_detr_jax.serving.server import bound_socket, serve
from anchor_detr_jax.serving.service import Service
from anchor_detr_jax.structures import RankedDetections


class _Colours(ServedDetector):
    """Finds one box in each picture: its first pixel's colour; takes long if asked to."""

    def __init__(self):
        self.batch_sizes, self.top_k = (1, 2, 4), 10
        self.programs = [Program((8, 8), size) for size in self.batch_sizes]
        self.go_on = threading.Event()
        self.go_on.set()
        self.ran = []

    def describe(self):
        return {"detector": ["colours"]}

    def compile(self, program):
        assert self.go_on.wait(10)

    def prepare(self, picture):
        return (8, 8), PreparedImage(0, np.asarray(picture), (picture.height, picture.width))

    def run(self, bucket, images):
        self.ran.append([int(image.pixels[0, 0, 0]) for image in images])
        assert self.go_on.wait(10)
        if 13 in self.ran[-1]:
            raise RuntimeError("secret of the model")
        return [
            RankedDetections(
                np.array([[*image.pixels[0, 0].tolist(), 1.5]], np.float32),
                np.array([0.75], np.float32),
                np.array([1]),
            )
            for image in images
        ]

    def named(self, ranked, threshold, top_k):
        keep = ranked.scores >= threshold
        return [{"box": box} for box in ranked.boxes[keep].tolist()]


def png(colour, wh=(5, 3)):
    file = io.BytesIO()
    Image.new("RGB", wh, colour).save(file, "png")
    return file.getvalue()


def serving(scenario, *, limits=None, served=None, ready=True, batch_wait_s=0.01):
    """Run `scenario(app, service)` while the service works."""

    async def run():
        service = Service(
            served or _Colours(), limits or Limits(), threshold=0.5, batch_wait_s=batch_wait_s
        )
        async with service.working() as warm_up:
            if ready:
                await warm_up
            await scenario(make_app(service), service)

    asyncio.run(asyncio.wait_for(run(), 60))


def test_an_answer(capsys):
    async def scenario(app, service):
        reply = await call(app, "/detect", chunks=[png((1, 2, 3))])
        assert reply.status == 200
        assert reply.json["detections"] == [{"box": [1, 2, 3, 1.5]}]
        assert reply.json["picture"] == {"width": 5, "height": 3}
        timings = reply.json["timings_ms"]
        stages = [timings[stage] for stage in ("read", "decode", "wait", "device")]
        assert all(one >= 0 for one in stages)
        assert sum(stages) <= timings["all"] + 0.1
        assert (await call(app, "/detect?threshold=0.8", chunks=[png(0)])).json["detections"] == []
        assert (await call(app, "/", method="GET")).json["detector"] == ["colours"]
        assert (await call(app, "/health", method="GET")).json["status"] == "ready"
        metrics = (await call(app, "/metrics", method="GET")).body.decode()
        assert "anchor_detr_images_total 2.0" in metrics
        assert 'anchor_detr_batches_total{images="1"} 2.0' in metrics
        assert 'anchor_detr_requests_total{path="/detect",status="200"} 2.0' in metrics
        assert 'anchor_detr_seconds_count{stage="device"} 2.0' in metrics

    serving(scenario)
    assert "ready: 3 programs" in capsys.readouterr().out


def test_each_client_of_a_batch_has_its_own_answer():
    served = _Colours()

    async def scenario(app, service):
        asked = [call(app, "/detect", chunks=[png((i, 0, 0))]) for i in range(8)]
        replies = await asyncio.gather(*asked)
        boxes = [reply.json["detections"][0]["box"][0] for reply in replies]
        assert boxes == list(range(8))
        assert max(reply.json["batch"] for reply in replies) > 1

    serving(scenario, served=served, batch_wait_s=0.2)
    assert sorted(chain.from_iterable(served.ran)) == list(range(8))
    assert max(map(len, served.ran)) <= 4


CUT = png(0)[:-25]
SMALL = Limits(max_body_bytes=5000, max_pixels=1000, read_timeout_s=0.2)


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        ({"target": "/detect?treshold=1"}, 400, "no parameter 'treshold'; did you mean threshold"),
        ({"target": "/detect?zzz=1"}, 400, "there are threshold and top_k"),
        ({"target": "/detect?threshold=nan"}, 400, "'nan', expected a score from 0 to 1"),
        ({"target": "/detect?threshold=high"}, 400, "'high', expected a score from 0 to 1"),
        ({"target": "/detect?top_k=11"}, 400, "'11', expected a whole number from 1 to 10"),
        ({"target": "/detect?top_k=1.5"}, 400, "'1.5', expected a whole number from 1 to 10"),
        ({"chunks": [b""]}, 400, "the body is empty"),
        ({"chunks": [b"hello, I am no picture"]}, 415, "the body (22 bytes) is no picture"),
        ({"chunks": [b"%!PS-Adobe-3.0 EPSF-3.0"]}, 415, "expected JPEG, PNG"),
        ({"chunks": [CUT]}, 400, "the picture is damaged"),
        ({"chunks": [png(0, (40, 30))]}, 413, "40x30 pixels; at most 1000 are taken"),
        ({"chunks": [bomb(60000, 60000)]}, 413, "pixels; at most 1000 are taken"),
        ({"chunks": [bytes(3000)] * 2}, 413, "at least 6000 bytes; at most 5000 are taken"),
        ({"headers": [("content-length", "5001")], "chunks": [None]}, 413, "has 5001 bytes"),
        ({"headers": [("content-type", "multipart/form-data; b=1")]}, 415, "no form"),
        ({"headers": [("content-length", "9")], "chunks": [b"abc", None]}, 408, "3 of 9 bytes"),
        ({"method": "GET"}, 405, "GET /detect: expected one of / (GET"),
        ({"target": "/detct"}, 404, "POST /detct: expected one of"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_is_one_clear_line(request_, status, says, monkeypatch):
    monkeypatch.setattr(app_module, "_LINGER_S", 0.05)

    async def scenario(app, service):
        reply = await call(app, **{"target": "/detect", **request_})
        assert reply.status == status
        assert list(reply.json) == ["error"]
        assert says in reply.json["error"]
        assert "\n" not in reply.json["error"]
        assert reply.headers["content-type"] == "application/json"
        assert not service.served.ran
        assert (await call(app, "/detect", chunks=[png(0)])).status == 200

    serving(scenario, limits=SMALL)


def test_a_refused_body_is_read_to_its_end_for_a_while(monkeypatch):
    monkeypatch.setattr(app_module, "_LINGER_S", 0.1)

    async def scenario(app, service):
        chunks = [bytes(3000)] * 10
        reply = await call(app, "/detect", chunks=chunks)
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        started = time.monotonic()
        assert (await call(app, "/detect", chunks=[bytes(6000), None])).status == 413
        assert 0.09 < time.monotonic() - started < 5

    serving(scenario, limits=SMALL)


def test_a_picture_is_not_kept_after_its_answer(monkeypatch):
    """Not even until the garbage collector finds it: it knows nothing of how large pictures are."""
    bodies = []

    async def noting(request, limits):
        bodies.append(weakref.ref(body := await read_body(request, limits)))
        return body

    monkeypatch.setattr(app_module, "read_body", noting)
    gone = asyncio.Event()
    sent = {200: png(0), 400: CUT, 413: bomb(60000, 60000), 415: b"text"}

    async def scenario(app, service):
        gc.collect()
        gc.disable()
        try:
            for status, body in sent.items():
                assert (await call(app, "/detect", chunks=[body])).status == status
            service.served.go_on.clear()
            leaving = asyncio.create_task(call(app, "/detect", chunks=[png(0)], hang_up=gone))
            await asyncio.sleep(0.1)
            gone.set()
            assert (await leaving).status == 499
            service.served.go_on.set()
            await asyncio.sleep(0.1)
            assert [body() for body in bodies] == [None] * 5
        finally:
            gc.enable()

    serving(scenario)


def test_a_full_queue_is_said_at_once():
    served = _Colours()

    async def scenario(app, service):
        served.go_on.clear()
        waiting = [
            asyncio.create_task(call(app, "/detect", chunks=[png((i, 0, 0))])) for i in range(3)
        ]
        await asyncio.sleep(0.1)
        started = time.monotonic()
        full = await call(app, "/detect", chunks=[png(0)])
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert "3 requests are under way" in full.json["error"]
        assert time.monotonic() - started < 1
        served.go_on.set()
        assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * 3
        assert (await call(app, "/detect", chunks=[png(0)])).status == 200

    serving(scenario, limits=Limits(queue_size=3), served=served)


def test_a_client_that_hangs_up_is_not_worked_for():
    served = _Colours()

    async def scenario(app, service):
        served.go_on.clear()
        first = asyncio.create_task(call(app, "/detect", chunks=[png((1, 0, 0))]))
        await asyncio.sleep(0.1)
        gone = asyncio.Event()
        leaving = [
            asyncio.create_task(call(app, "/detect", chunks=[png((2, 0, 0))], hang_up=gone)),
            asyncio.create_task(call(app, "/detect", chunks=[b"half", None], hang_up=gone)),
        ]
        staying = asyncio.create_task(call(app, "/detect", chunks=[png((3, 0, 0))]))
        await asyncio.sleep(0.1)
        gone.set()
        assert [reply.status for reply in await asyncio.gather(*leaving)] == [499, 499]
        served.go_on.set()
        assert [(await one).status for one in (first, staying)] == [200, 200]
        metrics = (await call(app, "/metrics", method="GET")).body.decode()
        assert 'anchor_detr_rejected_total{reason="client gone"} 2.0' in metrics
        assert "anchor_detr_under_way 0.0" in metrics

    serving(scenario, served=served)
    assert served.ran == [[1], [3]]


def test_a_late_answer_is_504():
    served = _Colours()

    async def scenario(app, service):
        served.go_on.clear()
        reply = await call(app, "/detect", chunks=[png(0)])
        assert reply.status == 504
        assert "within 0.2 s" in reply.json["error"]
        served.go_on.set()
        assert (await call(app, "/detect", chunks=[png(0)])).status == 200

    serving(scenario, served=served, limits=Limits(answer_timeout_s=0.2))


def test_a_model_that_fails_fails_its_batch_alone(caplog):
    async def scenario(app, service):
        bad = await call(app, "/detect", chunks=[png((13, 0, 0))])
        assert bad.status == 500
        assert "secret" not in bad.body.decode()
        assert (await call(app, "/detect", chunks=[png(0)])).status == 200

    serving(scenario)
    assert "secret of the model" in caplog.text


def test_until_it_is_warm_it_is_not_ready():
    served = _Colours()
    served.go_on.clear()

    async def scenario(app, service):
        health = await call(app, "/health", method="GET")
        assert (health.status, health.json["status"]) == (503, "warming up")
        reply = await call(app, "/detect", chunks=[png(0)])
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert "0 of 3 programs" in reply.json["error"]
        served.go_on.set()
        while not service.ready:
            await asyncio.sleep(0.01)
        assert (await call(app, "/health", method="GET")).status == 200

    serving(scenario, served=served, ready=False)


@pytest.mark.slow  # on a port
def test_programs_that_cannot_be_compiled_end_it():
    served = _Colours()

    def fail(program):
        raise RuntimeError("out of memory\nand much more")

    served.compile = fail
    service = Service(served, Limits(), threshold=0.5, batch_wait_s=0.0)
    with pytest.raises(ValueError, match=r"cannot be compiled: out of memory$"):
        serve(service, bound_socket("127.0.0.1", 0))


@pytest.mark.parametrize("field", ["queue_size", "max_pixels", "max_body_bytes"])
def test_limits_are_positive(field):
    with pytest.raises(ValueError, match=f"{field} is 0, expected more than 0"):
        Limits(**{field: 0})


def test_batch_sizes():
    """Few programs, and little padding; each device has as many images."""
    from anchor_detr_jax.serving.served import _batch_sizes

    assert _batch_sizes(1, devices=1) == (1,)
    assert _batch_sizes(8, devices=1) == (1, 2, 4, 8)
    assert _batch_sizes(6, devices=1) == (1, 2, 4, 6)
    assert _batch_sizes(8, devices=3) == (3, 6, 9)


def test_the_image_has_what_the_dockerfile_copies():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if re.match("COPY (?!--from)", line)]
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(chain.from_iterable(copied)) == sorted(kept)
    assert all((ROOT / name).exists() for name in kept)


def test_it_finds_what_predict_finds(narrow, pictures):
    """Also in a photograph that is stored lying on its side."""
    served = ServedDetector(narrow, short_side=64, long_side=64, batch_size=1, top_k=7)
    picture = Image.fromarray(next(iter(pictures.values())))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "jpeg", exif=exif)
    sides = {"short_side": 64, "long_side": 64}
    expected = narrow.predict(Image.open(file), threshold=0.3, top_k=7, **sides)[0][:5]
    assert len(expected) > 0

    async def scenario(app, service):
        reply = await call(app, "/detect?threshold=0.3&top_k=5", chunks=[file.getvalue()])
        found = reply.json["detections"]
        assert reply.json["picture"] == {"width": picture.height, "height": picture.width}
        np.testing.assert_allclose([one["box"] for one in found], expected.boxes, atol=0.0051)
        np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=6e-6)
        assert [one["id"] for one in found] == expected.labels.tolist()
        assert [one["name"] for one in found] == expected.names
        described = (await call(app, "/", method="GET")).json
        assert described["categories"][0] == {"id": 10, "name": "kind 0"}
        assert json.dumps(described)

    serving(scenario, served=served)
