"""The service as a process on a port of this machine: load, hostile clients, its end."""

import contextlib
import io
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the service needs the extra [serve]")
pytest.importorskip("uvicorn", reason="the service needs the extra [serve]")

from serving_clients import ROOT, ServeProcess, bomb, load

pytestmark = pytest.mark.slow

SIDES = ("--short_side=64", "--long_side=64")


def jpeg(hw, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg")
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoint(narrow, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "detector"
    narrow.save(folder)
    return folder


@pytest.fixture(scope="module")
def service(checkpoint, tmp_path_factory):
    log = tmp_path_factory.mktemp("service") / "log"
    options = ("--batch_size=2", "--batch_wait_ms=20", "--read_timeout_s=2")
    with ServeProcess(checkpoint, *SIDES, *options, log=log) as process:
        process.wait_for("ready: 4 programs compiled")
        yield process
        assert "Traceback" not in process.log.read_text()


def test_eight_clients(service):
    bodies = [jpeg((60, 80), 1), jpeg((80, 60), 2), jpeg((70, 75), 3)]
    before = service.metric("anchor_detr_images_total")
    seconds, others = load(service.port, bodies, clients=8, requests=20)
    assert others == []
    assert len(seconds) == 8 * 20
    assert service.metric("anchor_detr_images_total") - before == 8 * 20
    sizes = [service.metric(f'anchor_detr_batches_total{{images="{i}"}}') for i in (1, 2)]
    assert np.dot(sizes, [1, 2]) == service.metric("anchor_detr_images_total")
    assert sizes[1] > 0


def raw(service, *parts, pause=0.0):
    """All that comes back for these bytes until the service closes, and how many parts it took."""
    answer, taken = b"", 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):  # closed while we were still sending
            for part in parts:
                connection.sendall(part)
                taken += 1
                time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            while received := connection.recv(65536):
                answer += received
    return answer, taken


HEAD = b"POST /detect HTTP/1.1\r\nHost: x\r\n"
BODY_OF_99 = b"Content-Length: 99\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "pause", "says"),
    [
        ([], 0, b"HTTP/1.1 408"),
        ([b"POST /det"], 0, b"HTTP/1.1 408"),
        ([HEAD + BODY_OF_99 + b"abc"], 0, b"3 of 99 bytes of the body came"),
        ([bytes([byte]) for byte in HEAD], 0.2, b"HTTP/1.1 408"),
        ([HEAD + BODY_OF_99, *[b"x"] * 60], 0.2, b"HTTP/1.1 408"),
        ([HEAD.replace(b"/detect", b"/no") + BODY_OF_99, *[b"x"] * 60], 0.2, b"HTTP/1.1 404"),
        ([b"no HTTP at all\r\n\r\n"], 0, b'{"error": "Invalid HTTP request'),
        ([b"A" * 100_000], 0, b"HTTP/1.1 400"),
    ],
    ids=["nothing", "head", "body", "slow head", "slow body", "slow end", "garbage", "no end"],
)
def test_what_is_half_sent_ends_in_time(service, parts, pause, says):
    answer, taken = raw(service, *parts, pause=pause)
    assert says in answer
    assert taken < len(parts) or not pause
    assert service.ask("/detect", jpeg((60, 80))).status == 200


def hang_up(service, *, after):
    """Send a picture, whole or in part, and leave without an answer."""
    body = jpeg((60, 80))
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        connection.sendall((head + body)[: len(head) + after])


def hostile_round(service):
    """All of them once; nobody may be answered wrongly."""
    large = bytes(100_000_000)
    assert service.ask("/detect", large).status == 413
    chunks = (bytes(1_000_000) for _ in range(100))
    assert service.ask("/detect", chunks).status == 413
    del large
    assert service.ask("/detect", bomb(50_000, 50_000)).status == 413
    assert service.ask("/detect", bomb(6000, 6000)).status == 400  # may be so large, and is cut
    assert service.ask("/detect", b"a text file\n").status == 415
    for i in range(20):
        hang_up(service, after=(10, 10**9)[i % 2])


def test_hostile_clients_leave_no_trace(service):
    picture = jpeg((60, 80))
    before = service.ask("/detect?threshold=0", picture).json
    for _ in range(2):
        hostile_round(service)
    held = service.rss_mb
    for _ in range(4):
        hostile_round(service)
    assert service.rss_mb - held < 50  # a picture that is not freed is 108 a round
    after = service.ask("/detect?threshold=0", picture).json
    assert after["detections"] == before["detections"]
    assert service.metric('anchor_detr_rejected_total{reason="client gone"}') > 0
    assert service.metric("anchor_detr_under_way") == 0
    assert service.metric("anchor_detr_queue_length") == 0
    assert service.metric('anchor_detr_requests_total{path="/detect",status="500"}') == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_end(checkpoint, tmp_path, sign):
    """What waits for others to come is answered; nobody else is taken any more."""
    options = ("--batch_size=2", "--batch_wait_ms=3000")
    with ServeProcess(checkpoint, *SIDES, *options, log=tmp_path / "log") as service:
        service.wait_for("ready")
        replies = []
        asking = threading.Thread(
            target=lambda: replies.append(service.ask("/detect", jpeg((60, 80))))
        )
        asking.start()
        while asking.is_alive() and not service.metric("anchor_detr_queue_length"):
            time.sleep(0.02)
        with socket.create_connection(("127.0.0.1", service.port)) as idle:
            service.process.send_signal(sign)
            assert idle.recv(1000) == b""
            with pytest.raises(OSError, match="refused"):
                service.ask("/health")
        asking.join()
        assert replies[0].status == 200
        assert replies[0].json["timings_ms"]["wait"] > 2900
        assert service.process.wait(20) == 0
        assert service.log.read_text().endswith("stopped\n")


def test_an_end_before_it_is_ready(checkpoint, tmp_path):
    """A program that is being compiled is not waited for."""
    sides = ("--short_side=200", "--long_side=333", "--batch_size=8")
    with ServeProcess(checkpoint, *sides, log=tmp_path / "log") as service:
        assert service.ask("/health").status == 503
        assert service.ask("/detect", jpeg((60, 80))).status == 503
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(5) == 0


def test_what_the_user_can_mend_is_one_line(checkpoint):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            f"--port={port}": f"cannot listen on 127.0.0.1 port {port}",
            "--host=256.0.0.1": "cannot listen on 256.0.0.1",
            "--port=70000": "--port",
            "--max_body_mb=0": "--max_body_mb",
            "--queue_size=none": "--queue_size",
            "--dtype=float": "--dtype",
            "--treshold=1": "Did you mean --threshold?",
            "word": "unexpected arguments ['word']",
        }
        for argument, says in cases.items():
            command = ["scripts/serve.py", f"--checkpoint={checkpoint}", argument]
            done = subprocess.run(
                [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False
            )
            assert done.returncode == 1
            assert done.stderr.startswith("error: ")
            assert says in done.stderr
            assert len(done.stderr.splitlines()) == 1, done.stderr
