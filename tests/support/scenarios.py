"""Scenarios for a real client, and what they produce: API answers, session logs, and events of a real daemon.

    observation = asyncio.run(observe(client, workspace))
    observation.runs["fork"].answers
    observation.events

All scenarios run at the same time on one machine. Each has its own folder and its own API, and one daemon follows them
all. When everything has arrived, the daemon is stopped and a second daemon reads the logs again. It sends what only the
end of a session makes final, if the client does not report that end.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tests.support.cadence import cadence_variables
from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Client, Workspace, session_of, start_client
from tests.support.messages_api import (
    Answer,
    Failure,
    MessagesApi,
    Step,
    Text,
    Thinking,
    ToolCall,
    agent,
    bash,
)
from tests.support.processes import Ended, environment, following, verb

__all__ = ["SCENARIOS", "SCRIPTS", "Observation", "Result", "Run", "Scenario", "Turn", "is_final", "observe"]

Json = dict[str, Any]

_OVERLOADED = Failure(status=529, error_type="overloaded_error", message="Overloaded")
_BROKEN = Failure(status=500, error_type="api_error", message="Internal server error")
_INVALID = Failure(status=400, error_type="invalid_request_error", message="messages.0: not like this")

SCRIPTS: Mapping[str, tuple[Step, ...]] = {
    "plain": (Step(blocks=(Text(text="Good day."),)),),
    # Commands in parallel, one that fails, attempts that fail, and thinking.
    "parallel": (
        Step(blocks=(Text(text="I begin."), bash("echo one"), bash("echo two"), bash("exit 3"))),
        Step(blocks=(bash("echo three"),), failures=(_OVERLOADED, _BROKEN)),
        Step(blocks=(Thinking(thinking="What to say?"), Text(text="One of them failed."))),
    ),
    "mixed": (
        Step(blocks=(Text(text="I begin."), bash("echo one"), bash("exit 3"))),
        Step(blocks=(Text(text="A part of it."), agent("Do it. [[part]]", background=False))),
        Step(blocks=(Text(text="All done."),)),
    ),
    "background": (
        Step(blocks=(agent("Do it. [[part]]", background=True),)),
        Step(blocks=(Text(text="It is under way."),), hold="background"),
        # A client that waits for its agents asks again when the agent ends.
        Step(blocks=(Text(text="All done."),)),
    ),
    "part": (
        Step(blocks=(bash("echo part"),)),
        Step(blocks=(Text(text="The part is done."),)),
    ),
    "origin": (
        Step(blocks=(Text(text="I begin."), bash("echo origin"))),
        Step(blocks=(Text(text="So far, so good."),), hold="origin"),
    ),
    "branch": (
        Step(blocks=(bash("echo branch"),)),
        Step(blocks=(Text(text="A part of it."), agent("Do it. [[part]]", background=False))),
        Step(blocks=(Text(text="The other way."),)),
    ),
    "further": (Step(blocks=(Text(text="The same way."),)),),
    "refused": (
        # One block: an old client logs it at once, and what comes after it with counts that may be final.
        Step(blocks=(bash("echo refused"),), pause="refused"),
        # More often than any client tries.
        Step(blocks=(Text(text="Never said."),), failures=(_INVALID,) * 40),
    ),
    "compacted": (Step(blocks=(Text(text="I go on."),)),),
    "limit": (
        Step(blocks=(Text(text="What I wanted to"),), stop_reason="max_tokens"),
        # The client asks again, unless it gives up.
        Step(blocks=(Text(text=" say."),)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run of the client.

    Attributes:
        script: the script that answers the prompt; None for one of the client's own commands.
        prompt: the prompt.
        resumes: the number of the turn whose session is resumed; None for a new session.
        options: further options of the client.
        release: when the step that is held or paused under the script's name continues: after `after` messages are
            `logged`, or have `arrived` as events. `begun` means `logged` for an old client, which logs each block at
            once. Other clients log a message when it is complete, so for them `begun` means sent.
        after: the number of messages.
    """

    script: str | None
    prompt: str
    resumes: int | None = None
    options: tuple[str, ...] = ()
    release: Literal["begun", "logged", "arrived"] | None = None
    after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Runs of the client in one folder, one after the other.

    Attributes:
        name: its name, and the name of its folder.
        turns: the runs.
    """

    name: str
    turns: tuple[Turn, ...]


def _turn(
    script: str,
    *,
    resumes: int | None = None,
    options: tuple[str, ...] = (),
    release: Literal["begun", "logged", "arrived"] | None = None,
    after: int = 0,
) -> Turn:
    prompt = f"Do what is to be done. [[{script}]]"
    return Turn(script=script, prompt=prompt, resumes=resumes, options=options, release=release, after=after)


# A client takes seconds of processor time to start, so each of these shows several things.
SCENARIOS = (
    # The longest scenarios come first.
    Scenario(
        name="fork",
        turns=(
            _turn("origin", release="arrived", after=1),
            _turn("branch", resumes=0, options=("--fork-session",)),
            _turn("further", resumes=0),
        ),
    ),
    Scenario(
        name="compaction",
        turns=(
            _turn("parallel"),
            Turn(script=None, prompt="/compact", resumes=0),
            _turn("compacted", resumes=0),
        ),
    ),
    Scenario(name="background", turns=(_turn("background", release="logged", after=3),)),
    Scenario(name="refused", turns=(_turn("refused", release="begun", after=1),)),
    Scenario(name="limit", turns=(_turn("limit"),)),
)

# How many clients run at the same time. They are busy while they start, and mostly idle afterwards.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one turn ended.

    Attributes:
        status: the client's exit status.
        session: the session id that the client reports.
        began_at: when it was started, in milliseconds since the epoch.
        ended_at: when it ended, in milliseconds since the epoch.
    """

    status: int
    session: str
    began_at: int
    ended_at: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A scenario that was played.

    Attributes:
        scenario: the scenario.
        folder: the folder of its logs.
        answers: the answers of its API, in order.
        results: how its turns ended.
        early: the span ids of the events that had arrived when the held or paused step was released.
    """

    scenario: Scenario
    folder: Path
    answers: tuple[Answer, ...]
    results: tuple[Result, ...]
    early: frozenset[str]

    @property
    def messages(self) -> list[Answer]:
        """The messages of its conversations, logged or not."""
        return [answer for answer in self.answers if answer.kind in ("main", "subagent") and answer.status == 200]

    @property
    def failures(self) -> list[Answer]:
        """The answers that were errors."""
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def sessions(self) -> frozenset[str]:
        """The session ids that its clients report."""
        return frozenset(result.session for result in self.results)

    @cached_property
    def records(self) -> list[Json]:
        """Every line of its logs."""
        paths = sorted(self.folder.glob("**/*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]

    @cached_property
    def logged(self) -> dict[str, list[Json]]:
        """The logged lines of each message, by its id."""
        return _logged(self.records)

    def result(self, answer: Answer) -> Result:
        """Return the end of the turn that an answer on the main thread or to a subagent belongs to."""
        while answer.parent_tool_use_id is not None:
            answer = next(other for other in self.messages if answer.parent_tool_use_id in _ids(other.tool_calls))
        [number] = [place for place, turn in enumerate(self.scenario.turns) if turn.script == answer.script]
        return self.results[number]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one client did on one machine, and the events that arrived.

    Attributes:
        client: the client.
        runs: its runs, by the scenario's name.
        posthog: the receiver of the events; it has stopped.
        live: how many events had arrived when the daemon that followed the sessions ended.
        log: what that daemon logged.
        again: how the second daemon ended.
        preview: what `preview` prints for the same logs.
    """

    client: Client
    runs: Mapping[str, Run]
    posthog: CaptureServer
    live: int
    log: str
    again: Ended
    preview: Ended

    def events(self, scenario: str, name: str | None = None) -> list[Json]:
        """Return a scenario's events, those of one name or all, in the order of their arrival."""
        return [
            event
            for event in self.posthog.events
            if event["properties"]["$ai_project_name"] == scenario and event["event"] == (name or event["event"])
        ]


