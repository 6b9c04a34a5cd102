"""Session logs in the shape Claude Code 2.1.329 gives them, written from what shall have happened in them.

What the shapes need is kept true: one line for each block of a message, all of them with the whole message's usage and
readable only when the message is complete; a chain of parents; requests whose hashes rebuild what was sent; ids that
are derived from the session's, so that the same session is the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

__all__ = ["Message", "Step", "Thread", "Transcript"]

_VERSION = "2.1.329"
# US dollars for a million tokens: input, output, cache read, cache write.
_PRICES = {"claude-opus-5-5": (5.0, 25.0, 0.5, 6.25), "claude-haiku-4-5": (1.0, 5.0, 0.1, 1.25)}
_TOOLS = {
    "Agent": {"description": "string", "prompt": "string", "subagent_type": "string", "run_in_background": "boolean"},
    "Bash": {"command": "string", "description": "string"},
    "Edit": {"file_path": "string", "old_string": "string", "new_string": "string", "replace_all": "boolean"},
    "Read": {"file_path": "string"},
}

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One write of the client.

    Attributes:
        delay: seconds to wait before it.
        path: the file, relative to a `projects` folder.
        data: whole lines to append, or the whole content.
        replace: whether *data* replaces the file, to be written beside it and renamed over it.
    """

    delay: float
    path: Path
    data: bytes
    replace: bool = False


class Transcript:
    """A session's log, written second by second.

    Args:
        session_id: the session's id; every other id is derived from it.
        started: second 0.
        cwd: the folder the session seems to run in.
    """

    def __init__(self, session_id: str, started: datetime, cwd: str) -> None:
        self.session_id = session_id
        self.cwd = cwd
        self.steps: list[Step] = []
        self.prompt_id = ""
        self.turns = 0
        self.tool_seconds = 0.0
        self.api_seconds = 0.0
        self.failed_seconds = 0.0
        self.usages: list[tuple[str, _Json]] = []
        self._started = started.astimezone(UTC)
        self._folder = Path(re.sub(r"[^A-Za-z0-9]", "-", cwd))
        self._written_at = 0.0
        self._ids = 0

    def append(self, at: float, path: Path, data: bytes, *, replace: bool = False) -> None:
        """Write *data* at second *at*, after everything written before."""
        delay = round(max(0.0, at - self._written_at), 3)
        self._written_at = round(self._written_at + delay, 3)
        self.steps.append(Step(delay=delay, path=self._folder / path, data=data, replace=replace))

    def time(self, at: float) -> str:
        """Return second *at* as the log writes it."""
        moment = self._started + timedelta(seconds=at)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def uuid(self) -> str:
        """Return the next id."""
        self._ids += 1
        return str(uuid5(NAMESPACE_URL, f"{self.session_id}/{self._ids}"))

    def short_id(self, length: int) -> str:
        """Return the next id as *length* hex digits."""
        return self.uuid().replace("-", "")[:length]

    def cost_state(self, at: float, *, lines_added: int, lines_removed: int) -> _Json:
        """Return the totals the client writes when it exits at second *at*."""
        used = sorted({model for model, _ in self.usages})
        models = {model: _spent(model, [usage for name, usage in self.usages if name == model]) for model in used}
        return {
            "totalCostUSD": round(sum(spent["costUSD"] for spent in models.values()), 7),
            "totalAPIDuration": round(1000 * (self.api_seconds + self.failed_seconds)),
            "totalAPIDurationWithoutRetries": round(1000 * self.api_seconds),
            "totalToolDuration": round(1000 * self.tool_seconds),
            "totalLinesAdded": lines_added,
            "totalLinesRemoved": lines_removed,
            "totalDuration": round(1000 * at),
            "startTime": round(1000 * self._started.timestamp()),
            "modelUsage": models,
            "hasUnknownModelCost": False,
        }


