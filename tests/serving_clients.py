"""Callers of the service, for tests: of the application in this process, and over a port."""

import asyncio
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Reply:
    """An answer of the application."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        """The body, read."""
        return json.loads(self.body)


async def call(app, target, *, method="POST", chunks=(b"",), headers=(), hang_up=None):
    """One request; the body ends with the last chunk, unless that is None: then it never does.

    `hang_up` is an event after which the client is gone.
    """
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    chunks, reply = list(chunks), Reply()

    async def receive():
        if chunks and chunks[0] is not None:
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
        await (hang_up or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message):
        reply.status = message.get("status", reply.status)
        for name, value in message.get("headers", ()):
            reply.headers[name.decode()] = value.decode()
        reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply


class ServeProcess:
    """`scripts/serve.py` on a free port of this machine; ended at the end, if it still runs."""

    def __init__(self, checkpoint, *options, log):
        self.log = Path(log)
        programs = os.environ["ANCHOR_DETR_JAX_TEST_PROGRAMS"]  # conftest.py
        environment = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": programs}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
        environment["MALLOC_MMAP_THRESHOLD_"] = "1000000"  # memory shows what is not freed
        command = [sys.executable, "scripts/serve.py", f"--checkpoint={checkpoint}", "--port=0"]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *map(str, options)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_for(self, pattern, seconds=600):
        """The match of something that it prints."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, self.log.read_text()):
                return found
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in: {self.log.read_text()}")

    @property
    def port(self):
        """Where it listens."""
        return int(self.wait_for(r"listening on http://127.0.0.1:(\d+)")[1])

    @property
    def rss_mb(self):
        """Memory that it holds, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000

    def ask(self, target, body=None):
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            method = "GET" if body is None else "POST"
            connection.request(method, target, body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def metric(self, name):
        """A number of /metrics by its full name, labels included; 0 where it has none."""
        text = self.ask("/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def bomb(width, height):
    """A PNG of a few bytes that says it is this large."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def load(port, bodies, *, clients, requests):
    """Some clients that ask again and again, each over one connection.

    Returns:
        The seconds of each answer in ascending order, and the statuses that were not 200.
    """
    seconds, others = [], []

    def ask(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for i in range(requests):
            body = bodies[(number + i) % len(bodies)]
            started = time.perf_counter()
            try:
                connection.request("POST", "/detect?threshold=0", body)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except OSError as error:
                status = repr(error)
            if status == 200:
                seconds.append(time.perf_counter() - started)
            else:
                others.append(status)
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(seconds), others
