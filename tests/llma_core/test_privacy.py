from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core import privacy
from llma_core.privacy import Change, ContentLevel, Policy, characters, figures, text_of
from llma_core.properties import Attribution, Grouping, InputMode
from llma_core.spans import ContentBlock, InputMessage
from tests.support.logs import LogBuilder, image, redacted_thinking, text, thinking, tool_use
from tests.support.sessions import body, built, spans

FULL = Policy()
NO_TOOLS = Policy(level="no_tool_content")
METADATA = Policy(level="metadata")
LEVELS: tuple[ContentLevel, ...] = ("full", "no_tool_content", "metadata")

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "source", "text", "content", "input", "data"]) | st.text(), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def block(value: dict[str, Any]) -> ContentBlock:
    return ContentBlock(type=str(value.get("type", "")), raw=raw(value))


def left(value: Any, policy: Policy = FULL) -> Any:
    """Return the value of a property once it has left, the same in all three ways; None if it was left out."""
    encoded = policy.encode({"property": value})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy, "_verbatim", lambda *_: None)
        the_long_way = policy.encode({"property": value})
    said = json.loads(encoded)
    # Numbers may be written in another way: 1e16, 1e+16.
    assert said == json.loads(the_long_way)
    assert said == json.loads(msgspec.json.encode(policy.release({"property": value}, changes=[])))
    return said.get("property")


def answered(blocks: list[ContentBlock], policy: Policy = FULL) -> Any:
    """Return the content of an answer once it has left."""
    said = left(policy.answer(blocks), policy)
    return said and said[0]["content"]


def message(content: Any, origin: Any = "prompt") -> InputMessage:
    return InputMessage(role="user", content=raw(content), origin=origin)


# ---------------------------------------------------------------------- cutting


def test_a_trace_name_has_a_hundred_characters_at_most_and_says_that_it_is_cut() -> None:
    assert left(FULL.trace_name("x" * 100)) == "x" * 100
    assert left(FULL.trace_name("x" * 101)) == "x" * 99 + "…"
    assert left(FULL.trace_name("tree " * 30)) == ("tree " * 20)[:99].rstrip() + "…"
    assert FULL.trace_name("") is None
    assert METADATA.trace_name("tree") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("plain", "plain"),
        ([{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}], "one\ntwo"),
        ([{"type": "text", "text": 5}, {"type": "text"}, "loose", None], ""),
        ({"type": "text", "text": "no list"}, ""),
        (None, ""),
        (5, ""),
    ],
)
def test_the_words_of_content(content: Any, words: str) -> None:
    assert text_of(content) == words


# ---------------------------------------------------------------------- tool content


def test_a_tools_value_is_cut_string_by_string() -> None:
    policy = Policy(max_length=3)

    said = left(policy.tool_value(raw({"command": "ls -la", "n": 5})), policy)

    assert said == {"command": "ls … [3 more characters]", "n": 5}
    assert left(policy.tool_text(raw("failed")), policy) == "fai… [3 more characters]"


def test_a_tools_words_are_those_of_its_text_blocks() -> None:
    assert left(FULL.tool_text(raw([text("one"), image(), text("two")]))) == "one\ntwo"
    assert FULL.tool_text(raw([image()])) is None


@pytest.mark.parametrize("policy", [NO_TOOLS, METADATA])
def test_below_full_nothing_of_a_tool_leaves(policy: Policy) -> None:
    assert policy.tool_value(raw({"command": "ls"})) is None
    assert policy.tool_text(raw("Exit code 1")) is None


def test_a_tool_that_printed_nothing_is_known_to_have() -> None:
    assert left(FULL.tool_value(b'""')) == ""
    assert FULL.tool_value(None) is None


@pytest.mark.parametrize(
    "value",
    [
        {"schema": {"type": ["string", "null"]}},
        {"type": {"nested": True}},
        {"properties": {"type": {"type": "string"}, "source": {"type": "object"}}},
        [{"type": []}],
    ],
)
def test_a_value_whose_type_is_no_string_is_a_value_as_any_other(value: Any) -> None:
    assert left(FULL.tool_value(raw(value))) == value


