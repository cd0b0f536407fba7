"""XML from anywhere: no document type, so no entities; no more of it than an annotation needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

__all__ = ["read_xml"]

_LARGEST = 8 * 2**20
"""Bytes; ten thousand boxes need about two million."""


def read_xml(path: Path) -> Element:
    """The root element of a file.

    Raises:
        ValueError: if it is no well-formed XML, declares a document type (through which entities
            fill the memory or name other files), or is too large; the reason, with the line.
        OSError: if it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST // 2**20} MB, too much for an annotation")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(content, True)
    except _DocumentTypeError:
        line = parser.CurrentLineNumber
        raise ValueError(f"line {line}: it declares a document type, which is refused") from None
    except (expat.ExpatError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"no well-formed XML ({error})") from None
    return builder.close()


class _DocumentTypeError(Exception):
    """There is one."""


def _refuse(*_: Any) -> None:
    raise _DocumentTypeError
