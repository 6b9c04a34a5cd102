"""The conversation of a thread: in the order of the log, since the last compaction, as much as is remembered."""

from __future__ import annotations

import json

import pytest

from llma_core.claude_code.conversation import Conversation
from llma_core.spans import Generation, InputMessage
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.sessions import spans


def told(words: str) -> InputMessage:
    return InputMessage(role="user", content=json.dumps(words).encode(), origin="prompt")


def block(words: str) -> bytes:
    return json.dumps(text(words)).encode()


def words(messages: tuple[InputMessage, ...] | None) -> list[str]:
    """Return messages in a short form."""
    assert messages is not None
    found = []
    for message in messages:
        content = json.loads(message.content)
        parts = [content] if isinstance(content, str) else [part.get("text") or part["type"] for part in content]
        found.append(f"{message.role}: {' '.join(parts)}")
    return found


def conversations(log: LogBuilder) -> list[list[str]]:
    found = spans(log.files(), whole_inputs=True)
    return [words(span.conversation) for span in found if isinstance(span, Generation)]


def test_an_answers_input_is_all_that_was_said_before_it() -> None:
    log = LogBuilder(version="2.1.100")
    log.prompt("Count")
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "ada")
    log.answer(text("One."))
    log.prompt("And the pears?")
    log.answer(text("None."))

    assert conversations(log) == [
        ["user: Count"],
        ["user: Count", "assistant: I look. tool_use", "user: tool_result"],
        ["user: Count", "assistant: I look. tool_use", "user: tool_result", "assistant: One.", "user: And the pears?"],
    ]


def test_a_summary_stands_for_what_was_said_before_it() -> None:
    log = LogBuilder(version="2.1.100")
    log.prompt("Count")
    log.answer(text("I look."), tool_use("Bash", id="toolu_1"))
    log.tool_result("toolu_1", "ada")
    log.compaction("They were counting.")
    log.answer(text("One."))

    assert conversations(log)[-1] == ["user: They were counting."]


def test_a_subagent_has_a_conversation_of_its_own() -> None:
    log = LogBuilder(version="2.1.100")
    log.prompt("Count")
    log.answer(tool_use("Agent", {"prompt": "Look"}, id="toolu_1"))
    agent = log.agent("toolu_1", "Look")
    agent.answer(text("One."))

    assert conversations(log)[-1] == ["user: Look"]


def test_a_late_block_takes_its_place_in_the_answer_it_belongs_to() -> None:
    conversation = Conversation()
    conversation.answer("m1", [(b"a", block("a"), 0), (b"c", block("c"), 2)])
    conversation.add([told("go on")])

    conversation.add_late_block("m1", b"b", block("b"), 1)
    conversation.add_late_block("m1", b"d", block("d"), None)
    conversation.add_late_block("m1", b"a", block("again"), 0)
    conversation.add_late_block("m9", b"x", block("nobody's"), 0)

    assert words(conversation.so_far()) == ["assistant: a b c d", "user: go on"]


@pytest.mark.parametrize("memory", [0, 300, 1000])
def test_beyond_its_memory_it_forgets_the_oldest(memory: int) -> None:
    conversation = Conversation(memory)
    for number in range(20):
        conversation.add([told(f"{number}")])
        conversation.answer(f"m{number}", [(b"", block("yes"), 0)])

    kept = conversation.so_far()

    assert sum(len(message.content) for message in kept) <= memory
    full = [line for number in range(20) for line in (f"user: {number}", "assistant: yes")]
    assert words(kept) == full[len(full) - len(kept) :]