class Thread:
    """The main thread or a subagent: a file, a chain of lines and a chain of requests.

    Args:
        log: the session it belongs to.
        model: what answers its requests.
        agent: a subagent's type; None for the main thread.
        call: the tool_use id of the call that started the subagent.
        description: that call's description.
        parent: the subagent that made the call; None if the main thread did.
    """

    def __init__(
        self,
        log: Transcript,
        *,
        model: str,
        agent: str | None = None,
        call: str = "",
        description: str = "",
        parent: Thread | None = None,
    ) -> None:
        self.log = log
        self.model = model
        self.agent = agent
        self.agent_id = f"a{log.short_id(16)}" if agent else None
        self.leaf: str | None = None
        self.calls: dict[str, tuple[float, str]] = {}
        self.tools_used: list[str] = []
        self.asked_at = self.last_at = self.requested_at = 0.0
        self.last_usage: _Json = {}
        self.request_id: str | None = None
        # Messages the next request adds to those sent before.
        self.unsent: list[_Json] = []
        self._sent: list[str] = []
        self._said = 0
        self._lines: list[_Json] = []
        stem = f"{log.session_id}/subagents/agent-{self.agent_id}" if agent else log.session_id
        self._path = Path(f"{stem}.jsonl")
        self._meta_path = Path(f"{stem}.meta.json")
        self.depth: int = parent.depth + 1 if parent else 1
        self._about = {
            "agentType": agent,
            "isBuiltIn": True,
            "description": description,
            "toolUseId": call,
            **({"parentAgentId": parent.agent_id} if parent else {}),
            "spawnDepth": self.depth,
            "requestShape": "foreground",
            "requestNonInteractive": False,
            "model": model,
            "pickedEffortModel": model,
        }

    def put(self, kind: str, **fields: Any) -> None:
        """Add a line of type *kind* that is no part of the conversation."""
        marked = {"agentId": self.agent_id} if self.agent_id else {}
        self._lines.append({"type": kind, "sessionId": self.log.session_id, **marked, **fields})

    def say(self, at: float, line: _Json) -> str:
        """Add a line of the conversation made at second *at*; return its uuid."""
        own: _Json = {"parentUuid": self.leaf, "isSidechain": self.agent is not None}
        if line["type"] == "user":
            own["promptId"] = self.log.prompt_id
        if self.agent_id:
            own["agentId"] = self.agent_id
        self.leaf = self.log.uuid()
        self.last_at = at
        self._said += 1
        envelope = {
            "uuid": self.leaf,
            "timestamp": self.log.time(at),
            "userType": "external",
            "entrypoint": "cli",
            "cwd": self.log.cwd,
            "sessionId": self.log.session_id,
            "version": _VERSION,
            "gitBranch": "main",
        }
        self._lines.append({**own, **line, **envelope})
        return self.leaf

    def write(self, at: float) -> None:
        """Flush the lines since the last flush at second *at*."""
        data = b"".join(
            json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for line in self._lines
        )
        self._lines.clear()
        self.log.append(at, self._path, data)

    def meta(self, at: float, *, finished: bool = False) -> None:
        """Write the subagent's meta file at second *at*."""
        about = {**self._about, **({"finished": True} if finished else {})}
        data = json.dumps(about, separators=(",", ":")).encode()
        self.log.append(at, self._meta_path, data, replace=True)

    def ask(self, at: float, text: str) -> None:
        """Add a prompt: a person's to the main thread, the calling agent's to a subagent."""
        line: _Json = {"type": "user", "message": {"role": "user", "content": text}}
        if self.agent is None:
            self.log.prompt_id = self.log.uuid()
            self.log.turns += 1
            turn = self.log.turns
            line |= {"permissionMode": "acceptEdits", "origin": {"kind": "human"}, "promptSource": "typed"}
            line |= {"turnOrigin": "human", "turnPosition": {"promptIndex": turn, "turnIndex": turn}}
        self.asked_at = at
        self.say(at, line)
        self.unsent.append({"role": "user", "content": [{"type": "text", "text": text}]})

    def request(self, at: float, *, retry: bool = False) -> None:
        """Add the request that sends what was not sent yet; a retry sends the same again."""
        log = self.log
        shape = self._shape()
        if self.request_id is None:
            stamps = {"timestamp": log.time(at), "version": _VERSION}
            self.put("api-request-shape", shapeHash=_digest(shape), **stamps, shape=shape)
        base = {"base": self.request_id} if self.request_id else {}
        tail = [] if retry else [_digest(message) for message in self.unsent]
        self._sent += tail
        self.unsent.clear()
        self.request_id, self.requested_at = log.uuid(), at
        self.put(
            "api-request",
            id=self.request_id,
            timestamp=log.time(at),
            version=_VERSION,
            querySource=f"agent:builtin:{self.agent}" if self.agent else "repl_main_thread",
            shapeHash=_digest(shape),
            params={
                "model": self.model,
                "betas": ["claude-code-20250219"],
                "max_tokens": 32_000,
                "thinking": {"type": "adaptive"},
                "output_config": {"effort": "medium"},
            },
            **base,
            keep=len(self._sent) - len(tail),
            tail=tail,
            cacheControl=[{"path": ["system", 0], "value": {"type": "ephemeral"}}],
            requestDigest=_digest([_digest(shape), *self._sent]),
        )

    def answer(self, *, fresh: int, read: int, write: int, output: int, thinking: int = 0) -> Message:
        """Begin the API's answer to the last request, with its token counts: input (not cached, cached), output."""
        return Message(self, _usage(fresh, read, write, output, thinking))

    def overloaded(self, at: float, *, wait: float) -> None:
        """Let the last request fail with a 529, to be sent again after *wait* seconds."""
        self.log.failed_seconds += at - self.requested_at
        request_id = f"req_{self.log.short_id(24)}"
        error = {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": request_id,
        }
        self.say(
            at,
            {
                "type": "system",
                "subtype": "api_error",
                "level": "error",
                "error": {
                    "message": f"529 {json.dumps(error, separators=(',', ':'))}",
                    "status": 529,
                    "requestId": request_id,
                    "formatted": "529 Overloaded",
                    "connection": None,
                    "isNetworkDown": False,
                    "rateLimits": None,
                    "noResponse": None,
                },
                "retryInMs": round(1000 * wait),
                "retryAttempt": 1,
                "maxRetries": 10,
                "source": "request_retry",
            },
        )

    def result(self, at: float, call: str, content: Any, tool_use_result: Any, *, error: bool = False) -> None:
        """Add a tool's result; *call* is the tool_use id."""
        called_at, caller = self.calls[call]
        self.log.tool_seconds += at - called_at
        block: _Json = {"tool_use_id": call, "type": "tool_result", "content": content}
        if error or (isinstance(tool_use_result, dict) and "stdout" in tool_use_result):
            block["is_error"] = error
        self.say(
            at,
            {
                "type": "user",
                "message": {"role": "user", "content": [block]},
                "toolUseResult": tool_use_result,
                "sourceToolAssistantUUID": caller,
                "permissionDecision": {"decision": "accept", "source": "config", "reasonType": "mode"},
                "session_id": self.log.session_id,
            },
        )
        # The results of one message's calls go out as one message.
        if self.unsent and self.unsent[-1]["role"] == "user":
            self.unsent[-1]["content"].append(block)
        else:
            self.unsent.append({"role": "user", "content": [block]})

    def report(self, at: float, call: str, agent: Thread, prompt: str, answer: str) -> None:
        """Add the report of the subagent that *call* started."""
        counts = agent.last_usage
        total = sum(counts[key] for key in counts if key.endswith("_tokens"))
        report = {
            "status": "completed",
            "prompt": prompt,
            "agentId": agent.agent_id,
            "agentType": agent.agent,
            "toolsUsed": agent.tools_used,
            "content": [{"type": "text", "text": answer}],
            "resolvedModel": agent.model,
            "totalDurationMs": round(1000 * (agent.last_at - agent.asked_at)),
            "totalTokens": total,
            "totalToolUseCount": len(agent.calls),
            "usage": counts,
            "canContinueAgent": True,
        }
        self.result(at, call, [{"type": "text", "text": answer}], report)

    def end_turn(self, at: float) -> None:
        """Add the line that ends a turn."""
        duration = round(1000 * (at - self.asked_at))
        line = {"type": "system", "subtype": "turn_duration", "durationMs": duration, "messageCount": self._said}
        self.say(at, {**line, "isMeta": False})

    def _shape(self) -> _Json:
        """Make up the part of a request that stays the same: system prompt and tools."""
        who = f"the {self.agent} agent" if self.agent else "a coding agent"
        tools = [
            {
                "name": name,
                "description": f"The {name} tool.",
                "input_schema": {"type": "object", "properties": {key: {"type": kind} for key, kind in fields.items()}},
            }
            for name, fields in _TOOLS.items()
        ]
        return {"system": [{"type": "text", "text": f"You are {who} in a sample log."}], "tools": tools}