@given(value=JSON)
def test_any_value_a_tool_may_take_or_give_can_leave(value: Any) -> None:
    for policy in (FULL, Policy(max_length=1)):
        json.dumps(left(policy.tool_value(raw(value)), policy))
        json.dumps(left(policy.tool_text(raw(value)), policy))
        json.dumps(left(policy.messages([message(value)]), policy))
        json.dumps(answered([ContentBlock(type="", raw=raw(value))], policy))


@pytest.mark.parametrize("depth", [100, 400, 600, 900])
def test_a_deeply_nested_value_does_no_harm(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth

    left(FULL.tool_value(deep))
    content = b'[{"type":"tool_result","content":%s}]' % deep
    left(FULL.messages([InputMessage(role="user", content=content, origin="prompt")]))
    answered([ContentBlock(type="tool_use", raw=b'{"type":"tool_use","input":%s}' % deep)], FULL)


# ---------------------------------------------------------------------- images


def test_an_image_becomes_its_type_and_size() -> None:
    shown = left(FULL.tool_value(raw([text("see"), image("aGVsbG8=")])))

    assert shown == [text("see"), {"type": "text", "text": "[image image/png 5 bytes]"}]


def test_a_document_of_plain_text_is_text() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "12345678"}}

    assert left(FULL.messages([message([document])])) == [
        {"role": "user", "content": [{"type": "text", "text": "12345678"}]}
    ]
    nested = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [document]}]
    [released] = left(FULL.messages([message(nested)]))
    assert released["content"][0]["content"] == [{"type": "text", "text": "12345678"}]


@pytest.mark.parametrize(
    ("block", "shown"),
    [
        ({"type": "image", "data": "QUJDREVG", "mimeType": "image/png"}, "[image image/png 6 bytes]"),
        ({"type": "audio", "data": "QUJDREVG", "mimeType": "audio/wav"}, "[audio audio/wav 6 bytes]"),
        ({"type": "image", "data": "QUJDREVG"}, "[image 6 bytes]"),
    ],
)
def test_the_media_of_an_mcp_server_become_their_sizes(block: dict[str, str], shown: str) -> None:
    results = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [block]}]

    [released] = left(FULL.messages([message([block, *results])]))
    value = left(FULL.tool_value(json.dumps([block]).encode()))

    expected = {"type": "text", "text": shown}
    assert released["content"] == [expected, {**results[0], "content": [expected]}]
    assert value == [expected]


def test_the_bytes_of_an_mcp_servers_resource_do_not_leave() -> None:
    blob = {"uri": "file:///a.bin", "mimeType": "application/pdf", "blob": "QUJDREVG"}

    value = left(FULL.tool_value(json.dumps([{"type": "resource", "resource": blob}]).encode()))

    assert value == [{"type": "resource", "resource": {**blob, "blob": "[blob application/pdf 6 bytes]"}}]


@pytest.mark.parametrize("level", ["full", "no_tool_content"])
def test_the_bytes_of_an_image_never_leave_wherever_it_stands(level: ContentLevel) -> None:
    policy = Policy(level=level)
    secret = image("QUJDREVG" * 10)
    nested = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [secret]}]

    said = json.dumps(
        [
            left(policy.messages([message([secret]), message(nested, "tool_result")])),
            answered([block(secret), block({"type": "new_tool_result", "content": nested})], policy),
            left(policy.tool_value(raw({"deep": [[secret]]}))),
        ]
    )

    assert "QUJDREVG" not in said


def test_a_tools_own_word_image_is_no_image() -> None:
    value = {"type": "image", "name": "apple"}

    assert left(FULL.tool_value(raw(value))) == value


# ---------------------------------------------------------------------- answers and inputs


def test_an_answers_blocks_stay_in_order_each_without_what_is_no_content() -> None:
    call = tool_use("Bash", {"command": "ls"}, id="toolu_1") | {"caller": {"type": "direct"}}

    shown = answered([block(thinking("hm")), block(thinking("")), block(text("hi")), block(call)], FULL)

    assert shown == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "thinking", "thinking": ""},
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
    ]


