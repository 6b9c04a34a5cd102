"""docs/properties.md names every property of every event, and no other."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from llma_core import __version__, agents, events
from llma_core.spans import SessionFacts
from tests.support import outbox
from tests.support.cases import ADA, CASES
from tests.support.documents import DOCS, ROOT, Document, spans
from tests.support.logs import LogBuilder, text, usage
from tests.support.sessions import body, built
from tests.support.sessions import spans as found_in

PAGE = Document(DOCS / "properties.md")
SHARED = "Every event"
KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
RECORDED = "What programs record"
WRITING = ("events", "properties", "recorded_events")
"""The modules of the core that spell them."""
PREFIX, RECORDER = agents.prefixes()
ONLY_THE_USERS = {"$ai_prompt_name", "$ai_prompt_version", "$insert_id"}
"""Names that the source spells because a user's own property may, or must not, have them."""


@cache
def documented() -> Mapping[str, Mapping[str, set[str]]]:
    """Return the documented types by event, or `SHARED`, and property."""
    found: dict[str, dict[str, set[str]]] = {}
    for heading, section in PAGE.sections().items():
        rows = re.findall(r"^\| (`.+?) \| (.+?) \| .+ \| (\S+) \|$", section, re.MULTILINE)
        if rows:
            table = found.setdefault(heading.strip("`"), {})
            for names, types, _ in rows:
                for name in spans(names):
                    assert name not in table, f"{PAGE.name}: `{name}` is there twice under {heading}"
                    table[name] = set(types.split(" or "))
    return found


def everything_else() -> list[dict[str, Any]]:
    """Return the events of a session with what those of the golden files lack."""
    log = LogBuilder()
    log.prompt("Look it up")
    counts = usage(9, 70, server_tool_use={"web_search_requests": 2}, service_tier="batch")
    log.answer(text("It is an apple."), counts=counts)
    log.attachment("max_turns_reached", maxTurns=1, turnCount=1)
    log.cost_state(models={"claude-opus-5-5": [9, 70, 1000, 300], "claude-haiku-4-5": [120, 12, 30, 4]})
    [start, end] = outbox.spans(
        outbox.line("session", 1, agent="claude-code", session_id="s", phase="start", name="It")
        + outbox.line("session", 2, agent="claude-code", session_id="s", phase="end", num_turns=1, duration_api_ms=5,
                      cost={"total_usd": 0.1}, subtype="success")
    )  # fmt: skip
    assert isinstance(start, SessionFacts)
    assert isinstance(end, SessionFacts)
    attribution = replace(ADA, trace_name=start.name, ending=end)
    return [body(event) for event in built(found_in(log.files()), attribution)]


@cache
def sent() -> Mapping[str, Mapping[str, set[type]]]:
    """Return the types of the values that were sent, by event and property, without the users' own properties."""
    found: dict[str, dict[str, set[type]]] = defaultdict(lambda: defaultdict(set))

    def note(event: Mapping[str, Any], users: Iterable[str] = ()) -> None:
        for name, value in event["properties"].items():
            if name not in users:
                found[event["event"]][name].add(type(value))

    for name, case in CASES.items():
        golden = (ROOT / "tests" / "golden" / f"{name}.jsonl").read_text("utf-8")
        for line in golden.splitlines():
            event = json.loads(line)
            # The golden files leave the version out.
            event["properties"] |= {"$lib_version": __version__, "$ai_lib_version": __version__}
            note(event, case.attribution.properties)
    for event in everything_else():
        note(event)
    return found


def spelled() -> set[str]:
    """Return every name of a property that the source spells."""
    source = "".join((ROOT / "llma_core" / f"{name}.py").read_text("utf-8") for name in WRITING)
    own = {f"{PREFIX}{name}" for name in re.findall(r"prefix\}([a-z_0-9]+)[\"']", source)}
    # Some are of recorded lines only; no agent has both.
    own -= {f"{PREFIX}{name.removeprefix(RECORDER)}" for name in documented()[RECORDED]}
    structs = events._named(PREFIX)
    own |= {name for struct in (structs.generation, structs.tool_call) for name in struct.__struct_encode_fields__}
    return own | set(re.findall(r'"(\$[a-z_0-9]*[a-z0-9])"', source)) - sent().keys() - ONLY_THE_USERS