class Message:
    """One API response: a line for each block, all of which carry the whole message's usage."""

    def __init__(self, thread: Thread, usage: _Json) -> None:
        log = thread.log
        self.thread = thread
        self.usage = usage
        self.id = f"msg_{log.short_id(24)}"
        self.request_id = f"req_{log.short_id(24)}"
        self.blocks: list[_Json] = []
        self._lines: list[_Json] = []

    def think(self, at: float, text: str) -> None:
        """Add a thinking block, complete at second *at*."""
        signature = hashlib.sha256(f"{self.id}{text}".encode()).hexdigest()
        timing = {"thinkingDurationMs": round(1000 * (at - self.thread.requested_at) / 2)}
        self._add(at, {"type": "thinking", "thinking": text, "signature": signature}, timing)

    def say(self, at: float, text: str) -> None:
        """Add a text block, complete at second *at*."""
        self._add(at, {"type": "text", "text": text}, {})

    def call(self, at: float, tool: str, **arguments: Any) -> str:
        """Add a tool call; return its id."""
        call = f"toolu_{self.thread.log.short_id(24)}"
        block = {"type": "tool_use", "id": call, "name": tool, "input": arguments}
        line = self._add(at, block, {"toolInputStreamMs": 40})
        self.thread.calls[call] = (at, line)
        if tool not in self.thread.tools_used:
            self.thread.tools_used.append(tool)
        return call

    def end(self, stop_reason: str) -> None:
        """Complete the message: only now is its stop reason known, and only now are its lines written."""
        for line in self._lines:
            line["stop_reason"] = stop_reason
        thread = self.thread
        thread.log.usages.append((thread.model, self.usage))
        thread.log.api_seconds += thread.last_at - thread.requested_at
        thread.last_usage = self.usage
        # Results that came while the message still streamed answer it.
        thread.unsent.insert(0, {"role": "assistant", "content": self.blocks})

    def _add(self, at: float, block: _Json, timing: _Json) -> str:
        thread, log = self.thread, self.thread.log
        message = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": thread.model,
            "content": [block],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage,
            "stop_details": None,
        }
        line = {
            "message": message,
            **timing,
            "apiBlockIndex": len(self.blocks),
            "requestId": self.request_id,
            "requestRef": thread.request_id,
            "requestedModel": thread.model,
            "promptCacheRequested": "5m",
            **({"attributionAgent": thread.agent} if thread.agent else {}),
            "type": "assistant",
            "effort": "medium",
            "perTurnEffort": "medium",
            "madeBy": "model",
            "session_id": log.session_id,
        }
        self.blocks.append(block)
        self._lines.append(message)
        return thread.say(at, line)


