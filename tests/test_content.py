"""No content of any session leaves at a level that forbids it; the tests search every property of every event.

Each golden session is rewritten with a unique word in every place that holds content, and each word tells which kind
of content that is. So the tests know what must not leave without listing the content itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from llma_core.privacy import ContentLevel, Policy
from llma_core.properties import Attribution, Grouping, InputMode
from tests.support.cases import CASES, Files
from tests.support.each import for_each
from tests.support.sessions import body, built, spans

Json = dict[str, Any]

MODES: tuple[InputMode, ...] = ("delta", "prompt", "full")
GROUPINGS: tuple[Grouping, ...] = ("session", "message")

TALK, TOOL, NEVER = "talkword", "toolword", "neverword"
"""Words for three kinds of content. TALK: what people and models write. TOOL: inputs and results of tools, output of
programs, and what one model tells another. NEVER: what leaves at no level: signatures, bytes of images, folders above
the working directory, and lines that only repeat other lines."""

NAMES_OF_BLOCKS = ("type", "id", "name", "tool_use_id", "is_error")
PRINTED = ("<local-command-stdout>", "<bash-stdout>", "<task-notification>")


# ---------------------------------------------------------------------- words in every place


@dataclass(slots=True)
class Marker:
    """Puts words into a log's lines. Equal texts get equal words, because subagents are matched by their texts.

    Attributes:
        words: the words that were put into the lines, by place.
    """

    words: dict[str, set[str]] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict)

    def files(self, files: Files) -> Files:
        return {name: data if name.endswith(".meta.json") else self.log(data) for name, data in files.items()}

    def log(self, data: bytes) -> bytes:
        return b"\n".join(self.line(line) for line in data.split(b"\n"))

    def line(self, data: bytes) -> bytes:
        try:
            line = json.loads(data)
        except ValueError:
            return data
        if not isinstance(line, dict):
            return data
        if isinstance(line.get("cwd"), str):
            above, _, name = line["cwd"].rpartition("/")
            line["cwd"] = f"{self.word('cwd', NEVER, above)}/{name}"
        match line.get("type"):
            case "user":
                self.user(line)
            case "assistant":
                self.assistant(line)
            case "attachment":
                self.attachment(line)
            case "system":
                if isinstance(line.get("error"), dict):
                    line["error"] |= self.all("api error", TALK, self.only(line["error"], "message", "formatted"))
                line |= self.all("note", TALK, self.only(line, "content"))
                line |= self.all("hook", TOOL, self.only(line, "hookErrors", "hookInfos"))
            case "ai-title" | "custom-title" | "summary":
                line |= self.all("title", TALK, self.only(line, "aiTitle", "customTitle", "summary"))
            case "queue-operation" | "last-prompt":
                line |= self.all("queue", NEVER, self.only(line, "content", "lastPrompt"))
            case "api-request-blob":
                # The word changes the content's hash, so the content is not used at all.
                line["message"]["content"] = self.all("request", NEVER, line["message"]["content"])
            case "progress":
                line["data"]["message"]["message"]["content"] = self.all("progress", NEVER, line["data"])
            case "agent-setting" | "api-request" | "api-request-shape" | "cost-state":
                pass
            case _:
                names = ("type", "sessionId", "uuid", "timestamp")
                line = {key: item if key in names else self.all(key, NEVER, item) for key, item in line.items()}
        return json.dumps(line, ensure_ascii=False).encode()

    def user(self, line: Json) -> None:
        line |= self.all("noted", NEVER, self.only(line, "mcpMeta"))
        if isinstance(noted := line.get("toolUseResult"), str):
            line["toolUseResult"] = self.word("noted", NEVER, noted)
        elif isinstance(noted, dict):
            names = ("agentId", "isAsync", "interrupted", "status", "runId", "teammate_id")
            line["toolUseResult"] = {
                key: item if key in names else self.all("noted", NEVER, item) for key, item in noted.items()
            }
        content = line["message"]["content"]
        if isinstance(content, str):
            line["message"]["content"] = self.text(content, agents=line["isSidechain"] and not line.get("isMeta"))
            return
        for block in content:
            match block["type"]:
                case "text":
                    block["text"] = self.text(block["text"], agents=line["isSidechain"] and not line.get("isMeta"))
                case "tool_result":
                    block["content"] = self.result(block["content"])
                case "image":
                    self.image(block)
                case kind:
                    pytest.fail(f"the marker does not know this kind of block: {kind}")

    def text(self, text: str, *, agents: bool) -> str:
        is_tool = agents or text.startswith(PRINTED)
        return self.word("printed" if is_tool else "prompt", TOOL if is_tool else TALK, text)

    def result(self, content: Any) -> Any:
        if isinstance(content, str):
            return self.word("result", TOOL, content)
        for block in content:
            if block["type"] == "image":
                self.image(block)
        return [block if block["type"] == "image" else self.block("result", block) for block in content]

    def image(self, block: Json) -> None:
        block["source"]["data"] = self.word("image", NEVER, block["source"]["data"])

    def assistant(self, line: Json) -> None:
        message = line["message"]
        place = "api error" if line.get("isApiErrorMessage") else "answer"
        message["content"] = [self.said(place, block) for block in message["content"]]

    def said(self, place: str, block: Json) -> Json:
        match block["type"]:
            case "text":
                return block | {"text": self.word(place, TALK, block["text"])}
            case "thinking":
                words = {"thinking": self.word("thinking", TALK, block["thinking"])}
                return block | words | {"signature": self.word("signature", NEVER, block["signature"])}
            case "redacted_thinking":
                return block | {"data": self.word("signature", NEVER, block["data"])}
            case "tool_use" if block["name"] in ("Agent", "Task", "Skill", "Workflow"):
                # The kind of a subagent is a name, and so is a teammate's, a workflow's and a skill's.
                kind = self.only(block["input"], "subagent_type", "skill", "name")
                return block | {"input": self.all("call", TOOL, block["input"]) | kind}
            case _:
                return self.block("call", block)

    def block(self, place: str, block: Json) -> Json:
        return {key: item if key in NAMES_OF_BLOCKS else self.all(place, TOOL, item) for key, item in block.items()}

    def attachment(self, line: Json) -> None:
        shown = line["attachment"]
        if shown["type"] == "queued_command":
            shown["prompt"] = self.text(shown["prompt"], agents=False)
            return
        names = ("type", "hookName", "hookEvent", "toolUseID", "exitCode", "durationMs")
        place = "hook" if shown["type"].startswith("hook_") else "attachment"
        line["attachment"] = {key: item if key in names else self.all(place, TOOL, item) for key, item in shown.items()}

    def only(self, value: Json, *keys: str) -> Json:
        return {key: value[key] for key in keys if key in value}

    def all(self, place: str, kind: str, value: Any) -> Any:
        """Put a word into every string of *value* except its keys."""
        if isinstance(value, str):
            return self.word(place, kind, value)
        if isinstance(value, list):
            return [self.all(place, kind, item) for item in value]
        if isinstance(value, dict):
            return {key: self.all(place, kind, item) for key, item in value.items()}
        return value

    def word(self, place: str, kind: str, text: str) -> str:
        """Put a word at the end of *text* and into every wrapper in it. The beginning of *text* stays."""
        if text == "Warmup":
            # Not content: this text marks the subagents that a client starts on its own.
            return text
        word = f"{kind}{self._known.setdefault(text, len(self._known))}."
        self.words.setdefault(place, set()).add(word)
        return text.replace("</", f" {word}</") + f" {word}"


# ---------------------------------------------------------------------- what leaves


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


def marked(name: str) -> Files:
    return Marker().files(CASES[name].files())


def events(files: Files, level: ContentLevel, mode: InputMode, grouping: Grouping) -> list[Json]:
    policy = Policy(level=level)
    attribution = Attribution(distinct_id="ada@example.com", policy=policy, input_mode=mode, grouping=grouping)
    return [body(event) for event in built(spans(files, whole_inputs=mode == "full"), attribution)]


def leaks(found: list[Json], *kinds: str) -> list[tuple[str, str, str]]:
    """Return each place that holds a word of *kinds*: the event, the property, the string."""
    word = re.compile("|".join(kinds))
    return [
        (event["event"], key, string)
        for event in found
        for key, value in {**event["properties"], **envelope(event)}.items()
        for string in strings({key: value})
        if word.search(string)
    ]


def envelope(event: Json) -> Json:
    return {key: value for key, value in event.items() if key != "properties"}


# ---------------------------------------------------------------------- tests


@for_each("name", CASES)
def test_no_content_leaves_at_metadata(name: str) -> None:
    files = marked(name)

    for mode in MODES:
        for grouping in GROUPINGS:
            assert leaks(events(files, "metadata", mode, grouping), TALK, TOOL, NEVER) == []


@for_each("name", CASES)
def test_no_input_or_result_of_a_tool_leaves_without_tool_content(name: str) -> None:
    files = marked(name)

    for mode in MODES:
        for grouping in GROUPINGS:
            assert leaks(events(files, "no_tool_content", mode, grouping), TOOL, NEVER) == []


@for_each("name", CASES)
def test_signatures_images_and_folders_do_not_leave_even_at_full(name: str) -> None:
    files = marked(name)

    for mode in MODES:
        for grouping in GROUPINGS:
            assert leaks(events(files, "full", mode, grouping), NEVER) == []


@for_each("name", CASES)
def test_words_change_nothing_but_content(name: str) -> None:
    """The marked sessions give the same events as the golden sessions, apart from content."""

    def measured(files: Files) -> list[Json]:
        found = events(files, "metadata", "delta", "session")
        return [event["properties"] | envelope(event) for event in found]

    assert measured(marked(name)) == measured(CASES[name].files())


@pytest.mark.parametrize(
    ("level", "places"),
    [
        ("full", {"answer", "api error", "call", "hook", "printed", "prompt", "result", "thinking", "title"}),
        ("no_tool_content", {"answer", "api error", "prompt", "thinking", "title"}),
        ("metadata", set()),
    ],
)
def test_content_leaves_at_the_levels_that_allow_it(level: ContentLevel, places: set[str]) -> None:
    marker = Marker()
    every = [marker.files(case.files()) for case in CASES.values()]

    sent = "\n".join(
        string for files in every for event in events(files, level, "delta", "session") for string in strings(event)
    )

    assert {place for place, words in marker.words.items() if any(word in sent for word in words)} == places
    # The other places leave at no level, but got words all the same.
    assert set(marker.words) >= places | {"cwd", "image", "noted", "progress", "queue", "request", "signature"}


METADATA = {
    "$ai_agent_name",
    "$ai_cache_creation_1h_input_tokens",
    "$ai_cache_creation_5m_input_tokens",
    "$ai_cache_creation_input_tokens",
    "$ai_cache_read_input_tokens",
    "$ai_cache_reporting_exclusive",
    "$ai_error_type",
    "$ai_framework",
    "$ai_git_branch",
    "$ai_http_status",
    "$ai_input_state",
    "$ai_input_tokens",
    "$ai_is_error",
    "$ai_latency",
    "$ai_lib",
    "$ai_lib_version",
    "$ai_metric_name",
    "$ai_metric_value",
    "$ai_model",
    "$ai_model_parameters",
    "$ai_output_state",
    "$ai_output_tokens",
    "$ai_parent_id",
    "$ai_project_name",
    "$ai_provider",
    "$ai_reasoning_tokens",
    "$ai_request_id",
    "$ai_session_id",
    "$ai_span_id",
    "$ai_span_name",
    "$ai_span_type",
    "$ai_stop_reason",
    "$ai_tool_call_count",
    "$ai_tools",
    "$ai_tools_called",
    "$ai_total_input_tokens",
    "$ai_total_output_tokens",
    "$ai_total_tokens",
    "$ai_trace_id",
    "$ai_usage",
    "$geoip_disable",
    "$lib",
    "$lib_version",
    "claude_code_api_errors",
    "claude_code_client_cost_usd",
    "claude_code_compaction_trigger",
    "claude_code_compactions",
    "claude_code_effort",
    "claude_code_entrypoint",
    "claude_code_generations",
    "claude_code_hook_errors",
    "claude_code_hook_runs",
    "claude_code_hook_seconds",
    "claude_code_hooks",
    "claude_code_latency_source",
    "claude_code_lines_added",
    "claude_code_lines_removed",
    "claude_code_mcp_server",
    "claude_code_mcp_tool",
    "claude_code_outcome",
    "claude_code_output_tokens_partial",
    "claude_code_permission_decision",
    "claude_code_permission_mode",
    "claude_code_side_calls",
    "claude_code_skill",
    "claude_code_stopped_by",
    "claude_code_subagents",
    "claude_code_tokens_after",
    "claude_code_tokens_before",
    "claude_code_tool_calls",
    "claude_code_tool_status",
    "claude_code_trace",
    "claude_code_unknown_records",
    "claude_code_version",
    "claude_code_wall_seconds",
}
"""Names, counts, times, ids and statuses. Add a property only after checking that it holds no content."""


def test_only_properties_known_to_hold_no_content_leave_at_metadata() -> None:
    found = {
        key
        for name in CASES
        for mode in MODES
        for grouping in GROUPINGS
        for event in events(CASES[name].files(), "metadata", mode, grouping)
        for key in event["properties"]
    }

    assert found == METADATA