async def observe(client: Client, workspace: Workspace) -> Observation:
    """Play all scenarios with *client*, and return the result when everything has arrived.

    Args:
        client: the client.
        workspace: an empty machine.

    Raises:
        TimeoutError: something did not arrive in time. The message says what.
    """
    async with CaptureServer() as posthog:
        # A session may be over before the daemon has seen its process. Then its quiet proves the end. An old client's
        # sessions have no other proof; what is open in them must not be given up while they are played.
        timeout = {} if client.is_old else {"POSTHOG_LLMA_SESSION_TIMEOUT": "20"}
        # Clients take seconds, so that more looks at their logs would show nothing more.
        cadence = cadence_variables(gone=2.0, tick=0.25, hot_sweep=0.25)
        env = environment(workspace, posthog.url, **timeout, **cadence)
        async with following(workspace, env=env) as daemon:
            stage = _Stage(client=client, workspace=workspace, posthog=posthog)
            async with asyncio.TaskGroup() as tasks:
                played = [tasks.create_task(stage.play(scenario)) for scenario in SCENARIOS]
            runs = {run.scenario.name: run for run in (task.result() for task in played)}
            await daemon.until(lambda: _all_arrived(client, runs, posthog))
            daemon.terminate()
            assert await daemon.wait() == 0, daemon.stderr
            log = daemon.stderr
        live = len(posthog.events)
        again = await verb(workspace, "run", "--once", env=env)
        preview = await verb(workspace, "preview", workspace.config)
    return Observation(client=client, runs=runs, posthog=posthog, live=live, log=log, again=again, preview=preview)


