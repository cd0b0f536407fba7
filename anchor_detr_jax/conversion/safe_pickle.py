"""A pickle reader that builds plain containers and calls a short list of builders, nothing else.

Python's own unpickler can be told which names it may import, but it still sets attributes on what
it imported. This one imports nothing: a name in the file is looked up in a table given by the
caller, and only what stands there as a `Builder` can be called.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Builder", "Namespace", "PickleError", "safe_load", "safe_loads"]


class PickleError(ValueError):
    """A pickle that is damaged, or that asks for more than plain data."""


class Namespace(dict):
    """Stands for `argparse.Namespace`: its attributes, as a dict."""


@dataclass(frozen=True)
class Builder:
    """A function that a pickle may call; it must be safe with any arguments."""

    call: Callable[..., Any]


_PUSHED_AS_READ = {
    "BINFLOAT", "BININT", "BININT1", "BININT2", "LONG1", "LONG4",
    "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NO_EFFECT = {"PROTO", "FRAME"}


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(
        self,
        names: Mapping[tuple[str, str], Any],
        persistent_load: Callable[[Any], Any],
    ):
        self._names = names
        self._persistent_load = persistent_load
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _PUSHED_AS_READ:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in _EMPTY:
                self._stack.append(_EMPTY[name]())
            elif name in _TUPLES:
                self._stack.append(self._pop_tuple(_TUPLES[name]))
            elif name not in _NO_EFFECT:
                step = getattr(self, f"_do_{name.lower()}", None)
                if step is None:
                    raise PickleError(f"it uses the pickle operation {name}, which no weights need")
                step(argument)
        raise PickleError("it ends early")

    def _pop_tuple(self, count: int) -> tuple:
        if len(self._stack) < count:
            raise IndexError("stack")
        items = tuple(self._stack[-count:])
        del self._stack[-count:]
        return items

    def _pop_to_mark(self) -> list:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise PickleError(f"it fills a {type(self._stack[-1]).__name__} as a {kind.__name__}")
        return self._stack[-1]

    def _do_mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _do_tuple(self, _: None) -> None:
        items = self._pop_to_mark()
        self._stack.append(tuple(items))

    def _do_append(self, _: None) -> None:
        item = self._stack.pop()
        self._top(list).append(item)

    def _do_appends(self, _: None) -> None:
        items = self._pop_to_mark()
        self._top(list).extend(items)

    def _do_setitem(self, _: None) -> None:
        key, value = self._pop_tuple(2)
        self._top(dict)[key] = value

    def _do_setitems(self, _: None) -> None:
        items = self._pop_to_mark()
        self._top(dict).update(zip(items[::2], items[1::2], strict=True))

    def _do_binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _do_long_binput = _do_binput

    def _do_memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _do_binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _do_long_binget = _do_binget

    def _do_global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self._push_global(module, attribute)

    def _do_stack_global(self, _: None) -> None:
        self._push_global(*self._pop_tuple(2))

    def _push_global(self, module: str, attribute: str) -> None:
        if (module, attribute) not in self._names:
            raise PickleError(
                f"it asks for {module}.{attribute}, which is not data; refused, and nothing was run"
            )
        self._stack.append(self._names[module, attribute])

    def _do_reduce(self, _: None) -> None:
        target, arguments = self._pop_tuple(2)
        if not isinstance(target, Builder) or not isinstance(arguments, tuple):
            raise PickleError("it calls what cannot be called")
        self._stack.append(target.call(*arguments))

    _do_newobj = _do_reduce

    def _do_build(self, _: None) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Namespace) and isinstance(state, dict):
            target.update(state)
        elif not isinstance(target, OrderedDict):  # there it is torch's `_metadata`: not needed
            raise PickleError(f"it sets the state of a {type(target).__name__}")

    def _do_binpersid(self, _: None) -> None:
        self._stack.append(self._persistent_load(self._stack.pop()))


def safe_load(
    stream: io.BytesIO,
    names: Mapping[tuple[str, str], Any],
    persistent_load: Callable[[Any], Any],
) -> Any:
    """The object that the next pickle of `stream` describes; the stream stands behind it then.

    Args:
        stream: at the beginning of a pickle, of any protocol that has these operations.
        names: what stands for each (module, name) that may occur; a `Builder` where it is called.
        persistent_load: gives the object for a persistent id.

    Raises:
        PickleError: for damaged data, and for anything that is not plain data or in `names`.
    """
    try:
        with warnings.catch_warnings():  # of odd escapes in strings: no concern of the user's
            warnings.simplefilter("ignore", DeprecationWarning)
            return _Machine(names, persistent_load).run(stream)
    except PickleError:
        raise
    except (
        ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError
    ) as error:  # fmt: skip
        raise PickleError(f"its pickle is damaged ({type(error).__name__}: {error})") from error


def safe_loads(
    data: bytes,
    names: Mapping[tuple[str, str], Any],
    persistent_load: Callable[[Any], Any],
) -> Any:
    """`safe_load` of a pickle in memory."""
    return safe_load(io.BytesIO(data), names, persistent_load)
