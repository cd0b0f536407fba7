"""The application on a port, until it is told to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from http import HTTPStatus

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anchor_detr_jax.serving.app import make_app
from anchor_detr_jax.serving.service import Service

__all__ = ["bound_socket", "serve"]


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket with an address, where nobody is answered yet; port 0: any that is free.

    Raises:
        ValueError: if the address cannot be had.
    """
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        message = f"cannot listen on {host} port {port} ({error}); choose another"
        raise ValueError(message) from None
    return bound


def serve(service: Service, listener: socket.socket, *, keep_alive_s: int = 5) -> None:
    """Answer requests until SIGTERM or SIGINT, and then those that are under way.

    Raises:
        ValueError: if the programs cannot be compiled.
    """
    config = uvicorn.Config(
        make_app(service),
        http=_protocol(service.limits.read_timeout_s),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
    )
    # Uvicorn raises the signals that stopped it once more when it is done; these are for that.
    before = {
        number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
    }
    listener.listen()
    host, port = listener.getsockname()[:2]
    print(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    try:
        asyncio.run(_serve(service, uvicorn.Server(config), listener))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print("stopped", flush=True)
    if service.busy:  # a program that is being compiled cannot be stopped, nor is it waited for
        sys.stderr.flush()
        os._exit(0)


async def _serve(service: Service, server: uvicorn.Server, listener: socket.socket) -> None:
    async with service.working() as warm_up:
        warm_up.add_done_callback(lambda _: _stop_on_failure(warm_up, server))
        await server.serve(sockets=[listener])
    failure = None if warm_up.cancelled() else warm_up.exception()
    if failure is not None:
        reason = (str(failure) or type(failure).__name__).splitlines()[0]
        raise ValueError(f"the programs cannot be compiled: {reason}") from failure


def _stop_on_failure(warm_up: asyncio.Task[None], server: uvicorn.Server) -> None:
    if not warm_up.cancelled() and warm_up.exception() is not None:
        server.should_exit = True


def _protocol(read_timeout_s: float) -> type[H11Protocol]:
    class Protocol(_BoundedProtocol):
        timeout_s = read_timeout_s

    return Protocol


class _BoundedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with a limit where it waits for a client as long as it takes.

    That is for the head of a request, and for the rest of a body that nobody reads because it has
    been answered. Where the application reads, it sees to its own time.

    Attributes:
        timeout_s: from the first byte, or from the beginning of the connection.
    """

    timeout_s: float
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._bound()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._bound()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unbound()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, f"{msg.rstrip('.')}; expected HTTP/1.1")

    def _bound(self) -> None:
        waits = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
        if not waits:
            self._unbound()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.timeout_s, self._expire)

    def _unbound(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self.transport.is_closing():
            return
        self._refuse(408, f"no request came within {self.timeout_s:g} s; expected its whole head")

    def _refuse(self, status: int, message: str) -> None:
        """End the connection; with an answer, where none has been begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = json.dumps({"error": message}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
