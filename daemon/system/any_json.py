"""JSON of values that may hold names of files, which need not be UTF-8.

Python represents the bytes of such a name as lone surrogates. They are valid in JSON only as escapes, which `msgspec`
neither writes nor reads.
"""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

__all__ = ["decode", "encode"]

_T = TypeVar("_T")


def encode(value: object) -> bytes:
    """Return *value*, of types that `msgspec` knows, as JSON in ASCII."""
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":")).encode("ascii")


def decode(data: bytes, kind: type[_T]) -> _T:
    """Return the value of type *kind* that *data* is the JSON of.

    Raises:
        ValueError: it is not JSON.
        msgspec.ValidationError: it is not of this type.
        RecursionError: it is nested too deep.
    """
    return msgspec.convert(json.loads(data, parse_constant=_refuse), type=kind)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