def test_what_only_the_provider_can_read_leaves_a_placeholder() -> None:
    assert answered([block(redacted_thinking())]) == [{"type": "thinking", "thinking": "[redacted by the provider]"}]


def test_calls_and_results_inside_messages_are_cut_like_the_spans() -> None:
    policy = Policy(max_length=3)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "abcdef"}

    assert left(policy.messages([message([result], "tool_result")]), policy) == [
        {"role": "user", "content": [result | {"content": "abc… [3 more characters]"}]}
    ]
    [call] = answered([block(tool_use("Bash", {"command": "abcdef"}, id="toolu_long"))], policy)
    assert call["input"] == {"command": "abc… [3 more characters]"}
    assert call["id"] == "toolu_long"


def test_prompts_and_answers_are_not_cut() -> None:
    policy = Policy(max_length=3)

    assert left(policy.messages([message("abcdef")]), policy) == [{"role": "user", "content": "abcdef"}]
    assert answered([block(text("abcdef"))], policy) == [text("abcdef")]


def test_without_tool_content_a_call_and_a_result_keep_their_names_only() -> None:
    call = tool_use("Bash", {"command": "ls"}, id="toolu_1")
    search = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"title": "apples"}]}
    unknown = {"type": "telepathy_result", "id": "t1", "thought": "apples"}

    assert answered([block(text("hi")), block(call), block(search), block(unknown)], NO_TOOLS) == [
        text("hi"),
        {"type": "tool_use", "id": "toolu_1", "name": "Bash"},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1"},
        {"type": "telepathy_result", "id": "t1"},
    ]


def test_without_tool_content_what_another_model_or_a_program_wrote_is_left_out() -> None:
    given_messages = [message("typed"), message("told", "agent_prompt"), message("printed", "command_output")]

    assert left(NO_TOOLS.messages(given_messages), NO_TOOLS) == [{"role": "user", "content": "typed"}]


def test_metadata_has_no_messages_and_no_blocks() -> None:
    assert METADATA.messages([message("typed")]) is None
    assert METADATA.answer([block(text("hi"))]) is None


def test_nothing_given_is_nothing_and_not_an_empty_list() -> None:
    assert FULL.messages([]) is None
    assert FULL.answer([]) is None


# ---------------------------------------------------------------------- whole sessions, every property


