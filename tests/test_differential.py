"""Two readers that share no code count the same in any log: nothing is lost, doubled, or given to a wrong session."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from daemon.reading.preview import find_logs, preview
from llma_core.spans import ApiFailure, Compaction, Generation, Span, ToolCall
from tests.support import histories
from tests.support.logs import (
    AgentLog,
    LogBuilder,
    Transcript,
    image,
    redacted_thinking,
    text,
    thinking,
    tool_use,
    usage,
    write_files,
)
from tests.support.reader import Counts, counted
from tests.support.rig import answering_disk, routing_for
from tests.support.sessions import spans

CLIENTS = (
    "1.0.128",
    "2.0.1",
    "2.0.76",
    "2.1.1",
    "2.1.25",
    "2.1.50",
    "2.1.72",
    "2.1.100",
    "2.1.150",
    "2.1.200",
    "2.1.250",
    "2.1.300",
    "2.1.329",
)
"""One client for each change in what clients write, or where."""

SESSIONS = tuple(f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b" for number in range(4))
STRANGER = "9f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The files of some sessions, by path relative to the `projects` folder, and what happens in them.

    Attributes:
        order: the order in which the files' lines are read; see `tests.support.sessions.spans`.
    """

    files: dict[str, bytes] = field(repr=False)
    order: tuple[str, ...] = field(repr=False)
    told: tuple[str, ...]


# ---------------------------------------------------------------------- logs


