"""What a request says: its parameters and its body; and whether its client is still there."""

from __future__ import annotations

import asyncio
import difflib
import io
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Receive

from anchor_detr_jax.serving.limits import Limits
from anchor_detr_jax.serving.refusals import Refusal, UnreadRefusal

__all__ = ["Asked", "asked", "read_body", "while_connected"]

T = TypeVar("T")

_CLIENT_GONE = 499
"""nginx's number, for the metrics; nobody is there to read it."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of a picture's detections.

    Attributes:
        threshold: lowest score, in [0, 1].
        top_k: most of them.
    """

    threshold: float
    top_k: int


def asked(query: Mapping[str, str], default: Asked) -> Asked:
    """The parameters of a query; the default's `top_k` is also the most that may be asked for.

    Raises:
        UnreadRefusal: for a parameter that there is not, or a value that it cannot have.
    """
    known = ("threshold", "top_k")
    for name in query:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {' and '.join(known)}"
            raise _bad_query(f"there is no parameter {name[:40]!r}; {hint}")
    threshold, top_k = default.threshold, default.top_k
    if (text := query.get("threshold")) is not None:
        threshold = _number(float, text)
        if threshold is None or not 0 <= threshold <= 1:
            raise _bad_query(f"threshold is {text[:40]!r}, expected a score from 0 to 1")
    if (text := query.get("top_k")) is not None:
        top_k = _number(int, text)
        if top_k is None or not 1 <= top_k <= default.top_k:
            expected = f"a whole number from 1 to {default.top_k}"
            raise _bad_query(f"top_k is {text[:40]!r}, expected {expected}")
    return Asked(threshold, top_k)


async def read_body(request: Request, limits: Limits) -> io.BytesIO:
    """The body; counted as it comes, so that no more is kept than is allowed.

    Raises:
        UnreadRefusal: for more, for a form, and for a body that does not come in time.
        Refusal: for none, and where the client hangs up.
    """
    kind, length = (request.headers.get(name, "") for name in ("content-type", "content-length"))
    if kind.startswith("multipart/"):
        message = f"the body is {kind.partition(';')[0]}; expected the bytes of a picture, no form"
        raise UnreadRefusal(415, "form", message)
    if length.isdecimal() and int(length) > limits.max_body_bytes:
        raise _too_large(length, limits)
    body = io.BytesIO()
    try:
        async with asyncio.timeout(limits.read_timeout_s):
            await _read_into(body, request.receive, limits)
    except TimeoutError:
        of = f" of {length}" if length else ""
        came = f"{body.tell()}{of} bytes of the body came within {limits.read_timeout_s:g} s"
        raise UnreadRefusal(408, "slow", f"{came}; expected all of it") from None
    if not body.tell():
        raise Refusal(400, "empty", "the body is empty; expected the bytes of a picture")
    body.seek(0)
    return body


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """What comes of some work, which is cancelled when the client hangs up or time is over.

    Raises:
        Refusal: in these two cases.
        Exception: what the work raises.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({working, gone}, timeout=timeout_s, return_when="FIRST_COMPLETED")
        if working.done():
            return working.result()
        if gone.done():
            raise _client_gone()
        message = f"there was no answer within {timeout_s:g} s; the service is busy, try later"
        raise Refusal(504, "timeout", message)
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)
        del working, gone  # they have the error, whose traceback has this frame


async def _read_into(body: io.BytesIO, receive: Receive, limits: Limits) -> None:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _client_gone()
        body.write(message.get("body", b""))
        if body.tell() > limits.max_body_bytes:
            raise _too_large(f"at least {body.tell()}", limits)
        more = message.get("more_body", False)


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _client_gone() -> Refusal:
    return Refusal(_CLIENT_GONE, "client gone", "the client hung up")


def _number(kind: Callable[[str], T], text: str) -> T | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _bad_query(message: str) -> UnreadRefusal:
    return UnreadRefusal(400, "query", message)


def _too_large(came: str, limits: Limits) -> UnreadRefusal:
    message = f"the body has {came} bytes; at most {limits.max_body_bytes} are taken"
    return UnreadRefusal(413, "body", message)
