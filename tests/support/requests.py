"""The lines in which a client of 2.1.300 or later keeps what it sends, made from the rows of the log they stand in.

A request is written as the client writes it: the rows that the model is shown, with a reminder before the first of them
and the environment after it; blobs for what is in no row; the system prompt and the tools once. This module has its own
code for the hashes, so that the reader is not tested against itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["SHAPE", "Requests", "hashed"]

Json = dict[str, Any]

SHAPE: Json = {
    "system": [
        {"type": "text", "text": "You tend an orchard."},
        {"type": "text", "text": "Be kind to the trees."},
    ],
    "tools": [
        {
            "name": "Bash",
            "description": "Runs a command in the orchard.",
            "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
        },
        {"name": "Agent", "description": "Sends a gardener.", "input_schema": {"type": "object", "properties": {}}},
    ],
}

_REMINDER = {"type": "text", "text": "<system-reminder>\nThe gate is closed.\n</system-reminder>"}
_ENVIRONMENT = {"type": "text", "text": "# Environment\n - Primary working directory: the orchard"}


def hashed(value: Any) -> str:
    """Return the hash by which the log names a message or a shape."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


class Requests:
    """What one thread has sent.

    Args:
        shape: system prompt and tools.
    """

    def __init__(self, shape: Json | None = None) -> None:
        self.shape = shape or SHAPE
        self._last: tuple[str, list[str]] = "", []

    def lines(self, rows: Sequence[Json | bytes], request: Json, stamps: Mapping[str, Any]) -> list[Json]:
        """Return the lines that a request is written as.

        Args:
            rows: what stands before it in its file.
            request: its own line, as far as it is known already.
            stamps: what every line says of the session.
        """
        since = _since_compaction(rows)
        known = _known(since)
        messages = _messages(since)
        names = [hashed(message) for message in messages]
        shape = hashed(self.shape)
        lines: list[Json] = []
        if shape not in known:
            lines.append({"type": "api-request-shape", **stamps, "shapeHash": shape, "shape": self.shape})
        base, before = self._last
        keep = 0
        while keep < min(len(names), len(before)) and names[keep] == before[keep]:
            keep += 1
        for name, message in zip(names[keep:], messages[keep:], strict=True):
            if name not in known:
                lines.append({"type": "api-request-blob", **stamps, "hash": name, "message": message})
                known.add(name)
        chain: Json = {"base": base} if keep else {}
        chain |= {"shapeHash": shape, "keep": keep, "tail": names[keep:], "cacheControl": []}
        self._last = request["id"], names
        return [*lines, request | chain]


def _since_compaction(rows: Sequence[Json | bytes]) -> list[Json]:
    since: list[Json] = []
    for row in rows:
        if isinstance(row, bytes):
            continue
        if row.get("subtype") == "compact_boundary":
            since = []
        since.append(row)
    return since


def _content(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _messages(rows: Sequence[Json]) -> list[Json]:
    """Return what the model is shown of *rows*."""
    messages: list[Json] = []
    answers: dict[str, Json] = {}
    for row in rows:
        if row["type"] == "attachment":
            words = f"The user sent a new message while you were working:\n{row['attachment']['prompt']}"
            effort = {"output_config": {"effort": "medium"}}
            messages.append({"role": "system", "content": [{"type": "text", "text": words}], **effort})
        elif row["type"] == "user":
            if not messages or messages[-1]["role"] != "user":
                messages.append({"role": "user", "content": []})
            messages[-1]["content"] += _content(row["message"])
        elif row["type"] == "assistant" and row["message"]["model"] != "<synthetic>":
            identity = row["message"]["id"]
            if identity not in answers:
                answers[identity] = {"role": "assistant", "content": []}
                # Results between its lines are shown behind all of it.
                messages.append(answers[identity])
            answers[identity]["content"] += _content(row["message"])
    first = next((number for number, message in enumerate(messages) if message["role"] == "user"), None)
    if first is not None:
        messages[first]["content"].insert(0, _REMINDER)
        messages.insert(first + 1, {"role": "system", "content": [_ENVIRONMENT]})
    return messages


def _known(rows: Sequence[Json]) -> set[str]:
    """Return the hashes of what a reader finds in *rows* already."""
    known: set[str] = set()
    run: Json = {}
    of: tuple[str, str | None] | None = None
    for row in rows:
        if row["type"] in ("api-request-shape", "api-request-blob"):
            known.add(row.get("hash") or row["shapeHash"])
        elif row["type"] in ("user", "assistant"):
            whose = row["type"], row["message"].get("id")
            if whose != of:
                run, of = {"role": row["type"], "content": []}, whose
            run["content"] += _content(row["message"])
            known.add(hashed(run))
    return known