@dataclass(slots=True, kw_only=True)
class _Stage:
    client: Client
    workspace: Workspace
    posthog: CaptureServer
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def play(self, scenario: Scenario) -> Run:
        cwd = self.workspace.work / scenario.name
        cwd.mkdir()
        folder = self.workspace.config / "projects" / re.sub("[^a-zA-Z0-9]", "-", str(cwd))
        results: list[Result] = []
        early: frozenset[str] = frozenset()
        async with self._places:
            with MessagesApi(SCRIPTS, name=scenario.name) as api:
                for number, turn in enumerate(scenario.turns):
                    options = turn.options
                    if turn.resumes is not None:
                        options = ("--resume", results[turn.resumes].session, *options)
                    began_at = _now()
                    async with start_client(
                        self.client,
                        turn.prompt,
                        *options,
                        name=f"{scenario.name}-{number}",
                        workspace=self.workspace,
                        cwd=cwd,
                        api_url=api.url,
                    ) as child:
                        if turn.release is not None:
                            early = await self._release(turn, api, folder, child)
                        status = await child.wait()
                        session = session_of(child)
                    results.append(Result(status=status, session=session, began_at=began_at, ended_at=_now()))
                answers = api.answers
        return Run(scenario=scenario, folder=folder, answers=answers, results=tuple(results), early=early)

    async def _release(self, turn: Turn, api: MessagesApi, folder: Path, child: Child) -> frozenset[str]:
        """Wait until the held step may continue, release it, and return the events that had arrived by then."""

        def may() -> bool:
            messages = [answer for answer in api.answers if answer.kind in ("main", "subagent")]
            if len(messages) < turn.after:
                return False
            wanted = {str(answer.message_id) for answer in messages}
            if turn.release == "logged" or (turn.release == "begun" and self.client.is_old):
                return wanted <= _logged(_whole_lines(folder)).keys()
            if turn.release == "begun":
                return True
            wanted |= {call.id for answer in messages for call in answer.tool_calls}
            return wanted <= _span_ids(self.posthog)

        await child.until(may)
        early = _span_ids(self.posthog)
        api.release(str(turn.script))
        return early


def _all_arrived(client: Client, runs: Mapping[str, Run], posthog: CaptureServer) -> bool:
    """Return whether every event has arrived that a daemon can know to be final.

    An old client does not always log that a message is complete, and it never logs that a session has ended.
    """
    arrived = _span_ids(posthog)
    traces = {
        event["properties"]["$ai_trace_id"]: event["properties"]["claude_code_generations"]
        for event in posthog.events
        if event["event"] == "$ai_trace" and event["properties"]["claude_code_trace"] == "final"
    }
    for run in runs.values():
        final = [answer for answer in run.answers if any(map(is_final, run.logged.get(answer.message_id or "", ())))]
        wanted = {item for answer in final for item in (answer.message_id, *_ids(answer.tool_calls))}
        if not wanted <= arrived:
            return False
        for session in () if client.is_old else run.sessions:
            if traces.get(session) != sum(run.result(message).session == session for message in run.messages):
                return False
    return True


def is_final(line: Json) -> bool:
    """Whether a logged line of a message has the message's final usage."""
    return line["message"]["stop_reason"] is not None


def _logged(records: list[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for record in records:
        if record["type"] == "assistant":
            found.setdefault(record["message"]["id"], []).append(record)
    return found


def _whole_lines(folder: Path) -> list[Json]:
    """The lines of logs that are being written."""
    data = [path.read_bytes() for path in folder.glob("**/*.jsonl")]
    return [json.loads(line) for text in data for line in text[: text.rfind(b"\n") + 1].splitlines()]


def _span_ids(posthog: CaptureServer) -> frozenset[str]:
    return frozenset(event["properties"]["$ai_span_id"] for event in posthog.events)


def _ids(calls: tuple[ToolCall, ...]) -> list[str]:
    return [call.id for call in calls]


def _now() -> int:
    return time.time_ns() // 1_000_000
