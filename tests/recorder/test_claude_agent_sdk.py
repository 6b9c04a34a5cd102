"""What is recorded of the Claude Agent SDK's messages. `tests/e2e/test_agent_sdk.py` does it with the real one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from llma_recorder.claude_agent_sdk import track

from tests.support.recorded import ROOT, Recorded
from tests.support.waiting import PATIENCE

ABOUT: dict[str, Any] = {
    "distinct_id": "bot",
    "properties": {"pull_request": 7},
    "groups": {"company": "orchard"},
    "trace_name": "Review",
}
END = {"num_turns": 2, "duration_api_ms": 310, "cost": {"total_usd": 0.25}, "subtype": "success"}


def init(session: str | None = "s-1") -> SimpleNamespace:
    return SimpleNamespace(subtype="init", data={"session_id": session})


def result(session: str = "s-1", **more: Any) -> SimpleNamespace:
    said = {"subtype": "success", "is_error": False, "num_turns": 2, "duration_api_ms": 310, "total_cost_usd": 0.25}
    return SimpleNamespace(session_id=session, **(said | more))


class Client:
    """A client as the SDK's: one of its methods calls the other, and ends after a result."""

    def __init__(self, *messages: Any) -> None:
        self.messages = iter(messages)
        self.closed = 0

    async def receive_messages(self) -> AsyncIterator[Any]:
        try:
            for message in self.messages:
                if issubclass(type(message), Exception):  # isinstance asks the object, too
                    raise message
                yield message
        finally:
            self.closed += 1

    async def receive_response(self) -> AsyncIterator[Any]:
        async for message in self.receive_messages():
            yield message
            if hasattr(message, "num_turns"):
                return


def facts(recorded: Recorded) -> list[dict[str, Any]]:
    """The lines, without what every line has."""
    common = {"v", "type", "uuid", "at", "agent"}
    assert all(line["agent"] == "claude-code" for line in recorded.lines("session"))
    return [{name: fact for name, fact in line.items() if name not in common} for line in recorded.lines()]


async def test_a_conversation_says_whose_it_is_once_and_what_it_took_after_each_turn(recorded: Recorded) -> None:
    said = [init(), object(), result(), init(), result(num_turns=3, duration_api_ms=500, total_cost_usd=0.5)]
    client = Client(*said)

    assert track(client, **ABOUT) is client
    received = [message async for message in client.receive_response()]
    received += [message async for message in client.receive_response()]

    assert received == said, "the messages are the SDK's own"
    start: dict[str, Any] = {"phase": "start", "session_id": "s-1", "distinct_id": "bot", "name": "Review"}
    start |= {"properties": {"pull_request": 7}, "groups": {"company": "orchard"}}
    first = {"phase": "end", "session_id": "s-1", **END}
    assert facts(recorded) == [
        start,
        first,
        {**first, "num_turns": 5, "duration_api_ms": 500, "cost": {"total_usd": 0.5}},
    ]


FAILURES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "a limit": (
        [result(subtype="error_max_turns", is_error=True, errors=["Reached it", "twice"])],
        {**END, "subtype": "error_max_turns"},
    ),
    "a request, in a session that calls itself a success": (
        [result(is_error=True, terminal_reason="api_error", result="API Error: 400")],
        {**END, "subtype": "api_error"},
    ),
    "the client itself": (
        [ValueError("it died")],
        {"subtype": "error"},
    ),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_said_once_and_the_errors_of_the_sdk_pass(
    recorded: Recorded, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, expected = FAILURES[name]
    for number, private in enumerate((False, True)):
        folder = recorded.folder / f"{name}-{number}"
        folder.mkdir()
        monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", str(folder))
        raised = ValueError("the process ended, too")
        client = track(
            Client(init(), *messages, *([] if name == "the client itself" else [raised])), privacy_mode=private
        )

        with pytest.raises(ValueError, match=r"it died|the process ended, too"):
            [message async for message in client.receive_messages()]

        _, end = facts(Recorded(folder))
        # What the error says is in the log of the session, if it is anywhere.
        assert end == {"phase": "end", "session_id": "s-1", **expected, **({"privacy_mode": True} if private else {})}


async def test_odd_messages_and_odd_facts_disturb_nobody(recorded: Recorded) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __bool__(self) -> bool:
            raise RuntimeError("bool")

    odd = [
        None,
        7,
        "init",
        {"subtype": "init", "data": "no"},
        init(None),
        Hostile(),
        SimpleNamespace(subtype=Hostile()),
    ]
    messages = [*odd, result(num_turns="two"), {"subtype": "init", "data": {"session_id": "s-2"}}]
    hostile: Any = Hostile()
    client = track(
        Client(*messages), distinct_id=hostile, properties=hostile, groups=hostile, trace_name=hostile,
        privacy_mode=hostile,
    )  # fmt: skip

    received = [message async for message in client.receive_messages()]

    assert len(received) == len(messages)
    assert all(left is right for left, right in zip(received, messages, strict=True))
    [line] = facts(recorded)
    assert (line["session_id"], line["privacy_mode"]) == ("s-2", True)
    assert track(hostile) is hostile


async def test_who_has_seen_enough_ends_the_sdks_iterator(recorded: Recorded) -> None:
    client = track(Client(init(), result()), distinct_id="bot")
    messages: Any = client.receive_messages()
    await anext(messages)
    await messages.aclose()
    assert client.closed == 1
    assert [line["phase"] for line in facts(recorded)] == ["start"]


async def test_without_an_outbox_messages_pass_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_LLMA_OUTBOX", "/nowhere")
    assert len([message async for message in track(Client(init(), result())).receive_response()]) == 2


def test_importing_it_does_not_take_the_sdk() -> None:
    program = "import sys; import llma_recorder.claude_agent_sdk; assert 'claude_agent_sdk' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=PATIENCE, check=True)
