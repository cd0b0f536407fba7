"""How the service says no."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Refusal", "UnreadRefusal"]


class Refusal(Exception):  # noqa: N818 - an answer; mostly the client's error, not ours
    """An answer other than what was asked for.

    Attributes:
        status: of HTTP.
        reason: one or two words, for the metrics.
        message: one line for the client: what came, and what was expected.
        headers: more headers of the answer.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.headers = dict(headers or {})


class UnreadRefusal(Refusal):
    """One that is answered while the request's body has not, or not all, been read."""