def strings(value: Any) -> Iterator[str]:
    """Yield every string in a JSON value, including keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


# Each piece of content has a word that is nowhere else.
CONVERSATION = (
    "PROMPTWORD",
    "QUEUEDWORD",
    "THINKWORD",
    "ANSWERWORD",
    "TITLEWORD",
    "SUMMARYWORD",
    "ERRORWORD",
    "RETRYWORD",
    "ARGUMENTWORD",
    "CHOSENWORD",
)
TOOL = (
    "INPUTWORD",
    "OUTPUTWORD",
    "FAILUREWORD",
    "AGENTPROMPTWORD",
    "REPORTWORD",
    "PRINTEDWORD",
    "STDOUTWORD",
    "NOTIFIEDWORD",
)
NEVER = ("SIGNATUREWORD", "SECRETFOLDER", "aW1hZ2V3b3Jk")
NAMES = ("Bash", "mcp__trees__grow", "gardener", "orchard", "harvest", "claude-opus-5-5", "invalid_request_error")


def session_with_everything() -> dict[str, bytes]:
    log = LogBuilder(cwd="/home/SECRETFOLDER/orchard", branch="harvest", requests=True)
    log.title("TITLEWORD")
    log.prompt([text("PROMPTWORD"), image("aW1hZ2V3b3Jk")])
    log.answer(
        thinking("THINKWORD", signature="SIGNATUREWORD"),
        text("ANSWERWORD"),
        tool_use("Bash", {"command": "INPUTWORD"}, id="toolu_1"),
        tool_use("mcp__trees__grow", {"tree": "INPUTWORD"}, id="toolu_2"),
        tool_use("Agent", {"prompt": "AGENTPROMPTWORD", "subagent_type": "gardener"}, id="toolu_3"),
    )
    log.tool_result("toolu_1", [text("OUTPUTWORD"), image("aW1hZ2V3b3Jk")], noted={"stdout": "STDOUTWORD"})
    log.tool_result("toolu_2", "FAILUREWORD", error=True, noted="Error: FAILUREWORD")
    log.queued_prompt("QUEUEDWORD")
    agent = log.agent("toolu_3", "AGENTPROMPTWORD", type="gardener")
    agent.answer(text("REPORTWORD"), tool_use("Bash", {"command": "INPUTWORD"}, id="toolu_4"))
    agent.tool_result("toolu_4", "OUTPUTWORD")
    agent.answer(text("ANSWERWORD"))
    log.agent_result("toolu_3", agent, "REPORTWORD")
    log.api_error(words="RETRYWORD")
    log.answer(text("ANSWERWORD"))
    log.command("/greet", "ARGUMENTWORD", output="PRINTEDWORD")
    log.answer(text("ANSWERWORD"))
    log.task_notification("<task-id>a1</task-id><result>NOTIFIEDWORD</result>")
    log.answer(text("ANSWERWORD"))
    log.compaction("SUMMARYWORD")
    log.title("CHOSENWORD", kind="custom-title")
    log.prompt("PROMPTWORD again")
    log.answer(text("ANSWERWORD"))
    log.permanent_error("API Error: 400 ERRORWORD")
    return log.files()


def everything_said(level: ContentLevel, grouping: Grouping, mode: InputMode) -> str:
    attribution = Attribution(
        distinct_id="ada@example.com", grouping=grouping, policy=Policy(level=level), input_mode=mode
    )
    found = spans(session_with_everything(), whole_inputs=mode == "full")
    said = built(found, attribution, repository="ada/orchard")
    return "\n".join(word for event in said for word in strings(body(event)))


@pytest.fixture(params=["session", "message"])
def grouping(request: pytest.FixtureRequest) -> Grouping:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=["delta", "prompt", "full"])
def mode(request: pytest.FixtureRequest) -> InputMode:
    return request.param  # type: ignore[no-any-return]


def test_at_metadata_no_word_of_the_content_leaves(grouping: Grouping, mode: InputMode) -> None:
    said = everything_said("metadata", grouping, mode)

    assert [word for word in (*CONVERSATION, *TOOL, *NEVER) if word in said] == []


def test_without_tool_content_no_word_of_a_tool_leaves(grouping: Grouping, mode: InputMode) -> None:
    said = everything_said("no_tool_content", grouping, mode)

    # What a subagent reports to the model that started it is an answer. REPORTWORD is in one.
    assert [word for word in (*TOOL, *NEVER) if word in said and word != "REPORTWORD"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_names_and_no_folder_leave_at_every_level(level: ContentLevel, grouping: Grouping, mode: InputMode) -> None:
    said = everything_said(level, grouping, mode)

    assert [word for word in NAMES if word not in said] == []
    assert [word for word in NEVER if word in said] == []


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_at_full_all_content_leaves(mode: InputMode) -> None:
    said = everything_said("full", "session", mode)

    kept = set(CONVERSATION) | set(TOOL)
    # Claude Code's own note about a run only repeats the result.
    assert {word for word in kept if word not in said} == {"STDOUTWORD"}


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_without_tool_content_the_conversation_leaves(mode: InputMode) -> None:
    said = everything_said("no_tool_content", "session", mode)

    assert [word for word in CONVERSATION if word not in said] == []


@pytest.mark.parametrize("level", LEVELS)
def test_levels_change_content_and_nothing_that_is_measured(level: ContentLevel) -> None:
    found = spans(session_with_everything())
    full = [body(event) for event in built(found)]
    less = [
        body(event) for event in built(found, Attribution(distinct_id="ada@example.com", policy=Policy(level=level)))
    ]

    content = {
        "$ai_input",
        "$ai_output_choices",
        "$ai_input_state",
        "$ai_output_state",
        "$ai_error",
        "$ai_user_prompt",
        "$ai_trace_name",
    }
    for one, other in zip(full, less, strict=True):
        assert {key: one[key] for key in one if key != "properties"} == {
            key: other[key] for key in other if key != "properties"
        }
        # The title of an answer without calls is its first words.
        named = content | ({"$ai_span_name"} if one["event"] in ("$ai_trace", "$ai_generation") else set())
        kept = {key: value for key, value in one["properties"].items() if key not in named}
        assert kept == {key: value for key, value in other["properties"].items() if key not in named}


# ---------------------------------------------------------------------- scrubbing

# Assembled at run time, so that secret scanners find none in this repository.
TOKEN = "ghp_" + "q7Rw" * 9
PIECES = [TOKEN[at : at + 8] for at in range(len(TOKEN) - 8)]


def session_with_a_token_everywhere() -> dict[str, bytes]:
    """Return a session in which every string contains a token, except for Claude Code's own ids."""
    log = LogBuilder(cwd=f"/home/{TOKEN}/{TOKEN}", branch=f"fix/{TOKEN}", requests=True)
    log.title(f"A title with {TOKEN}")
    log.prompt([text(f"Use {TOKEN} please"), image(TOKEN)])
    log.answer(
        thinking(f"hm, {TOKEN}", signature=TOKEN),
        text(f"With `{TOKEN}`."),
        tool_use("Bash", {"command": f"curl -H 'X: {TOKEN}'", TOKEN: json.dumps({"key": TOKEN})}, id="toolu_1"),
        tool_use(f"mcp__{TOKEN}__grow", {"deep": [[{"x": f"\\n{TOKEN}"}]]}, id="toolu_2"),
        tool_use("Agent", {"prompt": f"Find {TOKEN}", "subagent_type": f"kind-{TOKEN}"}, id="toolu_3"),
    )
    log.tool_result("toolu_1", [text(f"GITHUB_TOKEN={TOKEN}\n")], noted={"stdout": TOKEN})
    log.tool_result("toolu_2", f"Error: {TOKEN}", error=True, noted=f"Error: {TOKEN}")
    agent = log.agent("toolu_3", f"Find {TOKEN}", type=f"kind-{TOKEN}")
    agent.answer(text(TOKEN), tool_use("Bash", {"command": TOKEN}, id="toolu_4"))
    agent.tool_result("toolu_4", TOKEN)
    agent.answer(text(TOKEN))
    log.agent_result("toolu_3", agent, TOKEN)
    log.api_error(words=f"401 {TOKEN}")
    log.answer(text(TOKEN))
    log.command("/greet", TOKEN, output=TOKEN)
    log.task_notification(f"<task-id>a1</task-id><result>{TOKEN}</result>")
    log.answer(text(TOKEN))
    log.compaction(f"Told of {TOKEN}")
    # It is where a name is cut, and where a tool's output is cut.
    log.prompt("x" * 90 + f" {TOKEN} and so on")
    log.answer(tool_use("Bash", {"command": "x" * 990 + f" {TOKEN} y"}, id="toolu_5"))
    log.tool_result("toolu_5", "x" * 985 + f" {TOKEN}" + " y" * 100)
    log.answer(text("done"))
    log.title(TOKEN, kind="custom-title")
    log.prompt("y" * 95 + f" {TOKEN}")
    log.answer(text(TOKEN))
    return log.files()


