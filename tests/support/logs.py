"""Session logs in the shapes the client writes them, made up here: ids, times and contents follow from the calls alone.

    log = LogBuilder()
    log.prompt("Count the apple trees")
    log.answer(text("I will look."), tool_use("Bash", {"command": "ls trees"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada\nbob")
    log.answer(text("Two."))
    log.write(config / "projects")

Each method that writes something appends whole lines, as the client does. A line is a tenth of a second later than the
one before; `wait` adds more time. The builder knows what each version of the client writes, and where. So one sequence
of calls gives a log of any version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

from tests.support.requests import Requests

__all__ = [
    "AgentLog",
    "Answer",
    "LogBuilder",
    "Transcript",
    "image",
    "project_folder",
    "redacted_thinking",
    "text",
    "thinking",
    "tool_use",
    "usage",
    "write_files",
]

SESSION = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
MODEL = "claude-opus-5-5"
VERSION = "2.1.329"
START = "2026-03-02T09:00:00.000Z"

_NAMESPACE = UUID("7d1f0f62-5d2a-4f0a-8f6e-2b9f0f0d7c11")
_STEP = timedelta(milliseconds=100)

Json = dict[str, Any]


def text(words: str) -> Json:
    """Return a text block."""
    return {"type": "text", "text": words}


def thinking(words: str, *, signature: str = "c2lnbmF0dXJl") -> Json:
    """Return a thinking block."""
    return {"type": "thinking", "thinking": words, "signature": signature}


def redacted_thinking() -> Json:
    """Return a thinking block that only the provider can read."""
    return {"type": "redacted_thinking", "data": "b3BhcXVl"}


def image(data: str = "iVBORw0KGgo=", *, media_type: str = "image/png") -> Json:
    """Return an image block; *data* is base64."""
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def tool_use(name: str, arguments: Any = None, *, id: str) -> Json:  # noqa: A002 - the provider's word
    """Return a block that calls a tool."""
    return {"type": "tool_use", "id": id, "name": name, "input": {} if arguments is None else arguments}


def usage(
    input_tokens: int = 10,
    output_tokens: int = 50,
    *,
    cache_read: int = 1000,
    cache_5m: int = 200,
    cache_1h: int = 100,
    **more: Any,
) -> Json:
    """Return the usage object of one API response.

    Args:
        more: further keys, as the provider names them; they replace the ones made here.
    """
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": cache_5m + cache_1h,
        "cache_read_input_tokens": cache_read,
        "output_tokens": output_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": cache_5m, "ephemeral_1h_input_tokens": cache_1h},
        "service_tier": "standard",
        **more,
    }


def project_folder(cwd: str) -> str:
    """Return the name of the folder in which the logs of sessions started in *cwd* stand."""
    return "".join(letter if letter.isalnum() else "-" for letter in cwd)


def write_files(projects: Path, files: Mapping[str, bytes]) -> None:
    """Write *files*, named relative to the `projects` folder."""
    for name, data in files.items():
        path = projects / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@cache
def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@dataclass(slots=True)
class _Writer:
    """What the main file and the agents' files of one session share."""

    session: str
    version: str
    cwd: str
    branch: str
    entrypoint: str
    now: datetime
    counts: dict[str, int] = field(default_factory=dict)
    prompt_id: str | None = None
    requests: bool = False

    def since(self, version: str) -> bool:
        """Whether the client is at least this old."""
        return _numbers(self.version) >= _numbers(version)

    def uuid(self, kind: str) -> str:
        self.counts[kind] = number = self.counts.get(kind, 0) + 1
        return str(uuid5(_NAMESPACE, f"{self.session}/{kind}/{number}"))

    def short(self, prefix: str, kind: str, length: int = 16) -> str:
        return prefix + self.uuid(kind).replace("-", "")[:length]

    def tick(self) -> str:
        """Return the time of the next line."""
        self.now += _STEP
        return f"{self.now:%Y-%m-%dT%H:%M:%S}.{self.now.microsecond // 1000:03d}Z"


