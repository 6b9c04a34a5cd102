"""Finds the whole records in a damaged line of a log.

A program that is killed, or a disk that is full, leaves a line that holds more or less than one record: NULs before or
after a record, the beginning of a record with a whole one behind it, two records without a line end between them. Every
whole record counts. The rest of the line is damage. The time it takes grows linearly with the length of the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import msgspec
from msgspec import Struct

from llma_core.agent import Decoded, UnknownRecord
from llma_core.errors import RecordError

__all__ = ["Damage", "Recovered", "is_whole", "read_records"]

_NULS = re.compile(rb"\0+")
_BEGINNING = re.compile(r'\{\s*"')
_NOTHING = re.compile(r"(?:[ \t\r]|\xef\xbb\xbf)*")
_INSIDE = (",", "}", "]")
_WORK_PER_BYTE = 32
"""How often a line is looked at, at most, for the beginnings of records that are not whole."""

_scan = json.JSONDecoder().raw_decode


class Damage(Struct, frozen=True, kw_only=True):
    """What of a line is in no record.

    Attributes:
        at: where it begins, in bytes from the line's beginning.
        size: how many bytes it has in all.
        reason: what is wrong with the line; it quotes no content.
    """

    at: int
    size: int
    reason: str


class Recovered(Struct, frozen=True, kw_only=True, gc=False):
    """What a line holds.

    Attributes:
        records: its records, in order.
        damage: what of it is in no record; None if nothing is.
    """

    records: tuple[Decoded, ...]
    damage: Damage | None


def read_records(line: bytes, decode: Callable[[bytes], Decoded]) -> Recovered:
    """Return every whole record in a line, and what is left of it.

    Args:
        line: the line, without its line end.
        decode: decodes one record; it raises RecordError for what is none.
    """
    try:
        return Recovered(records=(decode(line),), damage=None)
    except RecordError as error:
        reason = error.reason
    # NULs can stand in the middle of a record too, which is whole without them.
    clean = line.translate(None, b"\0") if b"\0" in line else line
    # Each byte is one character, so that places in the text are places in the line.
    text = clean.decode("latin-1")
    records: list[Decoded] = []
    damaged: list[tuple[int, int]] = []
    done = at = 0
    work = _WORK_PER_BYTE * len(text)
    while work > 0 and (found := _BEGINNING.search(text, at)) is not None:
        start = found.start()
        try:
            _, end = _scan(text, start)
        except ValueError as error:
            read = error.pos if isinstance(error, json.JSONDecodeError) else len(text)
            # The error counts the line ends before its place, which is fast, but not free.
            work -= read - start + 1 + start // 16
            at = start + 1
            continue
        except RecursionError:
            work -= len(text) - start
            at = start + 1
            continue
        work -= end - start
        # The beginning of a record may hold whole objects, which are records neither by themselves nor by their type.
        before = _end_of_nothing(text, done) == start
        is_inside = not before and text.startswith(_INSIDE, _end_of_nothing(text, end))
        record = None if is_inside else _decoded(clean[start:end], decode)
        if record is not None:
            if not before:
                damaged.append((done, start))
            records.append(record)
            done = end
        at = end
    if not records or _end_of_nothing(text, done) < len(text):
        damaged.append((done, len(text)))
    nuls = _NULS.search(line)
    size = sum(end - start for start, end in damaged) + len(line) - len(clean)
    if damaged:
        damage = Damage(at=_place(line, damaged[0][0]), size=size, reason=reason)
    elif nuls is not None:
        damage = Damage(at=nuls.start(), size=size, reason="NUL bytes")
    else:
        damage = None
    return Recovered(records=tuple(records), damage=damage)


def is_whole(line: bytes) -> bool:
    """Whether a line that lacks its line end is whole: it holds objects, to which nothing can be added, or NULs."""
    clean = line.translate(None, b"\0") if b"\0" in line else line
    if not clean.rstrip().endswith(b"}"):
        return False
    try:
        msgspec.json.decode(clean, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _are_objects(clean.decode("latin-1"))
    return True


def _are_objects(text: str) -> bool:
    at = _end_of_nothing(text, 0)
    try:
        while text.startswith("{", at):
            _, end = _scan(text, at)
            at = _end_of_nothing(text, end)
    except (ValueError, RecursionError):
        return False
    return at == len(text)


def _end_of_nothing(text: str, at: int) -> int:
    """Return where blanks and byte order marks end that begin at *at*."""
    found = _NOTHING.match(text, at)
    assert found is not None
    return found.end()


def _decoded(data: bytes, decode: Callable[[bytes], Decoded]) -> Decoded | None:
    """Return the record in *data*; None if it is none of a type that is known."""
    try:
        record = decode(data)
    except RecordError:
        return None
    return None if isinstance(record, UnknownRecord) else record


def _place(line: bytes, at: int) -> int:
    """Return the place in a line of what is at *at* without its NULs."""
    if at == 0 and line[:1] == b"\0":
        return 0
    for nuls in _NULS.finditer(line):
        if nuls.start() > at:
            break
        at += nuls.end() - nuls.start()
    return at