def with_token(policy: Policy, grouping: Grouping, mode: InputMode, **more: Any) -> list[Any]:
    attribution = Attribution(
        distinct_id="ada@example.com",
        grouping=grouping,
        policy=policy,
        input_mode=mode,
        purpose=f"for {TOKEN}",
        properties={"deploy_key": TOKEN, "nested": {"list": [TOKEN]}},
        **more,
    )
    found = spans(session_with_a_token_everywhere(), whole_inputs=mode == "full")
    return built(found, attribution, repository=f"ada/{TOKEN}")


@pytest.mark.parametrize("level", LEVELS)
def test_no_piece_of_a_secret_leaves_at_any_level(level: ContentLevel, grouping: Grouping, mode: InputMode) -> None:
    sent = with_token(Policy(level=level, max_length=1000), grouping, mode)

    assert len(sent) > 10
    for event in sent:
        assert [piece for piece in PIECES if piece.encode() in event.body] == [], event.name
        assert b"[REDACTED:github-token]" in event.body


@pytest.mark.parametrize("limit", range(960, 1010, 3))
def test_no_piece_of_a_secret_leaves_wherever_a_cut_falls(limit: int) -> None:
    for event in with_token(Policy(max_length=limit), "session", "delta"):
        assert [piece for piece in PIECES if piece.encode() in event.body] == []