def test_every_property_that_is_sent_is_documented() -> None:
    missing = [
        f"{PAGE.name}: add a row for `{name}` under `## `{event}``"
        for event, properties in sent().items()
        for name in properties
        if name not in documented()[SHARED] and name not in documented().get(event, {})
    ]
    assert not missing, "\n".join(missing)


def test_every_property_that_the_source_spells_is_documented() -> None:
    """This also finds one that no session of the tests has."""
    everywhere = {name for table in documented().values() for name in table}
    missing = [f"{PAGE.name}: add a row for `{name}` of llma_core" for name in spelled() - everywhere]
    assert not missing, "\n".join(missing)


def test_every_documented_property_is_sent() -> None:
    extra = [
        f"{PAGE.name}: no test sends `{name}` of `{event}`; remove its row, or add a session to everything_else() here"
        for event, table in documented().items()
        for name in table
        if event != RECORDED
        if not any(name in properties for kind, properties in sent().items() if event in (SHARED, kind))
    ]
    assert not extra, "\n".join(extra)


def test_a_shared_property_is_on_every_kind_of_event() -> None:
    wrong = [
        f"{PAGE.name}: `{name}` is not on `{event}`; move its row from `{SHARED}` to its events"
        for name in documented()[SHARED]
        for event, properties in sent().items()
        if name not in properties
    ]
    assert not wrong, "\n".join(wrong)


def test_values_have_the_documented_types() -> None:
    wrong = []
    for event, properties in sent().items():
        for name, types in properties.items():
            said = documented().get(event, {}).get(name) or documented()[SHARED].get(name, set())
            allowed = {kind for word in said for kind in KINDS[word]}
            wrong += [
                f"{PAGE.name}: `{name}` of `{event}` is {kind.__name__}, not {said}" for kind in types - allowed if said
            ]
    assert not wrong, "\n".join(wrong)


def test_since_is_a_version_up_to_this_one() -> None:
    def numbers(version: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", version)]

    assert max(numbers(row[3]) for row in PAGE.rows("property")) <= numbers(__version__)


def test_the_table_of_events_has_those_that_are_sent() -> None:
    named = [span for row in PAGE.rows("event") for span in spans(row[0])]
    assert sorted(named) == sorted({*sent(), *recorded()}), f"{PAGE.name}: correct the table of events"


def recorded() -> Mapping[str, Mapping[str, Any]]:
    """Return the properties of the events of recorded lines, by event, without the callers' own."""
    golden = (ROOT / "tests" / "golden" / "recorded.jsonl").read_text("utf-8")
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for event in map(json.loads, golden.splitlines()):
        found[event["event"]] |= {"$lib_version": __version__} | {
            name: value for name, value in event["properties"].items() if name not in CALLERS_OWN and name != "$lib"
        }
    return found


CALLERS_OWN = {"index", "pull_request", "tier", "$ai_prompt_name"}


def test_the_table_of_recorded_lines_has_what_is_sent_of_them() -> None:
    table = documented()[RECORDED]
    sent_of_them = {name: value for properties in recorded().values() for name, value in properties.items()}

    assert sorted(table) == sorted(sent_of_them), f"{PAGE.name}: correct the table of recorded lines"
    wrong = [
        f"{PAGE.name}: `{name}` of `{event}` is {type(value).__name__}, not {table[name]}"
        for event, properties in recorded().items()
        for name, value in properties.items()
        if not isinstance(value, tuple(kind for word in table[name] for kind in KINDS[word]))
    ]
    assert not wrong, "\n".join(wrong)
