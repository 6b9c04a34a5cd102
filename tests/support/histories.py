"""Sessions that Hypothesis makes up, in every shape, and which of their prefixes are complete.

`histories` draws a session as `tests.support.logs.LogBuilder` writes it; `add_turn` makes one turn of such a session
from any source of decisions. A `History` knows for every prefix of its files whether something in it is still being
written. That matters for events that become final by time alone: they may say less than the finished log does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hypothesis import strategies as st

from tests.support.logs import AgentLog, LogBuilder, Transcript, text, thinking, tool_use

__all__ = ["VERSIONS", "Draws", "History", "add_turn", "built", "forks", "histories", "history_of", "hosted"]

VERSIONS = ("2.1.329", "2.1.200", "2.1.92", "2.1.72", "2.1.25", "2.0.76", "2.0.1")
"""Clients whose logs differ in what their lines say or in where they stand."""

_RESULTS_BETWEEN_BLOCKS_SINCE = (2, 1, 25)


class Draws(Protocol):
    """The source of decisions about a session: hypothesis, or a seeded source of random numbers."""

    def choose(self, *choices: str) -> str:
        """Return one of *choices*; the first is the simplest."""

    def between(self, least: int, most: int) -> int:
        """Return a number from *least* to *most*, both included."""

    def either(self) -> bool:
        """Return yes or no."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The decisions of a hypothesis strategy."""

    draw: st.DrawFn

    def choose(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def between(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def either(self) -> bool:
        return self.draw(st.booleans())


@dataclass(slots=True)
class _Ends:
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The finished files of some sessions, by path relative to the `projects` folder.

    Attributes:
        logs: the logs, each of which grows.
        metas: the meta files, each of which is written at once.
        times: of each log, the end of every line and the line's time, where it has one.
    """

    logs: Mapping[str, bytes]
    metas: Mapping[str, bytes]
    times: Mapping[str, list[tuple[int, str | None]]]
    _messages: Mapping[tuple[str, str], _Ends] = field(repr=False)
    _calls: Mapping[str, tuple[str, int]] = field(repr=False)
    _results: Mapping[str, tuple[str, int]] = field(repr=False)
    _starts: Mapping[str, str] = field(repr=False)

    def open_files(self, sizes: Mapping[str, int]) -> set[str]:
        """Return the logs in which a message begins within the first *sizes* bytes and ends after them."""
        return {file for (file, _), ends in self._messages.items() if ends.first <= sizes.get(file, 0) < ends.last}

    def has_whole_messages(self, sizes: Mapping[str, int]) -> bool:
        """Whether no message begins within the first *sizes* bytes of its file and ends after them."""
        return not self.open_files(sizes)

    def is_whole(self, sizes: Mapping[str, int]) -> bool:
        """The same; and no call waits for a result that will come, no result for its call, no agent for its call."""

        def has(place: tuple[str, int]) -> bool:
            return place[1] <= sizes.get(place[0], 0)

        return (
            self.has_whole_messages(sizes)
            and all(
                has(place) == has(self._results[call]) for call, place in self._calls.items() if call in self._results
            )
            and all(has(self._calls[call]) for file, call in self._starts.items() if sizes.get(file, 0))
        )


def history_of(*builders: LogBuilder) -> History:
    """Return the history of the logs of *builders*."""
    logs: dict[str, bytes] = {}
    metas: dict[str, bytes] = {}
    for builder in builders:
        for name, data in builder.files().items():
            (metas if name.endswith(".meta.json") else logs)[name] = data
    times: dict[str, list[tuple[int, str | None]]] = {}
    messages: dict[tuple[str, str], _Ends] = {}
    calls: dict[str, tuple[str, int]] = {}
    results: dict[str, tuple[str, int]] = {}
    started: dict[str, str] = {}
    for name, data in logs.items():
        end = 0
        answering: dict[str, str] = {}
        compacted = _Ends(0, 0)
        times[name] = []
        for raw in data.splitlines(keepends=True):
            end += len(raw)
            line = _object(raw)
            times[name].append((end, line.get("timestamp")))
            message = line.get("message") or {}
            content = message.get("content")
            thread = line.get("agentId") or str(line.get("isSidechain"))
            parts = content if isinstance(content, list) else []
            if line.get("type") == "assistant":
                answering[thread] = message["id"]
                ends = messages.setdefault((name, message["id"]), _Ends(end, end))
                ends.last = end
            elif line.get("subtype") == "compact_boundary":
                compacted = messages[name, line["uuid"]] = _Ends(end, end)
            elif line.get("isCompactSummary"):
                compacted.last = end
            elif any(str(part.get("text", "")).startswith("[Request interrupted") for part in parts):
                # The mark says of the message before it that it was stopped.
                if thread in answering:
                    messages[name, answering[thread]].last = end
            elif line.get("isSidechain") and isinstance(content, str):
                started.setdefault(name, content)
            for part in parts:
                if part["type"] == "tool_use":
                    calls.setdefault(part["id"], (name, end))
                elif part["type"] == "tool_result":
                    results.setdefault(part["tool_use_id"], (name, end))
    by_prompt = {
        part["input"]["prompt"]: part["id"]
        for data in logs.values()
        for raw in data.splitlines()
        for part in _parts(_object(raw))
        if part["type"] == "tool_use" and "prompt" in part["input"]
    }
    starts = {name: by_prompt[prompt] for name, prompt in started.items() if prompt in by_prompt}
    return History(
        logs=logs, metas=metas, times=times, _messages=messages, _calls=calls, _results=results, _starts=starts
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _parts(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = (line.get("message") or {}).get("content")
    return content if isinstance(content, list) else []


@dataclass(slots=True)
class _Writing:
    """The state while one session is drawn: the names used so far, and how much more may be written."""

    draws: Draws
    log: LogBuilder
    interleaved: bool
    count: int = 0
    agents: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.log.session[:8]}_{self.count}"


def add_turn(log: LogBuilder, draws: Draws, *, named_from: int = 0) -> None:
    """Write one turn: a prompt and what follows from it.

    Args:
        log: the session.
        draws: who decides.
        named_from: what is written is named by numbers above this one; no two turns of a session may share names.
    """
    _turn(_Writing(draws=draws, log=log, interleaved=_interleaves(log.version), count=named_from))


def built(
    draw: st.DrawFn,
    *,
    session: str,
    version: str,
    start: str = "2026-03-02T09:00:00.000Z",
    turns: int = 2,
    requests: bool = False,
) -> LogBuilder:
    """Draw one session."""
    log = LogBuilder(session, version=version, start=start, requests=requests)
    writing = _Writing(draws=_Drawn(draw), log=log, interleaved=_interleaves(version))
    for _ in range(draw(st.integers(1, turns))):
        _turn(writing)
    return log


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    session: str = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b",
    versions: tuple[str, ...] = VERSIONS,
    turns: int = 2,
    requests: bool = False,
) -> History:
    """Draw one session's finished files."""
    version = draw(st.sampled_from(versions))
    return history_of(built(draw, session=session, version=version, turns=turns, requests=requests))


def _interleaves(version: str) -> bool:
    """Whether this client writes results between the lines of one answer."""
    return tuple(map(int, version.split("."))) >= _RESULTS_BETWEEN_BLOCKS_SINCE


def _turn(writing: _Writing) -> None:
    log = writing.log
    before = writing.draws.choose("nothing", "nothing", "title", "cost", "junk", "command")
    if before == "title":
        log.title(writing.name("title"))
    elif before == "cost":
        log.cost_state(0.5, added=writing.count)
    elif before == "junk":
        log.raw(b'{"type": "assistant", ')
    elif before == "command":
        log.command("/model", "opus", output="done")
    log.prompt(writing.name("prompt"))
    steps = writing.draws.between(0, 3)
    for _ in range(steps):
        if not _step(writing, log, depth=0):
            return
    end = writing.draws.choose("answer", "answer", "interrupt", "error", "call", "duration", "nothing")
    if end == "answer":
        log.answer(thinking("hm"), text(writing.name("answer")))
    elif end == "interrupt":
        stopped = log.message(aborted=True)
        stopped.add(text(writing.name("half")), last=True)
        log.interrupted()
    elif end == "error":
        log.permanent_error()
    elif end == "call":
        log.answer(tool_use("Bash", {"command": "sleep"}, id=writing.name("toolu")))
    elif end == "duration":
        log.answer(text(writing.name("answer")))
        log.turn_duration()


def _step(writing: _Writing, thread: Transcript, *, depth: int) -> bool:
    """Write one request and what follows from it; return whether the turn goes on."""
    kind = writing.draws.choose("tools", "tools", "agents", "retry", "denied", "compaction", "queued")
    if kind == "retry":
        thread.api_error()
        thread.answer(text(writing.name("answer")), tool := tool_use("Read", {"file": "a"}, id=writing.name("toolu")))
        thread.tool_result(tool["id"], "found")
    elif kind == "denied":
        tool = tool_use("Write", {"file": "b"}, id=writing.name("toolu"))
        thread.answer(tool)
        thread.denied(tool["id"])
        if thread is writing.log:
            thread.interrupted(for_tool=True)
            return False
    elif kind == "compaction" and thread is writing.log:
        writing.log.compaction(writing.name("summary"))
    elif kind == "queued" and thread is writing.log:
        thread.answer(tool := tool_use("Grep", {"pattern": "x"}, id=writing.name("toolu")))
        thread.queued_prompt(writing.name("queued"))
        thread.tool_result(tool["id"], "none")
    elif kind == "agents" and depth < 2 and writing.agents < 3:
        _agents(writing, thread, depth)
    else:
        _tools(writing, thread)
    return True


def _tools(writing: _Writing, thread: Transcript) -> None:
    """Answer with calls, some of whose results come while the answer is still being written."""
    calls = [
        tool_use("Bash", {"command": f"ls {n}"}, id=writing.name("toolu")) for n in range(writing.draws.between(1, 3))
    ]
    early = {call["id"]: writing.draws.choose("after", "after", "between", "before") for call in calls}
    if not writing.interleaved:
        early = dict.fromkeys(early, "after")
    answer = thread.message(stop_reason="tool_use")
    if writing.draws.either():
        answer.add(text(writing.name("words")))
    for number, call in enumerate(calls, start=1):
        if early[call["id"]] == "before" and number > 1:
            thread.tool_result(call["id"], "quick")
        answer.add(call, last=number == len(calls))
        if early[call["id"]] == "between":
            thread.tool_result(call["id"], "soon")
    for number, call in enumerate(calls, start=1):
        if early[call["id"]] == "after" or (early[call["id"]] == "before" and number == 1):
            thread.tool_result(call["id"], "late", error=writing.draws.either())


def _agents(writing: _Writing, thread: Transcript, depth: int) -> None:
    """Start agents side by side; each may start some of its own."""
    calls = []
    for _ in range(writing.draws.between(1, 2)):
        writing.agents += 1
        prompt = writing.name("task")
        calls.append(tool_use("Task", {"prompt": prompt, "subagent_type": "scout"}, id=writing.name("toolu")))
    thread.answer(text("go"), *calls)
    agents: list[AgentLog] = []
    for call in calls:
        assert isinstance(thread, LogBuilder | AgentLog)
        agents.append(thread.agent(call["id"], call["input"]["prompt"], type="scout", meta=writing.draws.either()))
    background = writing.draws.either()
    if background:
        for call, agent in zip(calls, agents, strict=True):
            thread.agent_result(call["id"], agent, "", background=True)
    for agent in agents:
        for _ in range(writing.draws.between(0, 2)):
            _step(writing, agent, depth=depth + 1)
        agent.answer(text(writing.name("report")))
    if not background:
        for call, agent in zip(calls, agents, strict=True):
            thread.agent_result(call["id"], agent, "report")


@st.composite
def hosted(draw: st.DrawFn, *, versions: tuple[str, ...] = VERSIONS) -> tuple[History, list[tuple[str, int]]]:
    """Draw two sessions, of which one goes on in the log of the other, and may come back to its own.

    Returns:
        the finished files, and in which order the main logs grew: which one, and up to how many bytes.
    """
    version = draw(st.sampled_from(versions))
    host = built(draw, session="0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", version=version, turns=1)
    start = draw(st.sampled_from(["2026-03-02T08:00:00.000Z", "2026-03-02T10:00:00.000Z"]))
    guest = built(draw, session="1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", version=version, start=start, turns=1)
    logs = [guest, host] if start < "2026-03-02T09" else [host, guest]
    order = [(log.path, len(log.files()[log.path])) for log in logs]
    for number in range(1, draw(st.integers(1, 3)) + 1):
        match draw(st.sampled_from(["hosted", "host", "back"] if number > 1 else ["hosted"])):
            case "hosted":
                with guest.in_the_log_of(host):
                    add_turn(guest, _Drawn(draw), named_from=100 * number)
                log = host
            case "host":
                host.go_on_after(guest)
                add_turn(host, _Drawn(draw), named_from=100 * number)
                log = host
            case _:
                guest.go_on_after(host)
                add_turn(guest, _Drawn(draw), named_from=100 * number)
                log = guest
        order.append((log.path, len(log.files()[log.path])))
    return history_of(host, guest), order


@st.composite
def forks(draw: st.DrawFn, *, versions: tuple[str, ...] = VERSIONS) -> tuple[History, str, int]:
    """Draw a session, another that begins with a copy of it, and what each of them goes on with.

    Returns:
        the finished files, the fork's log, and how many bytes of the original's log it copies.
    """
    version = draw(st.sampled_from(versions))
    session = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
    original = built(draw, session=session, version=version)
    copied = len(original.files()[original.path])
    fork = original.fork("1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", branch=draw(st.booleans()))
    for log in (original, fork):
        if draw(st.booleans()):
            add_turn(log, _Drawn(draw), named_from=100)
    return history_of(original, fork), fork.path, copied
