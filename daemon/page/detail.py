"""One step in full: its messages, what went into a tool and came out, as parts that a template can show."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from llma_core import view
from llma_core.view import EventView

__all__ = ["Detail", "Part", "detail"]

_LONGEST_RAW = 400_000
_LONGEST_DIFF = 4000
"""Lines on either side of an edit that are compared. Longer ones are shown one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a step.

    Attributes:
        title: what it is: a role, `thinking`, the name of a tool, …
        kind: how it is shown. `text` is Markdown; `code` is plain; `diff` has lines that begin with `+`, `-`, ` `, `@`.
        text: the content; for a diff, see `lines`.
        lines: the lines of a diff.
        folded: whether it is closed at first.
    """

    title: str
    kind: Literal["text", "code", "diff"]
    text: str = ""
    lines: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A step in full.

    Attributes:
        event: what the event says.
        given: what went in: messages, or a tool's input.
        made: what came out: the answer, or a tool's result.
        raw: the whole event as indented JSON, cut if it is huge.
    """

    event: EventView
    given: tuple[Part, ...]
    made: tuple[Part, ...]
    raw: str


def detail(body: bytes) -> Detail:
    """Return an event in parts.

    Raises:
        msgspec.MsgspecError: *body* is not an event of this project.
    """
    event = view.read(body)
    content = view.content(body)
    if event.kind == "generation":
        given = tuple(_messages(content.input, folded=True))
        made = tuple(_messages(content.choices, folded=False))
    elif event.kind == "embedding":
        texts = content.input if isinstance(content.input, list) else [content.input]
        given = tuple(Part(title="input", kind="text", text=str(each)) for each in texts if each is not None)
        made = ()
    elif event.value is not None:
        given, made = (), (Part(title=event.label or event.kind, kind="text", text=event.value),)
    else:
        given = tuple(_arguments(event.label, content.arguments))
        made = tuple(_result(content.result))
    if event.error:
        made = (*made, Part(title="error", kind="code", text=event.error))
    raw = json.dumps(msgspec.json.decode(body), indent=2, ensure_ascii=False)
    if len(raw) > _LONGEST_RAW:
        more = len(raw) - _LONGEST_RAW
        raw = f"{raw[:_LONGEST_RAW]}\n… {more:,} characters more; `preview --event {event.uuid}` has all"
    return Detail(event=event, given=given, made=made, raw=raw)


def _messages(messages: Any, *, folded: bool) -> Iterator[Part]:
    """Yield the parts of messages. Only the last one of an input is open at first."""
    listed = [each for each in messages if isinstance(each, dict)] if isinstance(messages, list) else []
    for number, each in enumerate(listed):
        # A choice of some providers holds the message.
        message = each["message"] if isinstance(each.get("message"), dict) else each
        role = str(message.get("role", "message"))
        closed = folded and number < len(listed) - 1
        yield from _blocks(role, message.get("content"), folded=closed)
        for call in message.get("tool_calls") or ():
            yield Part(title=f"{role}: calls", kind="code", text=_indented(call), folded=closed)


def _blocks(role: str, content: Any, *, folded: bool) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part(title=role, kind="text", text=content, folded=folded)
        return
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            yield Part(title=role, kind="code", text=_indented(block), folded=folded)
            continue
        kind = block.get("type")
        if isinstance(text := block.get("text"), str) and kind in (None, "text", "input_text", "output_text"):
            yield Part(title=role, kind="text", text=text, folded=folded)
        elif isinstance(thought := block.get("thinking"), str):
            yield Part(title="thinking", kind="text", text=thought, folded=True)
        elif kind == "tool_use":
            yield from _arguments(str(block.get("name", "tool")), block.get("input"), folded=folded)
        elif kind == "tool_result":
            for part in _result(block.get("content")):
                yield Part(title="tool result", kind=part.kind, text=part.text, folded=folded)
        else:
            yield Part(title=f"{role}: {kind}", kind="code", text=_indented(block), folded=True)


def _arguments(tool: str, arguments: Any, *, folded: bool = False) -> Iterator[Part]:
    """Yield a tool's input: an edit as a diff, a file that is written as its content, anything else as it is."""
    if arguments is None:
        return
    if isinstance(arguments, list):
        yield from _messages(arguments, folded=folded)
        return
    if not isinstance(arguments, dict):
        yield Part(title=tool, kind="code", text=str(arguments), folded=folded)
        return
    path = arguments.get("file_path")
    edits = arguments.get("edits")
    changed = [
        each
        for each in (edits if isinstance(edits, list) else [arguments])
        if isinstance(each, dict) and _is_edit(each)
    ]
    if changed:
        lines = tuple(line for each in changed for line in _diff(each["old_string"], each["new_string"]))
        yield Part(title=f"{tool} {path or ''}".strip(), kind="diff", lines=lines, folded=folded)
    elif isinstance(written := arguments.get("content"), str) and isinstance(path, str):
        yield Part(title=f"{tool} {path}", kind="code", text=written, folded=folded)
    elif isinstance(command := arguments.get("command"), str):
        yield Part(title=tool, kind="code", text=command, folded=folded)
        rest = {key: value for key, value in arguments.items() if key != "command"}
        if rest:
            yield Part(title=f"{tool}: options", kind="code", text=_indented(rest), folded=True)
    else:
        yield Part(title=tool, kind="code", text=_indented(arguments), folded=folded)


def _is_edit(arguments: dict[str, Any]) -> bool:
    return isinstance(arguments.get("old_string"), str) and isinstance(arguments.get("new_string"), str)


def _diff(old: str, new: str) -> Iterator[str]:
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > _LONGEST_DIFF:
        yield from (f"-{line}" for line in before)
        yield from (f"+{line}" for line in after)
        return
    compared = difflib.unified_diff(before, after, lineterm="", n=3)
    yield from (line for line in compared if not line.startswith(("---", "+++")))


def _result(result: Any) -> Iterator[Part]:
    if result is None:
        return
    if isinstance(result, list) and all(isinstance(each, dict) and "role" in each for each in result):
        yield from _messages(result, folded=False)
    elif isinstance(result, list):
        for block in result:
            if isinstance(block, dict) and isinstance(text := block.get("text"), str):
                yield Part(title="result", kind="code", text=text)
            else:
                yield Part(title="result", kind="code", text=_indented(block))
    else:
        yield Part(title="result", kind="code", text=result if isinstance(result, str) else _indented(result))


def _indented(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
