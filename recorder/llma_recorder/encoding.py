"""JSON text of whatever a caller gives.

Most values are plain JSON, and the standard library's encoder takes them at full speed. It calls back for objects it
does not know, and gives up on some values: numbers that JSON has no form for, keys that are no strings, cycles, nesting
that is too deep, halves of characters. Then the value is copied first, with those replaced.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import os
import uuid
from typing import Any, Callable

__all__ = ["LONGEST_LINE", "Encoded", "encode", "line", "plain"]

LONGEST_LINE = 8_000_000
"""The longest line, in bytes, its line end included."""

_DEEPEST = 60
_LONGEST_REPR = 1000
_SHORTEST_MEDIA = 256
_LARGEST_INTEGER = 2**64
_SHORTEST_CUT = 256
"""Strings up to this length are not cut as long as cutting longer ones is enough."""
_ATTEMPTS = 5


class Encoded(str):
    """JSON text, which a line takes as it is."""

    __slots__ = ()


def plain(value: object) -> Any:
    """Return a copy of *value* that consists of JSON's own types only. It never raises.

    Models and dataclasses become objects, sets become arrays, dates become ISO 8601 strings. Iterators are not
    consumed. An object that has no JSON form becomes its `repr`, cut to 1000 characters.
    """
    return _plain(value, 0, set())


def encode(value: object) -> Encoded:
    """Return the JSON text of *value*, on one line. It never raises."""
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except Exception:  # noqa: BLE001 -- the caller's objects may raise anything
        text = _ENCODER.encode(plain(value))
    return Encoded(text)


def line(fields: dict[str, Any]) -> bytes:
    """Return one line with *fields*, with its line end.

    If it is longer than `LONGEST_LINE`, its longest strings are cut, and a marker says by how much.
    """
    return _whole(fields) or _shortened(fields)


def _whole(fields: dict[str, Any]) -> bytes | None:
    """Return the line with nothing cut; None if it is too long."""
    if Encoded in map(type, fields.values()):
        ready = [(key, value) for key, value in fields.items() if type(value) is Encoded]
        text = encode({key: value for key, value in fields.items() if type(value) is not Encoded})
        tail = ",".join(f'"{key}":{value}' for key, value in ready)
        data = f"{text[:-1]},{tail}}}\n".encode()
    else:
        try:
            data = (_ENCODER.encode(fields) + "\n").encode()
        except Exception:  # noqa: BLE001 -- the caller's objects may raise anything
            data = (_ENCODER.encode(plain(fields)) + "\n").encode()
    return data if len(data) <= LONGEST_LINE else None


def _shortened(fields: dict[str, Any]) -> bytes:
    whole = {key: json.loads(value) if type(value) is Encoded else plain(value) for key, value in fields.items()}
    room = LONGEST_LINE
    for _ in range(_ATTEMPTS):
        limit = _limit(whole, room)
        if limit is None:
            break
        data = _whole(_cut(whole, limit))
        if data is not None:
            return data
        # The marker, and characters that JSON escapes, take more bytes than the estimate has for them.
        room -= LONGEST_LINE // 10
    # Something other than strings takes the room, such as a million numbers.
    while True:
        sizes = {key: len(encode(value).encode()) for key, value in whole.items()}
        largest = max(sizes, key=lambda key: sizes[key])
        whole[largest] = f"… [{sizes[largest]} more bytes]"
        data = _whole(whole)
        if data is not None:
            return data


def _limit(value: object, room: int) -> int | None:
    """Return the length that strings must be cut to so that *value* fits into *room* bytes; None if none does."""
    sizes = sorted(_string_sizes(value))
    rest = room - (len(encode(value).encode()) - sum(sizes))
    for index, size in enumerate(sizes):
        share = rest // (len(sizes) - index)
        if size > share:
            # A cut string is followed by its marker.
            return share - 40 if share - 40 >= _SHORTEST_CUT else None
        rest -= size
    return None


def _string_sizes(value: object) -> list[int]:
    found: list[int] = []
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, str):
            found.append(len(encode(current).encode()) - 2)
        elif isinstance(current, dict):
            pending += current.values()
        elif isinstance(current, list):
            pending += current
    return found


def _cut(value: Any, limit: int) -> Any:
    """Return a copy of *value* with every string cut to *limit* bytes."""
    if isinstance(value, str):
        size = len(encode(value).encode()) - 2
        if size <= limit:
            return value
        # Escapes make a character up to twelve bytes long; the share of the string that fits is a good estimate.
        kept = len(value) * limit // size
        while len(encode(value[:kept]).encode()) - 2 > limit:
            kept = kept * 9 // 10
        return f"{value[:kept]}… [{len(value) - kept} more characters]"
    if isinstance(value, dict):
        return {key: _cut(item, limit) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, limit) for item in value]
    return value


def _default(value: object) -> Any:
    return _plain(value, 0, set())


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_default)


def _plain(value: object, depth: int, above: set[int]) -> Any:
    """Return *value* in JSON's types; *above* has the ids of the containers around it."""
    if value is None or value is True or value is False:
        return value
    try:
        if isinstance(value, str):
            return _whole_characters(value)
        if isinstance(value, int):
            return int(value) if -_LARGEST_INTEGER < value < _LARGEST_INTEGER else _integer(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if depth >= _DEEPEST or id(value) in above:
            return _shown(value)
        converted = _converted(value)
        if converted is _UNKNOWN:
            return _shown(value)
        if isinstance(converted, dict):
            around = above | {id(value)}
            return {_key(key): _plain(item, depth + 1, around) for key, item in list(converted.items())}
        if isinstance(converted, list):
            around = above | {id(value)}
            return [_plain(item, depth + 1, around) for item in converted]
        return _plain(converted, depth + 1, above | {id(value)})
    except Exception:  # noqa: BLE001 -- the caller's objects may raise anything
        return _shown(value)


_UNKNOWN = object()


def _converted(value: object) -> Any:
    """Return what stands for *value*: a dict or a list, which may hold anything, or a simpler value."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decoded(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value) if value.is_finite() else str(value)
    if isinstance(value, (uuid.UUID, os.PathLike, dt.timedelta)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return _converted_by_itself(value)


def _converted_by_itself(value: object) -> Any:
    """Return what a library's object says that it consists of."""
    kind = type(value)
    # Looked up in the class: a mock has every attribute, and its class has not.
    dump: Callable[..., Any] | None = getattr(kind, "model_dump", None)
    if callable(dump):
        try:
            return dump(value, mode="json", exclude_none=True, warnings=False)
        except TypeError:
            return dump(value)
    if hasattr(kind, "__fields__") and callable(getattr(kind, "dict", None)):
        return kind.dict(value)  # type: ignore[attr-defined]  # checked in the line above; a model of pydantic 1
    if kind.__module__.partition(".")[0] in {"numpy", "torch"} and callable(getattr(kind, "tolist", None)):
        return kind.tolist(value)  # type: ignore[attr-defined]  # checked in the line above
    if isinstance(value, collections.abc.Mapping):
        return dict(value.items())
    if isinstance(value, (collections.abc.Sequence, collections.abc.Set, collections.abc.ValuesView)):
        return list(value)
    return _UNKNOWN


def _key(key: object) -> str:
    if isinstance(key, str):
        return _whole_characters(key)
    if key is None or isinstance(key, (bool, int, float)):
        return str(json.dumps(key)) if not isinstance(key, int) or abs(key) < _LARGEST_INTEGER else _shown(key)
    return _shown(key)


def _whole_characters(value: str) -> str:
    """Return *value* as a plain string, with halves of characters joined, or replaced where one is missing."""
    try:
        str.encode(value)
    except UnicodeEncodeError:
        return str.encode(value, "utf-16", "surrogatepass").decode("utf-16", "replace")
    return str.__str__(value)  # a subclass may have methods of its own; this is a plain string


def _integer(value: int) -> Any:
    # Python refuses to print very long ones in decimal digits, and readers refuse to read them.
    return f"{value:#x}"[:_LONGEST_REPR]


def _decoded(value: bytes | bytearray | memoryview) -> str:
    data = bytes(value)
    try:
        return data.decode()
    except UnicodeDecodeError:
        # Most likely media, which do not leave the machine; this is how the daemon shows them.
        return repr(data) if len(data) < _SHORTEST_MEDIA else f"[{len(data)} bytes]"


def _shown(value: object) -> str:
    """Return an object's `repr`, cut; its class's name if it has none."""
    try:
        shown = repr(value)
        if len(shown) > _LONGEST_REPR:
            shown = f"{shown[:_LONGEST_REPR]}… [{len(shown) - _LONGEST_REPR} more characters]"
        return _whole_characters(shown)
    except Exception:  # noqa: BLE001 -- the caller's __repr__ may raise anything
        return f"<{type(value).__name__}>"