def _usage(fresh: int, read: int, write: int, output: int, thinking: int) -> _Json:
    return {
        "input_tokens": fresh,
        "cache_creation_input_tokens": write,
        "cache_read_input_tokens": read,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": thinking},
        "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        "service_tier": "standard",
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": write},
        "inference_geo": "not_available",
        "iterations": [],
        "speed": "standard",
        "fallback_credit": None,
    }


def _spent(model: str, usages: Sequence[_Json]) -> _Json:
    """Sum up what the client says about one model at the end of a log."""
    counts = {
        "inputTokens": sum(usage["input_tokens"] for usage in usages),
        "outputTokens": sum(usage["output_tokens"] for usage in usages),
        "thinkingTokens": sum(usage["output_tokens_details"]["thinking_tokens"] for usage in usages),
        "cacheReadInputTokens": sum(usage["cache_read_input_tokens"] for usage in usages),
        "cacheCreationInputTokens": sum(usage["cache_creation_input_tokens"] for usage in usages),
    }
    written = counts["cacheCreationInputTokens"]
    billed = (counts["inputTokens"], counts["outputTokens"], counts["cacheReadInputTokens"], written)
    cost = sum(count * price for count, price in zip(billed, _PRICES[model], strict=True)) / 1_000_000
    return {
        **counts,
        "cacheCreationEphemeral5mInputTokens": written,
        "cacheCreationEphemeral1hInputTokens": 0,
        "webSearchRequests": 0,
        "costUSD": round(cost, 7),
    }


def _digest(value: object) -> str:
    """Hash *value* the way the client hashes the messages of a request."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