def test_scrubbing_changes_no_id_and_can_be_turned_off(grouping: Grouping) -> None:
    scrubbed = with_token(Policy(), grouping, "delta")
    plain = with_token(Policy(redact=False), grouping, "delta")

    assert [event.uuid for event in scrubbed] == [event.uuid for event in plain]
    assert all(TOKEN.encode() in event.body for event in plain)
    for one, other in zip(map(body, scrubbed), map(body, plain), strict=True):
        assert one["distinct_id"] == other["distinct_id"]
        assert one.get("timestamp") == other.get("timestamp")
        for name in ("$ai_trace_id", "$ai_session_id", "$ai_span_id", "$ai_parent_id"):
            assert one["properties"].get(name) == other["properties"].get(name)
        assert one["properties"].keys() == other["properties"].keys()


def test_figures_are_scrubbed_and_else_stay_as_they_were_written() -> None:
    plain = b'{"a": 1.50, "b": [ ]}'
    properties = {
        "plain": figures(plain),
        "secret": figures(b'{"password": "hunter2", "a": "ghp\\u005f%s"}' % (b"q7Rw" * 9)),
        "broken": figures(b'{"a": '),
    }

    released = FULL.release(properties)

    assert bytes(released["plain"]) == plain
    assert released["secret"] == {"password": "[REDACTED:password]", "a": "[REDACTED:github-token]"}
    assert "broken" not in released
    assert FULL.encode({"plain": figures(plain)}) == b'{"plain":%b}' % plain


def test_a_members_key_says_that_its_value_is_a_secret_at_any_depth() -> None:
    value = {"env": {"DB_PASSWORD": "swordfish", "list": [{"api_key": "abcdef123456", "max_tokens": 4096}]}}

    assert left(FULL.tool_value(raw(value))) == {
        "env": {
            "DB_PASSWORD": "[REDACTED:password]",
            "list": [{"api_key": "[REDACTED:key]", "max_tokens": 4096}],
        }
    }


def test_the_name_of_a_pair_says_that_its_value_is_a_secret() -> None:
    value = {"env": [{"name": "DB_PASSWORD", "value": "swordfish"}, {"name": "COLOR", "value": "swordfish"}]}

    assert left(FULL.tool_value(raw(value))) == {
        "env": [{"name": "DB_PASSWORD", "value": "[REDACTED:password]"}, {"name": "COLOR", "value": "swordfish"}]
    }


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99999, 99999)
    | st.text(max_size=5)
    | st.lists(
        st.sampled_from(
            [TOKEN, "password=", "hunter2", "DB_TOKEN", ": ", '"', "\\", "\n", "\x1b[1m", "é", " ", "x" * 30]
        ),
        max_size=4,
    ).map("".join),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "content", "password", "api_key", "type", TOKEN]), inner, max_size=3)
        | inner.map(lambda value: [image("QUJDREVG"), value])
        | inner.map(lambda value: {"type": "image", "source": value, "name": "apple"})
        | st.tuples(inner, st.sampled_from([1, 60, 130])).map(lambda pair: nested(*pair))
    ),
    max_leaves=6,
)
KINDS = ["text", "thinking", "redacted_thinking", "image", "tool_use", "tool_result", "server_tool_use", 5, None]


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


