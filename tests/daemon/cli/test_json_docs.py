"""docs/json.md names every field of the JSON output, with its type."""

from __future__ import annotations

import re
import types
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest

from daemon.checks import Finding
from daemon.running.condition import Condition, Endangered
from daemon.running.health import RouteReport
from daemon.running.problem import Problem
from daemon.running.recordings import Recordings
from daemon.state.rows import HeldSession, RejectedEvent
from daemon.state.verification import Verification
from daemon.system.space import Room

PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8")
WORDS: dict[Any, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Room: "room",
    Problem: "problem",
    RouteReport: "route",
    HeldSession: "held session",
    Endangered: "endangered log",
    RejectedEvent: "rejected event",
    Verification: "verification",
    Recordings: "recordings",
    dict[str, int]: "object",
}
# Fields that a document has beside those of its class.
MORE: dict[str, dict[str, str]] = {
    "status --json": {"healthy": "boolean", "problems": "list of problems", "sessions_held": "integer"},
    "Rejected event": {"command": "string or null"},
}


def documented(heading: str) -> dict[str, str]:
    """Return the types in the first table below *heading*, by field."""
    _, _, below = PAGE.partition(f"# {heading}\n")
    section = re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a field is named twice"
    return dict(rows)


def in_words(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        [only] = [each for each in get_args(kind) if each is not type(None)]
        return f"{in_words(only)} or null"
    if get_origin(kind) is tuple:
        return f"list of {in_words(get_args(kind)[0])}s"
    return "string" if get_origin(kind) is Literal else WORDS[kind]


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("status --json", Condition),
        ("Problem", Problem),
        ("Room", Room),
        ("Route", RouteReport),
        ("Held session", HeldSession),
        ("Endangered log", Endangered),
        ("Rejected event", RejectedEvent),
        ("Verification", Verification),
        ("Recordings", Recordings),
        ("Check", Finding),
    ],
)
def test_every_field_is_documented_with_its_type(heading: str, kind: type) -> None:
    hints = typing.get_type_hints(kind)
    expected = {field.name: in_words(hints[field.name]) for field in fields(kind)}
    assert documented(heading) == expected | MORE.get(heading, {})
