"""Remembers what was said on one thread since its last compaction.

This is the whole input of an answer if its exact request is not known. The messages are in the order of the log, which
is not always the order of the conversation: if a person goes back and asks again, the abandoned messages stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from llma_core.spans import InputMessage

__all__ = ["MEMORY_BYTES", "Conversation"]

MEMORY_BYTES = 32 * 1024 * 1024
"""Bytes of messages remembered for one thread. The oldest are dropped. This is over four times an event's limit."""

_MESSAGE_BYTES = 200
"""Approximate overhead of remembering one message."""


@dataclass(slots=True)
class _Answer:
    identity: str
    blocks: list[bytes]
    order: list[int]
    seen: set[bytes]


@dataclass(slots=True)
class _Entry:
    message: InputMessage
    answer: _Answer | None = field(default=None)

    @property
    def size(self) -> int:
        return _MESSAGE_BYTES + len(self.message.content)


class Conversation:
    """The messages of one thread, in the order of their lines.

    Args:
        memory: bytes to remember; see MEMORY_BYTES.

    Attributes:
        part: how many compactions came before the current part of the conversation.
    """

    def __init__(self, memory: int = MEMORY_BYTES) -> None:
        self.part = 0
        self._memory = memory
        self._size = 0
        self._entries: deque[_Entry] = deque()
        self._answers: dict[str, _Entry] = {}

    def so_far(self) -> tuple[InputMessage, ...]:
        """Return all messages so far, including answers."""
        return tuple(entry.message for entry in self._entries)

    def add(self, messages: Iterable[InputMessage]) -> None:
        """Add messages that the model was given."""
        for message in messages:
            self._append(_Entry(message))

    def answer(self, identity: str, blocks: Iterable[tuple[bytes, bytes, int]]) -> None:
        """Add an answer.

        Args:
            identity: its message's id.
            blocks: for each block its key (the same for the same block on another line), its JSON, and its index.
        """
        answer = _Answer(identity, [], [], set())
        for key, raw, place in blocks:
            _insert(answer, key, raw, place)
        self._answers[identity] = entry = _Entry(_message(answer), answer)
        self._append(entry)

    def add_late_block(self, identity: str, key: bytes, raw: bytes, place: int | None) -> None:
        """Add a block to an answer that was complete; at its end if *place* is None."""
        entry = self._answers.get(identity)
        if entry is None or entry.answer is None or key in entry.answer.seen:
            return
        before = entry.size
        _insert(entry.answer, key, raw, place if place is not None else max(entry.answer.order, default=0))
        entry.message = _message(entry.answer)
        self._size += entry.size - before
        self._shrink()

    def restart(self) -> None:
        """Forget everything: a summary replaces it from now on."""
        self.part += 1
        self._entries.clear()
        self._answers.clear()
        self._size = 0

    def _append(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._size += entry.size
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._memory and self._entries:
            oldest = self._entries.popleft()
            self._size -= oldest.size
            if oldest.answer is not None and self._answers.get(oldest.answer.identity) is oldest:
                del self._answers[oldest.answer.identity]


def _insert(answer: _Answer, key: bytes, raw: bytes, place: int) -> None:
    at = bisect_right(answer.order, place)
    answer.order.insert(at, place)
    answer.blocks.insert(at, raw)
    answer.seen.add(key)


def _message(answer: _Answer) -> InputMessage:
    return InputMessage(role="assistant", content=b"[" + b",".join(answer.blocks) + b"]", origin="answer")