@given(
    value=ANYTHING,
    kind=st.sampled_from(KINDS),
    level=st.sampled_from(LEVELS),
    limit=st.sampled_from([1, 10, 40, 12_000]),
    redact=st.booleans(),
    ascii_only=st.booleans(),
)
def test_what_leaves_as_it_was_logged_is_what_leaves_decoded_scrubbed_and_cut(
    value: Any, kind: Any, level: ContentLevel, limit: int, redact: bool, ascii_only: bool
) -> None:
    policy = Policy(level=level, max_length=limit, redact=redact)
    part = {"type": kind, "id": "toolu_1", "signature": "x", "text": value, "thinking": value, "input": value}
    for content in (part, part | {"content": value}, part | {"text": "yes", "thinking": "", "name": TOKEN}, value):
        data = json.dumps(content, ensure_ascii=ascii_only).encode()
        # `left` compares all ways. The second time, they use what was remembered.
        for _ in range(2):
            left(policy.tool_value(data), policy)
            left(policy.answer([ContentBlock(type="", raw=data)]), policy)
            left(policy.messages([InputMessage(role="user", content=b"[%s]" % data, origin="prompt")]), policy)
            left(policy.tool_definitions(b"[%s]" % data), policy)
            left(figures(data), policy)
            left(policy.trace_name(str(value)), policy)
            left(str(value), policy)
            left({"api_key": str(value)}, policy)


def test_a_property_that_is_not_known_does_not_leave() -> None:
    assert FULL.release({"known": "", "unknown": None, "id": None}, ids={"id"}) == {"known": ""}


def test_ids_leave_as_they_are() -> None:
    assert FULL.release({"id": TOKEN}, ids={"id"}) == {"id": TOKEN}


def test_what_was_done_is_noted_with_its_place() -> None:
    changes: list[Change] = []
    policy = Policy(max_length=10)
    value = policy.tool_value(raw({"env": [f"A={TOKEN} B={TOKEN}"], TOKEN: 1, "out": "x" * 15, "password": "hunter2"}))

    policy.release({"state": value, "other": "x" * 50}, changes=changes)

    assert changes == [
        Change(what="scrubbed", where="state.env[0]", kind="github-token", count=2),
        Change(what="cut", where="state.env[0]", count=len("A=[REDACTED:github-token] B=[REDACTED:github-token]") - 10),
        Change(what="scrubbed", where="state", kind="github-token", count=1),
        Change(what="cut", where="state.out", count=5),
        Change(what="scrubbed", where="state.password", kind="password", count=1),
        Change(what="cut", where="state.password", count=len("[REDACTED:password]") - 10),
    ]


def test_characters_are_those_of_all_strings() -> None:
    assert characters(FULL.tool_value(raw({"a": "bcd", "e": ["fg", 5, None, {"h": "i"}]}))) == 6
    assert characters(FULL.trace_name("x" * 300)) == 100
    assert characters(None) == 0


def test_events_explain_themselves_only_when_asked() -> None:
    assert all(event.changes == () for event in with_token(Policy(), "session", "delta"))

    explained = with_token(Policy(level="metadata"), "session", "delta", explain=True)
    generation = next(event for event in explained if any(c.where == "$ai_output_choices" for c in event.changes))
    withheld = {change.where: change.count for change in generation.changes if change.what == "withheld"}
    assert withheld.keys() == {"$ai_input", "$ai_output_choices", "$ai_user_prompt", "$ai_trace_name"}
    assert {change.kind for change in generation.changes if change.what == "withheld"} == {"metadata"}
    assert withheld["$ai_user_prompt"] == len(f"Use {TOKEN} please")
    assert Change(what="scrubbed", where="nested.list[0]", kind="github-token", count=1) in generation.changes
    plain = with_token(Policy(level="metadata"), "session", "delta")
    assert [event.body for event in explained] == [event.body for event in plain]