class Transcript:
    """One thread of a session: what is written to it, line by line.

    Attributes:
        lines: the lines written so far, not yet encoded; tests may change them.
    """

    def __init__(self, writer: _Writer, lines: list[Json | bytes], *, agent: str | None, sidechain: bool) -> None:
        self._writer = writer
        self._agent = agent
        self._sidechain = sidechain
        self._parent: str | None = None
        self._asked: str | None = None
        self._agent_type: str | None = None
        self._requests = Requests()
        self.lines = lines

    # ------------------------------------------------------------------ time and raw lines

    def wait(self, seconds: float) -> None:
        """Let time pass before the next line."""
        self._writer.now += timedelta(seconds=seconds)

    def raw(self, line: Json | bytes) -> None:
        """Append a line as it is; bytes stand without their line end."""
        self.lines.append(line)

    def line(self, number: int = -1) -> Json:
        """Return one of the lines written so far, the last one if not told otherwise."""
        line = self.lines[number]
        assert isinstance(line, dict)
        return line

    # ------------------------------------------------------------------ what a person does

    def prompt(self, content: str | Sequence[Json], *, id: str | None = None, **more: Any) -> str:  # noqa: A002
        """Type a prompt; returns its prompt id, or the line's uuid where the client writes no prompt ids."""
        writer = self._writer
        writer.prompt_id = id or writer.uuid("prompt")
        line = self._line("user", message={"role": "user", "content": content})
        if writer.since("2.1.25"):
            line["permissionMode"] = "default"
        if writer.since("2.1.200"):
            line |= {"promptSource": "typed", "origin": {"kind": "human"}}
        self._append(line, more)
        return writer.prompt_id if writer.since("2.1.100") else str(line["uuid"])

    def queued_prompt(self, content: str) -> None:
        """Type a prompt while the model works: it joins the running turn at the next tool result."""
        attachment = {"type": "queued_command", "prompt": content, "humanTurn": True, "origin": {"kind": "human"}}
        self._append(self._line("attachment", attachment=attachment), {})

    def command(
        self, name: str, arguments: str = "", *, expansion: str | None = None, output: str | None = None
    ) -> str:
        """Run a slash command; returns its prompt id.

        Args:
            name: with its slash.
            arguments: what was typed behind it.
            expansion: the text the model is given for it, of a custom command.
            output: what it printed, of a local command.
        """
        words = f"<command-name>{name}</command-name>\n<command-message>{name[1:]}</command-message>"
        words += f"\n<command-args>{arguments}</command-args>"
        prompt = self.prompt(words)
        if expansion is not None:
            self.note(expansion)
        if output is not None:
            printed = _user(f"<local-command-stdout>{output}</local-command-stdout>")
            self._append(self._line("user", message=printed), {})
        return prompt

    def bash(self, command: str, output: str = "") -> str:
        """Run a shell command by hand; returns its prompt id."""
        prompt = self.prompt(f"<bash-input>{command}</bash-input>")
        printed = f"<bash-stdout>{output}</bash-stdout><bash-stderr></bash-stderr>"
        self._append(self._line("user", message=_user(printed)), {})
        return prompt

    def rewind(self, number: int) -> None:
        """Go back to an older line. What comes next is another child of it; its earlier children stay in the log."""
        self._parent = self.line(number)["uuid"]

    def interrupted(self, *, for_tool: bool = False) -> None:
        """Stop the model: the mark that the client leaves."""
        words = "[Request interrupted by user for tool use]" if for_tool else "[Request interrupted by user]"
        self._append(self._line("user", message=_user([text(words)])), {})

    def hook(
        self,
        event: str,
        call: str | None = None,
        *,
        tool: str | None = None,
        seconds: float = 0.005,
        error: str | None = None,
    ) -> None:
        """Note the run of a hook of the user on *event*, for a call of *tool* or for no call."""
        kind = "hook_success" if error is None else "hook_non_blocking_error"
        noted: Json = {"type": kind, "hookName": f"{event}:{tool}" if tool else event, "hookEvent": event}
        noted |= {"toolUseID": call or self._writer.uuid("hook"), "content": "", "stdout": "", "stderr": error or ""}
        noted |= {"exitCode": 0 if error is None else 1, "command": "check", "durationMs": int(seconds * 1000)}
        self._append(self._line("attachment", attachment=noted), {})

    # ------------------------------------------------------------------ what the model is told

    def note(self, words: str) -> None:
        """Add a text of the client's own for the model."""
        self._append(self._line("user", message=_user(words), isMeta=True), {})

    def attachment(self, kind: str, **fields: Any) -> None:
        """Show the model something more; clients before 2.1.100 write no such lines."""
        if self._writer.since("2.1.100"):
            self._append(self._line("attachment", attachment={"type": kind, **fields}), {})

    def task_notification(self, words: str = "<task-id>a1</task-id>\n<status>completed</status>") -> str:
        """Tell the model that a background task ended, which starts a turn; returns its prompt id."""
        wrapped = f"<task-notification>\n{words}\n</task-notification>"
        if not self._writer.since("2.1.200"):
            return self.prompt(wrapped)
        return self.prompt(wrapped, promptSource="system", origin={"kind": "task-notification"})

    def tool_result(
        self,
        call: str,
        content: Any = "done",
        *,
        error: bool = False,
        noted: Any = None,
        decision: str | None = "accept",
        **more: Any,
    ) -> None:
        """Give a call's result.

        Args:
            call: the call's id.
            content: what the model sees.
            error: whether the tool failed.
            noted: what the client notes of the run besides.
            decision: what was decided about the call, `accept` or `reject`.
            more: further keys of the line.
        """
        block: Json = {"tool_use_id": call, "type": "tool_result", "content": content}
        if error:
            block["is_error"] = True
        line = self._line("user", message=_user([block]))
        if noted is not None:
            line["toolUseResult"] = noted
        if decision is not None and self._writer.since("2.1.300"):
            line["permissionDecision"] = {"decision": decision, "source": "config", "reasonType": "mode"}
        self._append(line, more)

    def denied(self, call: str, *, words: str = "The user doesn't want to proceed with this tool use.") -> None:
        """Refuse a call before it runs."""
        more: Json = {"toolDenialKind": "user-rejected"} if self._writer.since("2.1.200") else {}
        if self._writer.since("2.1.329"):
            more["toolDenialBeforeRun"] = True
        noted = "User rejected tool use"
        self.tool_result(call, words, error=True, noted=noted, decision="reject", **more)

    # ------------------------------------------------------------------ what the API answers

    def api_request(self, *, model: str = MODEL, **params: Any) -> str | None:
        """Start an attempt at an API call; returns its id, None where the client writes no such lines."""
        if not self._writer.since("2.1.300"):
            return None
        self._asked = self._writer.uuid("request")
        asked: Json = {"model": model, "max_tokens": 32000, "thinking": {"type": "adaptive"}}
        asked |= {"output_config": {"effort": "medium"}, **params}
        line: Json = {"type": "api-request", "sessionId": self._writer.session, "id": self._asked}
        line |= {"timestamp": self._writer.tick(), "version": self._writer.version, "params": asked}
        if self._agent is not None:
            line["agentId"] = self._agent
        if self._writer.requests:
            stamps: Json = {key: line[key] for key in ("sessionId", "agentId") if key in line}
            self.lines += self._requests.lines(self.lines, line, stamps)
        else:
            self.lines.append(line)
        return self._asked

    def message(
        self,
        *,
        stop_reason: str | None = "end_turn",
        counts: Json | None = None,
        model: str = MODEL,
        id: str | None = None,  # noqa: A002
        cut: bool = False,
        aborted: bool = False,
        **more: Any,
    ) -> Answer:
        """Begin an API response whose blocks are added one by one, so that other lines can stand between them.

        Args:
            stop_reason: the provider's; None for a response whose end was never seen.
            counts: its usage, see `usage`.
            model: the model that answers.
            id: its id.
            cut: whether the stream broke off: the client makes up a stop reason and knows only the first counts.
            aborted: whether the user stopped it.
            more: further keys of every line.
        """
        if self._asked is None:
            self.api_request(model=model)
        asked, self._asked = self._asked, None
        return Answer(
            self,
            id=id or self._writer.short("msg_01", "message"),
            model=model,
            stop_reason=None if aborted else stop_reason,
            counts=counts or usage(),
            request=asked,
            cut=cut,
            aborted=aborted,
            more=more,
        )

    def answer(self, *blocks: Json, stop_reason: str | None = None, **settings: Any) -> str:
        """Answer with *blocks*, one line for each; returns the message's id.

        Args:
            blocks: see `text`, `thinking` and `tool_use`.
            stop_reason: made from the blocks where it is not given.
            settings: see `message`.
        """
        calls = any(block["type"] == "tool_use" for block in blocks)
        answer = self.message(stop_reason=stop_reason or ("tool_use" if calls else "end_turn"), **settings)
        for number, block in enumerate(blocks, start=1):
            answer.add(block, last=number == len(blocks))
        return answer.id

    def progress(self, message: Json) -> None:
        """Note a subagent's last message in full; only clients from 2.1.9 to 2.1.81 do."""
        if not self._writer.since("2.1.9") or self._writer.since("2.1.82"):
            return
        data = {"type": "agent_progress", "message": {"type": "assistant", "message": message}}
        self._append(self._line("progress", data=data), {})

    def system(self, subtype: str, **fields: Any) -> None:
        """Note something about the session."""
        self._append(self._line("system", subtype=subtype, **fields), {})

    def api_error(
        self,
        status: int = 529,
        kind: str = "overloaded_error",
        *,
        words: str = "Overloaded",
        attempt: int = 1,
    ) -> None:
        """Note a failed attempt that will be repeated; before 2.1.300 the client writes nothing about it."""
        if not self._writer.since("2.1.300"):
            return
        body = {"type": "error", "error": {"type": kind, "message": words}}
        error = {"status": status, "message": f"{status} {json.dumps(body)}", "formatted": f"{status} {words}"}
        self._append(self._line("system", subtype="api_error", error=error, retryAttempt=attempt, maxRetries=10), {})
        self._asked = None

    def permanent_error(
        self,
        words: str = "API Error: 400 messages.0: too many trees",
        *,
        status: int | None = 400,
        kind: str | None = "invalid_request_error",
    ) -> None:
        """Give up on a request: the line that stands for the answer."""
        zero = usage(0, 0, cache_read=0, cache_5m=0, cache_1h=0)
        message: Json = {"id": self._writer.uuid("synthetic"), "type": "message", "role": "assistant"}
        message |= {"model": "<synthetic>", "content": [text(words)], "stop_reason": "stop_sequence", "usage": zero}
        more: Json = {"error": "unknown", "apiErrorStatus": status, "apiErrorType": kind}
        line = self._line("assistant", message=message, isApiErrorMessage=True)
        self._append(line, more if self._writer.since("2.1.329") else {})
        self._asked = None

    def no_response(self) -> None:
        """Write the line of a request that got neither an answer nor an error."""
        message: Json = {"id": self._writer.uuid("synthetic"), "type": "message", "role": "assistant"}
        message |= {"model": "<synthetic>", "content": [text("No response requested.")], "usage": usage(0, 0)}
        self._append(self._line("assistant", message=message, isApiErrorMessage=False), {})

    def agent_result(self, call: str, agent: AgentLog, words: str, *, background: bool = False) -> None:
        """Give an agent's call its result: the agent's report, or a note that it runs in the background."""
        if background:
            noted: Json = {"isAsync": True, "status": "async_launched", "agentId": agent.id}
            self.tool_result(call, [text("Async agent launched successfully.")], noted=noted)
        else:
            agent.finish()
            noted = {"status": "completed", "agentId": agent.id, "totalTokens": 1}
            self.tool_result(call, [text(words)], noted=noted)

    # ------------------------------------------------------------------ lines

    def _line(self, kind: str, **fields: Any) -> Json:
        writer = self._writer
        line: Json = {"parentUuid": self._parent, "isSidechain": self._sidechain, "type": kind, **fields}
        if kind == "user" and writer.prompt_id is not None and writer.since("2.1.100"):
            line["promptId"] = writer.prompt_id
        if self._agent is not None and writer.since("2.0.76"):
            line["agentId"] = self._agent
        line |= {"uuid": writer.uuid("line"), "timestamp": writer.tick(), "userType": "external"}
        if writer.since("2.1.100"):
            line["entrypoint"] = writer.entrypoint
        return line | {
            "cwd": writer.cwd,
            "sessionId": writer.session,
            "version": writer.version,
            "gitBranch": writer.branch,
        }

    def _append(self, line: Json, more: Mapping[str, Any]) -> None:
        line |= more
        self.lines.append(line)
        self._parent = line["uuid"]

    def _append_block(self, message: Json, more: Mapping[str, Any]) -> None:
        line = self._line("assistant", message=message)
        if self._agent_type is not None and self._writer.since("2.1.150"):
            line["attributionAgent"] = self._agent_type
        self._append(line, more)

    @property
    def _known_at_end(self) -> bool:
        """Whether lines are held back until the response's last counts are known."""
        return self._writer.since("2.1.329" if self._agent is not None else "2.1.92")


