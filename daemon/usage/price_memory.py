"""What the list of prices has answered, kept in a file: loading the list takes a fifth of a second of a short program.

A file is of one list, as its files are on the disk, and of one version of the code that asks it. Of any other it is
started anew, so that a new list changes old figures at once.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from daemon.system.private_file import write_private

__all__ = ["PriceMemory", "identity_of_list"]

_T = TypeVar("_T")

_MOST = 20_000
"""Answers in a file, each of about 100 bytes; beyond that it is started anew."""
_LIST = "genai_prices"
_FILES_OF_LIST = ("data.py", "types.py")


class _File(msgspec.Struct):
    list: str
    answers: dict[str, msgspec.Raw]


class PriceMemory:
    """Remembers answers by their questions. Outside of `kept_in` it remembers nothing.

    Args:
        identity: returns what the answers hold for, as `identity_of_list` does; None: nothing is remembered.
    """

    def __init__(self, identity: Callable[[], str | None]) -> None:
        self._identity = identity
        self._answers: dict[str, msgspec.Raw] | None = None
        self._is_new = False
        self._elsewhere: Callable[[str], bytes | None] | None = None

    @contextlib.contextmanager
    def kept_in(self, path: Path, elsewhere: Callable[[str], bytes | None] | None = None) -> Iterator[None]:
        """Take answers from a file, and add those to it that it lacks; a file that cannot be used costs only time.

        Args:
            path: the file. It is made if it is missing; its folder is not.
            elsewhere: asks a list that is not in this process, by a question as JSON, and returns the answer as JSON;
                None if it could not be asked. It is for programs that run for long.
        """
        identity = self._identity()
        if identity is None:
            yield
            return
        self._answers, self._is_new, self._elsewhere = _read(path, identity), False, elsewhere
        try:
            yield
        finally:
            answers, self._answers, self._elsewhere = self._answers, None, None
            if self._is_new and path.parent.is_dir():
                with contextlib.suppress(OSError):
                    write_private(path, msgspec.json.encode(_File(list=identity, answers=answers)))

    def answer(self, kind: Any, question: Sequence[object], ask: Callable[[], _T]) -> _T:
        """Return what *ask* returns, or has returned for the same *question*.

        Args:
            kind: the type of the answer.
            question: values that JSON has.
            ask: asks the list.
        """
        # A thread may ask while the program ends.
        answers, elsewhere = self._answers, self._elsewhere
        if answers is None:
            return ask()
        name = msgspec.json.encode(question).decode()
        known = answers.get(name)
        if known is not None:
            # An answer that cannot be read is asked for again.
            with contextlib.suppress(msgspec.MsgspecError):
                return cast("_T", msgspec.json.decode(known, type=kind))
        told = elsewhere(name) if elsewhere is not None else None
        found = ask() if told is None else cast("_T", msgspec.json.decode(told, type=kind))
        answers[name] = msgspec.Raw(msgspec.json.encode(found))
        self._is_new = True
        return found


def identity_of_list(asking: str) -> str | None:
    """Return what tells a list of prices from another; None if that is not known.

    Args:
        asking: the path of the module that asks the list: another version of it may ask otherwise.
    """
    # Finding a package does not import it.
    found = importlib.util.find_spec(_LIST)
    if found is None or found.origin is None:
        return None
    try:
        paths = [Path(asking), *(Path(found.origin).with_name(name) for name in _FILES_OF_LIST)]
        states = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in paths]
    except OSError:
        return None
    return msgspec.json.encode(states).decode()


def _read(path: Path, identity: str) -> dict[str, msgspec.Raw]:
    try:
        known = msgspec.json.decode(path.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError):
        return {}
    if known.list != identity or len(known.answers) > _MOST:
        return {}
    return known.answers