@dataclass(slots=True)
class Scene:
    """Makes up one session. Each method except the helpers writes one thing that happens in sessions."""

    draw: st.DrawFn
    log: LogBuilder
    version: str
    told: list[str] = field(default_factory=list)
    count: int = 0

    SHAPES = (
        "steps",
        "commands",
        "queued",
        "attached",
        "background",
        "side_by_side",
        "nested",
        "twins",
        "warm_up",
        "stopped",
        "stopped_tool",
        "cut",
        "failed",
        "held_back",
        "late",
        "repeated",
        "repeated_under_new_names",
        "copied_into_an_agent",
        "told_of_an_agent",
        "without_a_call",
        "unknown",
        "broken",
        "odd_counts",
        "sinking_counts",
        "odd_blocks",
        "rewound",
        "compacted",
        "moved",
        "updated",
    )

    # ------------------------------------------------------------------ helpers

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.log.session[:8]}_x{self.count}"

    def some(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def bash(self) -> Json:
        return tool_use("Bash", {"command": self.name("ls")}, id=self.name("toolu"))

    def task(self, words: str | None = None) -> Json:
        name = "Agent" if self.since("2.1.100") else "Task"
        return tool_use(name, {"prompt": words or self.name("task"), "subagent_type": "scout"}, id=self.name("toolu"))

    def since(self, version: str) -> bool:
        return tuple(map(int, self.version.split("."))) >= tuple(map(int, version.split(".")))

    def counts(self) -> Json:
        count = self.draw(st.integers(0, 9000))
        parts = self.some((), ("message", "advisor_message"), ("compaction", "message", "compaction"))
        inner = [{"type": kind, **usage(count + place, place)} for place, kind in enumerate(parts, 1)]
        more = {"iterations": inner} if inner else {}
        return usage(count, 50 + count // 3, cache_read=count * 7, cache_5m=count // 2, cache_1h=count // 5, **more)

    def agent(self, thread: LogBuilder | AgentLog, call: Json) -> AgentLog:
        return thread.agent(call["id"], call["input"]["prompt"], type="scout", meta=self.draw(st.booleans()))

    def step(self, thread: Transcript) -> None:
        """One request with a call, and its result."""
        call = self.bash()
        thread.answer(thinking("hm"), call, counts=self.counts())
        thread.tool_result(call["id"], error=self.draw(st.booleans()))

    # ------------------------------------------------------------------ people

    def steps(self) -> None:
        self.log.prompt(self.name("prompt"))
        for _ in range(self.draw(st.integers(0, 2))):
            self.step(self.log)
        self.log.answer(text(self.name("answer")), counts=self.counts())

    def commands(self) -> None:
        self.log.command("/cost", output="$1")
        self.log.bash("ls", "ada")
        self.log.command("/greet", "ada", expansion="Greet ada")
        self.log.answer(text("Hello"))

    def queued(self) -> None:
        self.step(self.log)
        self.log.queue("enqueue", "more")
        if self.some(True, False):
            self.log.queue("remove", "more")
            self.log.queued_prompt(self.name("queued"))
        else:
            self.log.queue("dequeue")
            self.log.prompt(self.name("queued"), promptSource="queued")
        self.log.answer(text("Yes"))

    def attached(self) -> None:
        self.log.prompt([text('See <pasted_content id="1">usage</pasted_content>'), image()])
        self.log.attachment("file", filename="tree.png", content={"base64": "iVBORw0KGgo="})
        self.step(self.log)

    def rewound(self) -> None:
        lines = [at for at, line in enumerate(self.log.lines) if isinstance(line, dict) and line.get("uuid")]
        if lines:
            self.log.rewind(self.some(*lines))
            self.steps()

    # ------------------------------------------------------------------ agents

    def background(self) -> None:
        call = self.task()
        self.log.answer(call)
        agent = self.agent(self.log, call)
        self.log.agent_result(call["id"], agent, "", background=True)
        self.step(agent)
        self.log.answer(text("It is being done."))
        agent.answer(text("done"), counts=self.counts())
        agent.finish()
        self.log.queue("enqueue", "<task-notification>")
        self.log.task_notification(f"<task-id>{agent.id}</task-id>")
        self.step(self.log)

    def side_by_side(self) -> None:
        """Subagents whose lines alternate, even within messages."""
        calls = [self.task(), self.task()]
        self.log.answer(*calls)
        agents = [self.agent(self.log, call) for call in calls]
        tools = [self.bash(), self.bash()]
        answers = [agent.message(stop_reason="tool_use", counts=self.counts()) for agent in agents]
        for answer in answers:
            answer.add(text("I look"))
        for answer, tool in zip(answers, tools, strict=True):
            answer.add(tool, last=True)
        for agent, tool in zip(agents, tools, strict=True):
            agent.tool_result(tool["id"], error=self.some(True, False))
        for agent in agents:
            agent.answer(text("done"))
        for at in self.some((0, 1), (1, 0)):
            self.log.agent_result(calls[at]["id"], agents[at], "done")

    def nested(self) -> None:
        outer_call, inner_call = self.task(), self.task()
        self.log.answer(outer_call)
        outer = self.agent(self.log, outer_call)
        outer.answer(inner_call)
        inner = self.agent(outer, inner_call)
        self.step(inner)
        inner.api_error()
        inner.answer(text("done"))
        outer.agent_result(inner_call["id"], inner, "done")
        outer.permanent_error()
        self.log.agent_result(outer_call["id"], outer, "failed")

    def twins(self) -> None:
        """Subagents with the same prompt."""
        words = self.name("task")
        calls = [self.task(words), self.task(words)]
        self.log.answer(*calls)
        agents = [self.agent(self.log, call) for call in calls]
        for agent in agents:
            self.step(agent)
        for call, agent in zip(calls, agents, strict=True):
            self.log.agent_result(call["id"], agent, "done")

    def warm_up(self) -> None:
        if self.since("2.0.76") and not self.since("2.1.25"):
            agent = self.log.warm_up()
            agent.answer(text("Ready."), sessionId=self.some(self.log.session, STRANGER))

    def copied_into_an_agent(self) -> None:
        """A subagent's log that begins with a copy of another's whole log, under its own id."""
        if not self.since("2.0.76"):
            return
        calls = [self.task(), self.task()]
        self.log.answer(*calls)
        first, second = (self.agent(self.log, call) for call in calls)
        self.step(first)
        first.answer(text("done"), counts=self.counts())
        second.lines += [{**line, "agentId": second.id} for line in first.lines if isinstance(line, dict)]
        self.step(second)

    def told_of_an_agent(self) -> None:
        """Lines that hold whole messages of a subagent, and a subagent's lines repeated in the main log."""
        call = self.task()
        self.log.answer(call)
        agent = self.agent(self.log, call)
        agent.answer(text("done"), counts=self.counts())
        said = agent.line()
        self.log.progress({**said["message"], "id": self.name("msg")})
        self.log.progress(said["message"])
        self.log.raw(dict(said))
        self.log.agent_result(call["id"], agent, "done")

    def without_a_call(self) -> None:
        """A subagent whose call is in no log."""
        self.step(self.agent(self.log, self.task()))

    # ------------------------------------------------------------------ failures and oddities

    def stopped(self) -> None:
        self.log.prompt(self.name("prompt"))
        self.log.answer(text("half"), aborted=True)
        if not self.since("2.1.200"):
            self.log.no_response()
        self.log.interrupted()

    def stopped_tool(self) -> None:
        calls = [self.bash(), self.bash()]
        self.log.answer(*calls)
        self.log.tool_result(calls[0]["id"], "Exit code 137", error=True, decision=None)
        self.log.denied(calls[1]["id"])
        self.log.interrupted(for_tool=True)
        self.log.cost_state()

    def cut(self) -> None:
        self.log.answer(text("ha"), cut=True, counts=self.counts())
        self.log.note("Your response above was cut off mid-stream.")
        self.log.answer(text("half"), stop_reason=self.some("max_tokens", "refusal", "end_turn"))
        self.log.note("Output token limit hit.")
        self.log.system("informational", content="refused", level="info")

    def failed(self) -> None:
        for attempt in range(1, self.draw(st.integers(1, 3))):
            self.log.api_error(529, attempt=attempt)
        if self.some(True, False):
            self.log.permanent_error(self.some("API Error: 500 api_error", "Invalid API key"))
        else:
            self.log.answer(text("at last"))

    def held_back(self) -> None:
        """A result before its call, and an answer before its prompt."""
        call = self.bash()
        self.log.tool_result(call["id"], error=self.some(True, False))
        self.log.answer(call, counts=self.counts())
        self.log.answer(text("Two."))
        self.log.turn_duration()
        self.log.prompt(self.name("prompt"))

    def late(self) -> None:
        """A line of a message that comes after the next message."""
        calls = [self.bash(), self.bash()]
        answer = self.log.message(stop_reason="tool_use", counts=self.counts())
        answer.add(calls[0], last=True)
        self.log.tool_result(calls[0]["id"])
        self.log.answer(text("Two."))
        answer.add(calls[1])
        if self.some(True, False):
            self.log.tool_result(calls[1]["id"], error=True)

    def repeated(self) -> None:
        """Lines that are in the log twice."""
        self.step(self.log)
        self.log.api_error()
        self.log.permanent_error()
        self.log.compaction()
        self.log.lines += [dict(line) for line in self.log.lines[-6:] if isinstance(line, dict)]

    def repeated_under_new_names(self) -> None:
        """A conversation that is in the log twice, the second time with other uuids and another session's id."""
        self.step(self.log)
        self.log.answer(text("Two."), text("Two."))
        for line in self.log.lines[-5:]:
            if isinstance(line, dict) and "uuid" in line:
                self.log.raw({**line, "uuid": self.name("line"), "sessionId": STRANGER})

    def unknown(self) -> None:
        self.log.raw({"type": "ended-by-model", "sessionId": self.log.session, "message": {"id": "msg_none"}})
        self.log.raw({"type": "file-history-snapshot", "messageId": "x", "snapshot": {"trackedFileBackups": {}}})
        self.log.raw({"type": None, "uuid": self.name("line")})
        self.log.raw({"message": {"id": "msg_none", "content": [text("no type")]}})
        self.log.system("bridge_status", content="connected")

    def broken(self) -> None:
        for raw in (b"", b"[1, 2]", b'"words"', b"null", b'{"type": "assistant", "mess', b"\xff\xfe", b"// redacted"):
            self.log.raw(raw)
        self.log.answer(text("\ud800 and \u0000"))
        self.log.lines[-1] = json.dumps(self.log.line()).encode()
        self.log.raw({"type": "assistant", "uuid": self.name("line"), "message": None})
        self.log.raw({"type": "user", "uuid": self.name("line"), "message": None})

    def odd_counts(self) -> None:
        for counts in ({"input_tokens": None, "output_tokens": 7}, {"output_tokens": 7}, {"cache_creation": None}):
            self.log.answer(text("odd"), counts=counts)
        self.log.answer(text("none"))
        self.log.line()["message"]["usage"] = None

    def sinking_counts(self) -> None:
        """Counts that were greater before the final line, and a count without a final line."""
        for last in (True, False):
            answer = self.log.message(counts=self.counts())
            for greatest in (False, True, False):
                answer.add(text(self.name("part")))
                said = self.log.line()["message"]
                said["stop_reason"] = None
                said["usage"] = said["usage"] | {"output_tokens": 99_999} if greatest else said["usage"]
            answer.add(text(self.name("part")), last=last)

    def odd_blocks(self) -> None:
        """Lines with no block or several, repeated blocks, and blocks of unknown kinds."""
        calls = [self.bash(), self.bash()]
        answer = self.log.message(stop_reason="tool_use", counts=self.counts())
        answer.add()
        answer.add(text("twice"), text("twice"), redacted_thinking(), {"type": "hologram", "tool_use": calls[1]})
        answer.add(*calls, last=True)
        answer.add(calls[1])
        for call in calls:
            self.log.tool_result(call["id"], [text("ok"), image()], error=call is calls[0])
        self.log.tool_result(calls[1]["id"], "again", error=True)
        self.log.tool_result(self.name("toolu"), "of nothing", error=True)

    def compacted(self) -> None:
        self.step(self.log)
        self.log.compaction(trigger=self.some("auto", "manual"))
        self.step(self.log)

    # ------------------------------------------------------------------ places and clients

    def moved(self) -> None:
        self.log.cd("/home/ada/meadow", branch="hay")
        self.step(self.log)

    def updated(self) -> None:
        """Another client continues the session. Old clients write nothing beside the main log, so they never do."""
        if self.since("2.1.25"):
            self.version = self.some(*(version for version in CLIENTS[4:]))
            self.log.update(self.version)
            self.step(self.log)

    def play(self, most: int) -> None:
        for shape in self.draw(st.lists(st.sampled_from(self.SHAPES), max_size=most)):
            self.told.append(shape)
            getattr(self, shape)()

    def successor(self, session: str) -> Scene:
        """Draw another session that continues or forks this one."""
        kinds = ["fork", "clear", "apart"]
        if self.log.session == SESSIONS[0]:
            # A branch of a fork begins like the original and looks older than the fork, so nothing would tell which
            # session the fork's messages belong to.
            kinds.append("branch")
        if not self.since("2.1.25"):
            kinds.append("continued")
        kind = self.some(*kinds)
        if kind == "clear":
            log = self.log.clear(session)
        elif kind == "apart":
            log = LogBuilder(session, version=self.version, start="2026-03-02T08:00:00.000Z")
        elif kind == "continued":
            log = self.log.continued(session)
        else:
            log = self.log.fork(session, branch=kind == "branch")
        return Scene(self.draw, log, self.version, told=[f"{kind} of {self.log.session[0]}"])


@st.composite
def sessions(draw: st.DrawFn) -> Drawn:
    """Draw the files of some sessions, most of which continue or fork one another."""
    version = draw(st.sampled_from(CLIENTS))
    log = histories.built(draw, session=SESSIONS[0], version=version, turns=1)
    first = Scene(draw, log, version, told=[version])
    scenes = [first]
    first.play(4)
    for session in SESSIONS[1 : draw(st.integers(1, len(SESSIONS)))]:
        scene = draw(st.sampled_from(scenes)).successor(session)
        scene.play(3)
        scenes.append(scene)
    for scene in scenes:
        scene.play(1)
    files = {name: data for scene in scenes for name, data in scene.log.files().items()}
    if len(scenes) > 1 and draw(st.booleans()):
        # The original of a copied session may be gone.
        del files[first.log.path]
        first.told.append("deleted")
    elif len(scenes) == 1 and "copied_into_an_agent" not in first.told and draw(st.booleans()):
        # A log that is still being written may end anywhere, but not one that was copied: its copy holds whole lines.
        name = draw(st.sampled_from([name for name in files if name.endswith(".jsonl")]))
        files[name] = files[name][: draw(st.integers(0, len(files[name])))]
        first.told.append("cut")
    order = draw(st.lists(st.sampled_from(list(files)), max_size=80)) if len(files) > 1 else []
    return Drawn(files, tuple(order), tuple(" ".join(scene.told) for scene in scenes))


# ---------------------------------------------------------------------- counting spans and events


def add(found: dict[str, Counts], session: str, **more: int | None) -> None:
    counts = found.setdefault(session, Counts())
    for name, count in more.items():
        setattr(counts, name, getattr(counts, name) + int(count or 0))


def of_spans(found: Iterable[Span]) -> dict[str, Counts]:
    counts: dict[str, Counts] = {}
    for span in found:
        match span:
            case Generation(usage=None):
                add(counts, span.context.session, generations=1)
            case Generation(usage=spent):
                assert spent is not None
                tokens = {name: getattr(spent, name) for name in ("input", "output", "cache_read", "cache_creation")}
                add(counts, span.context.session, generations=1, **tokens)
            case ToolCall():
                failed = span.status not in ("ok", "no_result")
                add(counts, span.context.session, tool_calls=1, tool_errors=failed)
            case ApiFailure():
                add(counts, span.context.session, api_errors=1)
            case Compaction():
                add(counts, span.context.session, compactions=1)
            case _:
                pass
    return counts


def of_events(bodies: Iterable[Json]) -> dict[str, Counts]:
    counts: dict[str, Counts] = {}
    for body in bodies:
        found = body["properties"]
        session, failed = found["$ai_session_id"], found.get("$ai_is_error", False)
        if body["event"] == "$ai_generation" and failed:
            add(counts, session, api_errors=1)
        elif body["event"] == "$ai_generation":
            names = {field: f"$ai_{field}_tokens" for field in ("input", "output")}
            names |= {field: f"$ai_{field}_input_tokens" for field in ("cache_read", "cache_creation")}
            add(counts, session, generations=1, **{field: found.get(name) for field, name in names.items()})
        elif body["event"] == "$ai_span" and found["$ai_span_type"] == "compaction":
            add(counts, session, compactions=1)
        elif body["event"] == "$ai_span":
            denied = found["claude_code_tool_status"] in ("denied", "interrupted")
            add(counts, session, tool_calls=1, tool_errors=failed or denied)
    return counts


def sent(files: Mapping[str, bytes]) -> list[Json]:
    """Return the events that would be sent of *files*, after writing them to a folder."""
    with tempfile.TemporaryDirectory(prefix="logs-") as folder, capture_logs():
        projects = Path(folder) / "projects"
        write_files(projects, files)
        with answering_disk():
            found = list(preview(list(find_logs([projects])), routing_for(Path(folder))))
    assert len({one.identity for one in found}) == len(found), "no event comes twice"
    return [json.loads(one.body) for one in found]


IN_A_TRACE = {
    "generations": "claude_code_generations",
    "tool_calls": "claude_code_tool_calls",
    "api_errors": "claude_code_api_errors",
    "compactions": "claude_code_compactions",
    "input": "$ai_total_input_tokens",
    "output": "$ai_total_output_tokens",
}


# ---------------------------------------------------------------------- tests


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(drawn=sessions())
def test_spans_events_and_the_sums_of_every_trace_match_the_counts_of_another_reader(drawn: Drawn) -> None:
    """The spans are the core's, whose lines come in any order; the events are those of `preview`."""
    expected = counted(drawn.files)
    assert of_spans(spans(drawn.files, order=drawn.order)) == expected

    bodies = sent(drawn.files)
    traces = [body["properties"] for body in bodies if body["event"] == "$ai_trace"]

    assert of_events(bodies) == expected
    for trace in (trace for trace in traces if trace["claude_code_trace"] == "final"):
        session = trace["$ai_session_id"]
        # If only copies of a session are left, each log that holds some may send a trace for it.
        if any(name.endswith(f"/{session}.jsonl") for name in drawn.files):
            counts = asdict(expected.get(session, Counts()))
            assert {name: trace.get(key, 0) for name, key in IN_A_TRACE.items()} == {
                name: counts[name] for name in IN_A_TRACE
            }


@pytest.mark.parametrize("version", CLIENTS)
def test_the_other_reader_counts_a_known_session_correctly(version: str) -> None:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(text("I look"), tool_use("Bash", {}, id="toolu_1"), tool_use("Bash", {}, id="toolu_2"))
    log.tool_result("toolu_2", error=True)
    log.tool_result("toolu_1")
    log.answer(text("Two."), counts=usage(1, 3, cache_read=5, cache_5m=7, cache_1h=0))
    log.permanent_error()
    expected = Counts(
        generations=2,
        tool_calls=2,
        tool_errors=1,
        api_errors=1,
        input=11,
        # The oldest clients write the count that was known when the message began.
        output={True: 53, False: 6}[tuple(map(int, version.split("."))) >= (2, 1, 59)],
        cache_read=1005,
        cache_creation=307,
    )

    assert counted(log.files()) == {log.session: expected}