class Answer:
    """An API response while it is written.

    Attributes:
        id: the message's id.
    """

    def __init__(
        self,
        transcript: Transcript,
        *,
        id: str,  # noqa: A002
        model: str,
        stop_reason: str | None,
        counts: Json,
        request: str | None,
        cut: bool,
        aborted: bool,
        more: Json,
    ) -> None:
        self.id = id
        self._transcript = transcript
        self._model = model
        self._stop_reason = stop_reason
        self._counts = counts
        self._request = request
        self._cut = cut
        self._aborted = aborted
        self._more = more
        self._index = 0

    def add(self, *blocks: Json, last: bool = False, late: bool = False, **more: Any) -> None:
        """Write one line, with one block as the client does, or with several.

        Args:
            blocks: the line's blocks.
            last: whether no further line follows; versions that write while the response streams know its counts
                and its stop reason only then.
            late: whether the client wrote the line only after the response's end, as a busy one does.
            more: further keys of the line.
        """
        writer = self._transcript._writer
        known = last or self._transcript._known_at_end
        if not writer.since("2.1.59"):
            # The oldest clients hardly ever wait for the end.
            known = False
        known = known or late
        cut, aborted = self._cut, self._aborted
        counts = self._counts if known and not (cut or aborted) else self._counts | {"output_tokens": 3}
        message: Json = {"id": self.id, "type": "message", "role": "assistant", "model": self._model}
        message |= {"content": list(blocks), "stop_reason": None, "stop_sequence": None, "usage": counts}
        if known and not aborted:
            message["stop_reason"] = self._stop_reason
            if cut:
                message["stop_reason"] = "end_turn" if writer.since("2.1.200") else None
            elif writer.since("2.1.150"):
                message["stop_details"] = None
        fields: Json = {"requestId": f"req_{self.id[4:]}"}
        if self._request is not None:
            fields |= {"requestRef": self._request, "apiBlockIndex": self._index}
        if writer.since("2.1.250"):
            fields["effort"] = "medium"
        if aborted and writer.since("2.1.329"):
            fields["isAbortedMidStream"] = True
        self._index += len(blocks)
        self._transcript._append_block(message, fields | self._more | more)


