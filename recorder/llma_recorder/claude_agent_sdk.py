"""Records what only the caller of the Claude Agent SDK knows of a session.

    from llma_recorder.claude_agent_sdk import query

    async for message in query(prompt="Review it", distinct_id="review-bot", properties={"pull_request": 52984}):
        ...

The session itself, with its subagents and tools, is in the log that Claude Code writes, and the daemon delivers it from
there. So nothing is counted twice: one line says whose the session is as soon as it has an id, and one at the end of
each turn says what it took. The daemon applies both to the session's own events.

Messages are told apart by what they have, so any version of the SDK does, and only `query` imports it. The extra
`claude-agent-sdk` names the versions that this was made with.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from llma_recorder import attribution
from llma_recorder.identifiers import moment, uuid7
from llma_recorder.outbox import outbox
from llma_recorder.values import count, member, number, text

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, Message

__all__ = ["query", "track"]

_AGENT = "claude-code"
_SUCCESS = "success"
_ERROR = "error"
_Client = TypeVar("_Client")


def query(
    *,
    prompt: Any,
    options: ClaudeAgentOptions | None = None,
    distinct_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
    groups: Mapping[str, str] | None = None,
    privacy_mode: bool = False,
    trace_name: str | None = None,
    **more: Any,
) -> AsyncIterator[Message]:
    """Run `claude_agent_sdk.query`, and yield its messages as they are.

    Nothing that is recorded, or cannot be, disturbs the query. The SDK's own errors reach the caller.

    Args:
        prompt: the SDK's: a text, or an asynchronous iterable of messages.
        options: the SDK's.
        distinct_id: the user in PostHog that the session belongs to.
        properties: properties of every event of the session.
        groups: group keys by group type.
        privacy_mode: whether the session's content stays out of PostHog.
        trace_name: the name of the session's trace.
        more: further arguments of the SDK's `query`, such as transport.
    """
    from claude_agent_sdk import query as run  # noqa: PLC0415 -- only who calls this has to have it

    session = _Caller(distinct_id, properties, groups, privacy_mode, trace_name)
    return session.watch(run(prompt=prompt, options=options, **more))


def track(
    client: _Client,
    *,
    distinct_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
    groups: Mapping[str, str] | None = None,
    privacy_mode: bool = False,
    trace_name: str | None = None,
) -> _Client:
    """Return a client of the SDK, the same object, whose sessions are recorded while their messages are received.

    Its `receive_messages` and `receive_response` yield what they did before.

    Args:
        client: a `ClaudeSDKClient`, connected or not.
        distinct_id: the user in PostHog that its sessions belong to.
        properties: properties of every event of its sessions.
        groups: group keys by group type.
        privacy_mode: whether the content of its sessions stays out of PostHog.
        trace_name: the name of the sessions' traces.
    """
    session = _Caller(distinct_id, properties, groups, privacy_mode, trace_name)
    for name in ("receive_messages", "receive_response"):
        with contextlib.suppress(Exception):  # what has no such method is returned as it is
            setattr(client, name, session.watching(getattr(client, name)))
    return client


class _Caller:
    """Writes what the caller knows of its sessions. Each message counts once, however often it is seen."""

    def __init__(self, distinct_id: Any, properties: Any, groups: Any, privacy_mode: Any, trace_name: Any) -> None:
        self._is_private = attribution.is_on(privacy_mode)
        self._known: dict[str, Any] = {}
        with contextlib.suppress(Exception):
            known = {
                "distinct_id": text(distinct_id),
                "properties": attribution.mapping(properties) or None,
                "groups": attribution.groups(groups),
                "name": text(trace_name),
            }
            self._known = {name: fact for name, fact in known.items() if fact is not None}
        self._session: str | None = None
        self._turns = 0
        self._seen: Any = None
        self._is_running = False

    def watching(self, receive: Any) -> Any:
        """Return the method of a client that watches what *receive* yields."""

        def run(*arguments: Any, **more: Any) -> AsyncIterator[Any]:
            return self.watch(receive(*arguments, **more))

        return run

    async def watch(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Yield messages as they are, and record what they say."""
        try:
            async for message in messages:
                self._see(message)
                yield message
        except Exception:
            self._break_off()
            raise
        finally:
            # A caller that has seen enough ends the SDK's iterator, too, as it would without this one around it.
            close = member(messages, "aclose")
            if close is not None:
                await close()

    def _see(self, message: Any) -> None:
        try:
            if message is self._seen:
                return
            self._seen = message
            subtype = text(member(message, "subtype"))
            if subtype == "init":
                self._begin(text(member(member(message, "data"), "session_id")))
            elif subtype is not None and count(member(message, "num_turns")) is not None:
                self._end(message, subtype)
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def _begin(self, session: str | None) -> None:
        self._is_running = session is not None
        # The client names the session before each of its turns.
        if session is None or session == self._session:
            return
        self._session, self._turns = session, 0
        self._write("start", self._known)

    def _end(self, message: Any, subtype: str) -> None:
        named = text(member(message, "session_id"))
        if named != self._session:
            self._begin(named)
        self._is_running = False
        if member(message, "is_error") is True and subtype == _SUCCESS:
            # A request that failed ends a session that calls itself a success.
            subtype = text(member(message, "terminal_reason")) or _ERROR
        # Of the counts, only the turns begin again with each turn of a conversation.
        self._turns += count(member(message, "num_turns")) or 0
        cost = number(member(message, "total_cost_usd"))
        self._write(
            "end",
            {
                "num_turns": self._turns,
                "duration_api_ms": number(member(message, "duration_api_ms")),
                "cost": None if cost is None else {"total_usd": cost},
                "subtype": subtype,
            },
        )

    def _break_off(self) -> None:
        """Record the end of a session of which the SDK raises an error in place of a result."""
        try:
            if self._is_running:
                self._is_running = False
                self._write("end", {"num_turns": self._turns or None, "subtype": _ERROR})
        except Exception:  # noqa: BLE001 -- recording must never disturb the caller
            self._lost()

    def _write(self, phase: str, facts: dict[str, Any]) -> None:
        target = outbox()
        if target is None or self._session is None:
            return
        now = time.time_ns() // 1_000_000
        line = {"v": 1, "type": "session", "uuid": uuid7(now), "at": moment(now)}
        line.update(agent=_AGENT, session_id=self._session, phase=phase)
        if self._is_private:
            line["privacy_mode"] = True
        line.update({name: fact for name, fact in facts.items() if fact is not None})
        target.write(line)

    def _lost(self) -> None:
        with contextlib.suppress(Exception):
            target = outbox()
            if target is not None:
                target.drop("encode")
