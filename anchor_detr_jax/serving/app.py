"""The service's addresses, as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import anchor_detr_jax
from anchor_detr_jax.serving.reading import asked, read_body, while_connected
from anchor_detr_jax.serving.refusals import Refusal, UnreadRefusal
from anchor_detr_jax.serving.service import Service

__all__ = ["make_app"]

_LINGER_S = 5.0
"""For how long a refused body is read on, and thrown away."""

_ADDRESSES = {
    "/": "GET: what is served",
    "/detect": "POST a picture as the body; parameters: threshold, top_k",
    "/health": "GET: 200 when ready, else 503",
    "/metrics": "GET: numbers for Prometheus",
}


def make_app(service: Service) -> ASGIApp:
    """The application; the service must be `working` around it."""

    async def index(_: Request) -> Response:
        content = {"version": anchor_detr_jax.__version__, "addresses": _ADDRESSES}
        limits = {
            "max_body_bytes": service.limits.max_body_bytes,
            "max_pixels": service.limits.max_pixels,
        }
        threshold = {"threshold": service.asked.threshold}
        return JSONResponse(content | service.served.describe() | threshold | limits)

    async def health(_: Request) -> Response:
        content = {
            "status": "ready" if service.ready else "warming up",
            "programs": len(service.served.programs),
            "compiled": service.compiled,
        }
        return JSONResponse(content, 200 if service.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=service.metrics.content_type)

    async def detect(request: Request) -> Response:
        return await _detect(service, request)

    routes = [
        Route("/", index),
        Route("/detect", detect, methods=["POST"]),
        Route("/health", health),
        Route("/metrics", metrics),
    ]
    handlers: Any = {HTTPException: _no_such_address, Exception: _failed}
    return _Counted(Starlette(routes=routes, exception_handlers=handlers), service)


async def _detect(service: Service, request: Request) -> Response:
    started = time.perf_counter()
    try:
        wanted = asked(request.query_params, service.asked)
        with service.place():
            body = await read_body(request, service.limits)
            read_s = time.perf_counter() - started
            answer = await while_connected(
                request.receive, service.detect(body, wanted), service.limits.answer_timeout_s
            )
    except Refusal as refusal:
        service.metrics.count_rejected(refusal.reason)
        kind = _LingeringResponse if isinstance(refusal, UnreadRefusal) else JSONResponse
        return kind(_error(refusal.message), refusal.status, refusal.headers)
    all_s = time.perf_counter() - started
    seconds = {"read": read_s, **answer.pop("seconds"), "all": all_s}
    service.metrics.count_answered(seconds)
    timings = {stage: round(1000 * duration, 2) for stage, duration in seconds.items()}
    return JSONResponse(answer | {"timings_ms": timings})


async def _no_such_address(request: Request, error: HTTPException) -> Response:
    there = "; ".join(f"{path} ({what})" for path, what in _ADDRESSES.items())
    message = f"{request.method} {request.url.path[:80]}: expected one of {there}"
    return JSONResponse(_error(message), error.status_code, error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    return JSONResponse(_error("the service failed on this request; its log says how"), 500)


def _error(message: str) -> dict[str, str]:
    return {"error": message}


class _LingeringResponse(JSONResponse):
    """An answer to a request whose body has not all been read; ends the connection.

    What is still being sent is thrown away for a while: closed at once, the connection would be
    reset before a client that sends first and reads afterwards has read the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        more = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while more:
                    more = (await receive()).get("more_body", False)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Counted:
    """Counts requests by path and status."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            path = scope["path"] if scope["path"] in _ADDRESSES else "other"
            self._service.metrics.count_request(path, status)