class AgentLog(Transcript):
    """One subagent's thread.

    Attributes:
        id: the agent's id.
    """

    def __init__(self, session: LogBuilder, lines: list[Json | bytes], *, id: str, kind: str) -> None:  # noqa: A002
        super().__init__(session._writer, lines, agent=id, sidechain=True)
        self.id = id
        self._session = session
        self._agent_type = kind

    def agent(
        self,
        call: str,
        prompt: str,
        *,
        type: str = "general-purpose",  # noqa: A002
        meta: bool = True,
        id: str | None = None,  # noqa: A002
    ) -> AgentLog:
        """Start a subagent of this one; see `LogBuilder.agent`."""
        return self._session._start_agent(call, prompt, kind=type, meta=meta, id=id, parent=self.id)

    def finish(self) -> None:
        """End the agent: its meta file says so from 2.1.329 on. Its call's result is the parent's to write."""
        if self._writer.since("2.1.329") and self.id in self._session.metas:
            self._session.metas[self.id]["finished"] = True


class LogBuilder(Transcript):
    """One session: its main log, and the logs and meta files of its subagents.

    Args:
        session: the session's id.
        version: the client's version.
        cwd: the folder the session was started in.
        start: time of the start, ISO 8601.
        branch: the git branch; HEAD is what the client writes where there is none.
        entrypoint: how the client was started.
        requests: whether the requests can be rebuilt, as in every real log since 2.1.300; most bytes of it serve that.

    Attributes:
        session: the session's id.
        version: the client's version.
        metas: contents of the meta files, by agent id; tests may change them.
    """

    def __init__(
        self,
        session: str = SESSION,
        *,
        version: str = VERSION,
        cwd: str = "/home/ada/orchard",
        start: str = START,
        branch: str = "main",
        entrypoint: str = "cli",
        requests: bool = False,
    ) -> None:
        now = datetime.fromisoformat(start)
        writer = _Writer(
            session=session,
            version=version,
            cwd=cwd,
            branch=branch,
            entrypoint=entrypoint,
            now=now,
            requests=requests,
        )
        super().__init__(writer, [], agent=None, sidechain=False)
        self.session = session
        self.version = version
        self.metas: dict[str, Json] = {}
        self._started_in = cwd
        self._folder = project_folder(cwd)
        self._agents: dict[str, AgentLog] = {}
        self._places: dict[str, str] = {}

    # ------------------------------------------------------------------ where its files are

    @property
    def path(self) -> str:
        """The main log, relative to the `projects` folder."""
        return f"{self._folder}/{self.session}.jsonl"

    def agent_path(self, agent: str) -> str:
        """An agent's log, relative to the `projects` folder."""
        if agent in self._places:
            return self._places[agent]
        if self._writer.since("2.1.25"):
            return f"{self._folder}/{self.session}/subagents/agent-{agent}.jsonl"
        return f"{self._folder}/agent-{agent}.jsonl" if self._writer.since("2.0.76") else self.path

    def meta_path(self, agent: str) -> str:
        """An agent's meta file, relative to the `projects` folder."""
        return f"{self._folder}/{self.session}/subagents/agent-{agent}.meta.json"

    def files(self) -> dict[str, bytes]:
        """Return every file's bytes by its path relative to the `projects` folder, main log first."""
        files = {self.path: _encode(self.lines)}
        for agent, log in self._agents.items():
            if agent in self.metas:
                files[self.meta_path(agent)] = json.dumps(self.metas[agent], separators=(",", ":")).encode()
            if self._writer.since("2.0.76"):
                files[self.agent_path(agent)] = _encode(log.lines)
        return files

    def write(self, projects: Path) -> None:
        """Write every file below the `projects` folder, over what stands there."""
        write_files(projects, self.files())

    # ------------------------------------------------------------------ what only a session has

    def agent(
        self,
        call: str,
        prompt: str,
        *,
        type: str = "general-purpose",  # noqa: A002
        meta: bool = True,
        id: str | None = None,  # noqa: A002
    ) -> AgentLog:
        """Start the subagent that *call* asked for; its file stands where this version puts it.

        Args:
            call: id of the Agent or Task call.
            prompt: what the agent is told.
            type: the kind of agent.
            meta: whether it has a meta file, where the version writes one.
            id: the agent's id.
        """
        return self._start_agent(call, prompt, kind=type, meta=meta, id=id, parent=None)

    def place(self, agent: AgentLog, path: str) -> None:
        """Let an agent's log be at *path*, relative to the `projects` folder."""
        self._places[agent.id] = path

    def cd(self, cwd: str, *, branch: str | None = None) -> None:
        """Go to another folder; the log stays where it is."""
        self._writer.cwd = cwd
        self._writer.branch = branch or self._writer.branch

    def update(self, version: str) -> None:
        """Resume the session with another version of the client, which writes what follows."""
        self._writer.version = version

    def warm_up(self) -> AgentLog:
        """Start the agent that no call asked for; clients of 2.0.76 to 2.1.1 start two with every session."""
        return self._start_agent(None, "Warmup", kind="warm-up", meta=False, id=None, parent=None)

    def compaction(self, summary: str = "They counted apple trees.", *, trigger: str = "auto", **metadata: Any) -> None:
        """Replace the conversation by a summary."""
        noted = {"trigger": trigger, "preTokens": 150000, "postTokens": 3000, "durationMs": 1500, **metadata}
        line = self._line("system", subtype="compact_boundary", compactMetadata=noted, logicalParentUuid=self._parent)
        self._append(line, {"parentUuid": None})
        note = self._line("user", message=_user(summary), isCompactSummary=True, isVisibleInTranscriptOnly=True)
        self._append(note, {})

    def turn_duration(self, *, pending_agents: int | None = None) -> None:
        """Note the end of a turn."""
        pending = {} if pending_agents is None else {"pendingBackgroundAgentCount": pending_agents}
        self.system("turn_duration", durationMs=1000, **pending)

    def title(self, words: str, *, kind: Literal["ai-title", "custom-title", "summary"] = "ai-title") -> None:
        """Name the session."""
        key = {"ai-title": "aiTitle", "custom-title": "customTitle", "summary": "summary"}[kind]
        session = {} if kind == "summary" else {"sessionId": self.session}
        self.lines.append({"type": kind, key: words, **session})

    def cost_state(
        self,
        cost: float = 0.125,
        *,
        added: int = 12,
        removed: int = 3,
        models: Mapping[str, Sequence[int]] | None = None,
        more: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """Write the client's own totals.

        Args:
            cost: dollars.
            added: lines of code.
            removed: lines of code.
            models: input, output, cache read and cache creation tokens by model.
            more: what else the client tells of a model, by its names.
        """
        totals: Json = {"totalCostUSD": cost, "totalLinesAdded": added, "totalLinesRemoved": removed}
        keys = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
        if models is not None:
            totals["modelUsage"] = {
                model: dict(zip(keys, counts, strict=True)) | dict((more or {}).get(model, {}))
                for model, counts in models.items()
            }
        self.lines.append({"type": "cost-state", "sessionId": self.session, **totals})

    def queue(self, operation: str, content: str = "") -> None:
        """Note what happened to a prompt that waits for the model."""
        line: Json = {"type": "queue-operation", "operation": operation, "timestamp": self._writer.tick()}
        self.lines.append(line | {"sessionId": self.session, "content": content})

    def clear(self, session: str) -> LogBuilder:
        """Start a new session in the same process, which nothing of this one is copied into."""
        new = self._successor(session, wait=1)
        new.note("<local-command-caveat>Caveat: these messages were made by the user.</local-command-caveat>")
        new.command("/clear", output="")
        return new

    def continued(self, session: str, *, wait: float = 60.0) -> LogBuilder:
        """Start another session with every line of this one as it is, as some clients before 2.1.25 resume one."""
        new = self._successor(session, wait=wait)
        new.lines += self.lines
        new._parent = self._parent
        return new

    @contextmanager
    def in_the_log_of(self, host: LogBuilder) -> Iterator[None]:
        """Go on in another session's log: the client had that one open when its user resumed this session."""
        own, self.lines = self.lines, host.lines
        self.go_on_after(host)
        try:
            yield
        finally:
            self.lines = own
            host._writer.now = self._writer.now

    def go_on_after(self, other: LogBuilder) -> None:
        """Let what follows be written after everything of another session. A line with a time says so."""
        self._writer.now = other._writer.now = max(self._writer.now, other._writer.now)
        self.raw(
            {
                "type": "queue-operation",
                "operation": "enqueue",
                "timestamp": self._writer.tick(),
                "sessionId": self.session,
            }
        )

    def _successor(self, session: str, *, wait: float) -> LogBuilder:
        writer = self._writer
        return LogBuilder(
            session,
            version=writer.version,
            cwd=self._started_in,
            start=(writer.now + timedelta(seconds=wait)).isoformat(),
            branch=writer.branch,
            entrypoint=writer.entrypoint,
            requests=writer.requests,
        )

    def fork(self, session: str, *, branch: bool = False, wait: float = 60.0) -> LogBuilder:
        """Start another session with a copy of this one, as this version's `--fork-session` does, or `/branch`."""
        writer = self._writer
        copy = self._successor(session, wait=wait)
        if writer.since("2.0.76") and not branch:
            # The fork's own first line: its time is later than those of the lines copied behind it.
            copy.raw({"type": "queue-operation", "operation": "enqueue", "timestamp": copy._writer.tick()})
        prompts: dict[str, str] = {}
        for line in self.lines:
            if isinstance(line, dict) and line.get("type") in ("user", "assistant", "attachment"):
                copy.lines.append(self._copied(line, copy, prompts, branch=branch))
                copy._parent = line["uuid"]
        return copy

    def copied_with_new_ids(self, session: str) -> dict[str, bytes]:
        """Return the main log as 2.1.45 copied some: every line has a new uuid, every message the uuid of its line."""
        lines: list[Json] = []
        for number, line in enumerate(line for line in self.lines if not isinstance(line, bytes)):
            uuid = f"c0000000-0000-4000-8000-{number:012}"
            copy = {**line, "sessionId": session, "uuid": uuid, "parentUuid": lines[-1]["uuid"] if lines else None}
            copy.pop("promptId", None)
            if copy["type"] == "assistant":
                copy["message"] = {**copy["message"], "id": uuid}
            lines.append(copy)
        return {self.path.replace(self.session, session): _encode(lines)}

    def _copied(self, line: Json, copy: LogBuilder, prompts: dict[str, str], *, branch: bool) -> Json:
        writer = self._writer
        copied = dict(line)
        if writer.since("2.1.50"):
            old_session_stays = not writer.since("2.1.100")
        else:
            old_session_stays = writer.since("2.0.76") and copy._parent is None
        if not old_session_stays:
            copied["sessionId"] = copy.session
        if not writer.since("2.0.76"):
            copied["timestamp"] = copy._writer.tick()
        if "promptId" in line and writer.since("2.1.300"):
            copied["promptId"] = prompts.setdefault(line["promptId"], copy._writer.uuid("prompt"))
        if line["type"] == "assistant" and writer.since("2.1.329"):
            copied["requestSessionId"] = self.session
        if branch and writer.since("2.1.329"):
            copied["forkedFrom"] = {"sessionId": self.session, "messageUuid": line["uuid"]}
        return copied

    def _start_agent(
        self,
        call: str | None,
        prompt: str,
        *,
        kind: str,
        meta: bool,
        id: str | None,  # noqa: A002
        parent: str | None,
    ) -> AgentLog:
        writer = self._writer
        agent = id or writer.short("a", "agent", 16 if writer.since("2.1.25") else 6)
        lines = self.lines if not writer.since("2.0.76") else []
        log = self._agents[agent] = AgentLog(self, lines, id=agent, kind=kind)
        self._places[agent] = self.agent_path(agent)
        if meta and writer.since("2.1.72"):
            known: Json = {"agentType": kind}
            if writer.since("2.1.100"):
                known["description"] = "A helper"
            if writer.since("2.1.150"):
                known["toolUseId"] = call
            if writer.since("2.1.329") and parent is not None:
                known["parentAgentId"] = parent
            self.metas[agent] = known
        log._append(log._line("user", message=_user(prompt)), {})
        return log


def _user(content: Any) -> Json:
    return {"role": "user", "content": content}


def _encode(lines: Sequence[Json | bytes]) -> bytes:
    encoded = (
        line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()
        for line in lines
    )
    return b"".join(line + b"\n" for line in encoded)
