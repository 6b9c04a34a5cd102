"""Decodes each line of a Claude Code log into a record. This is the only module that knows the log's keys.

Decoding is tolerant here, so that everything behind it can be strict:

- Unknown record types and unknown fields are accepted and ignored.
- A field of an unexpected type is dropped. The rest of the line is kept.
- Lone surrogates, NULs and bytes that are not UTF-8 become U+FFFD.
- Only a line that is not a JSON object is a RecordError.

Content (blocks, tool inputs, results) stays raw JSON, because most of it is never looked into.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from llma_core import markup
from llma_core.agent import UnknownRecord
from llma_core.decoding import build, decode_as, decode_object, sendable
from llma_core.errors import RecordError
from llma_core.spans import HookRun, InnerCall, TokenUsage

__all__ = [
    "AgentMeta",
    "AgentSettingRecord",
    "ApiError",
    "ApiRequestRecord",
    "AssistantRecord",
    "AttachmentRecord",
    "Block",
    "CompactMetadata",
    "CostStateRecord",
    "Glance",
    "IgnoredRecord",
    "Message",
    "Record",
    "RequestBlobRecord",
    "RequestShapeRecord",
    "Shape",
    "SystemRecord",
    "TitleRecord",
    "ToolUseResult",
    "UserRecord",
    "api_error",
    "api_error_words",
    "block",
    "blocks",
    "decode",
    "decode_meta",
    "glance",
    "hook_runs",
    "model_usage",
    "names_another",
    "not_null",
    "request_message",
    "session_of",
    "shape",
    "stopped_by",
    "strings",
    "text_of",
    "tool_use_result",
    "usage",
    "words_of",
]


class _Record(Struct, tag_field="type", rename="camel", gc=False):
    """Fields that any line of a conversation may have."""

    session_id: str | None = None
    uuid: str | None = None
    parent_uuid: str | None = None
    timestamp: str | None = None
    cwd: str | None = None
    version: str | None = None
    git_branch: str | None = None
    entrypoint: str | None = None
    is_sidechain: bool = False
    agent_id: str | None = None
    agent_name: str | None = None


class Message(Struct, gc=False):
    """The API message inside a line. The keys are those of the provider's API.

    If the message's stream broke off, `stop_details` is missing rather than null (2.1.150 and later).
    """

    id: str | None = None
    role: str | None = None
    model: str | None = None
    content: Raw = Raw(b"null")
    stop_reason: str | None = None
    stop_details: Raw | UnsetType = UNSET
    usage: Raw = Raw(b"null")


class _Fork(Struct, rename="camel", gc=False):
    session_id: str | None = None


class _PermissionDecision(Struct, gc=False):
    decision: str | None = None


class _Origin(Struct, gc=False):
    kind: str | None = None


class UserRecord(_Record, tag="user"):
    """A prompt, a tool result, or a text that Claude Code added."""

    message: Message | None = None
    prompt_id: str | None = None
    is_meta: bool = False
    is_compact_summary: bool = False
    is_visible_in_transcript_only: bool = False
    permission_mode: str | None = None
    prompt_source: str | None = None
    turn_origin: str | None = None
    origin: _Origin | None = None
    tool_use_result: Raw = Raw(b"null")
    tool_denial_kind: str | None = None
    tool_denial_before_run: bool = False
    permission_decision: _PermissionDecision | None = None
    interrupted_message_id: str | None = None
    forked_from: _Fork | None = None


class AssistantRecord(_Record, tag="assistant"):
    """One block of an API response, with the token counts of the whole response."""

    message: Message | None = None
    request_id: str | None = None
    request_ref: str | None = None
    api_block_index: int | None = None
    requested_model: str | None = None
    effort: str | None = None
    request_session_id: str | None = None
    forked_from: _Fork | None = None
    is_aborted_mid_stream: bool = False
    is_api_error_message: bool = False
    error: Raw = Raw(b"null")
    api_error_status: int | None = None
    api_error_type: str | None = None
    attribution_agent: str | None = None
    attribution_skill: str | None = None
    attribution_mcp_server: str | None = None
    attribution_mcp_tool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """What a failed attempt was answered with.

    Attributes:
        status: the HTTP status.
        type: the provider's type, such as `overloaded_error`, or a network's code, such as `ECONNRESET`.
        message: what happened, in words.
    """

    status: int | None = None
    type: str | None = None
    message: str | None = None


class CompactMetadata(Struct, rename="camel", gc=False):
    """How a conversation was compacted."""

    trigger: str | None = None
    pre_tokens: int | None = None
    post_tokens: int | None = None
    duration_ms: int | None = None


class _HookInfo(Struct, rename="camel", gc=False):
    duration_ms: int | None = None


class SystemRecord(_Record, tag="system"):
    """A note about the conversation: a failed attempt, a compaction, the end of a turn."""

    subtype: str | None = None
    error: Raw = Raw(b"null")
    cause: Raw = Raw(b"null")
    retry_attempt: int | None = None
    compact_metadata: CompactMetadata | None = None
    logical_parent_uuid: str | None = None
    pending_background_agent_count: int | None = None
    tool_use_id: str | None = msgspec.field(default=None, name="toolUseID")
    hook_infos: list[_HookInfo] | None = None
    hook_errors: list[Raw] | None = None


class _Attachment(Struct, rename="camel", gc=False):
    type: str | None = None
    prompt: Raw = Raw(b"null")
    human_turn: bool = False
    origin: _Origin | None = None
    hook_name: str | None = None
    tool_use_id: str | None = msgspec.field(default=None, name="toolUseID")
    exit_code: int | None = None
    stderr: str | None = None
    content: Raw = Raw(b"null")
    duration_ms: int | None = None
    remaining: float | None = None


class AttachmentRecord(_Record, tag="attachment"):
    """Something else the model was shown. A prompt that was typed while the model was busy is logged as one."""

    attachment: _Attachment | None = None


class _OutputConfig(Struct, gc=False):
    effort: str | None = None


class _Params(Struct, gc=False):
    model: str | None = None
    max_tokens: int | None = None
    thinking: Raw = Raw(b"null")
    output_config: _OutputConfig | None = None
    service_tier: str | None = None
    speed: str | None = None


class ApiRequestRecord(_Record, tag="api-request"):
    """One attempt at an API call, written when it starts (2.1.300 and later).

    Its messages are the first `keep` messages of the request `base`, followed by the messages whose hashes `tail`
    lists. `cut` says that Claude Code left something out of the log. `requests` explains the hashes and where the
    messages are logged.
    """

    id: str | None = None
    params: _Params | None = None
    base: str | None = None
    keep: int | None = None
    tail: Raw = Raw(b"null")
    shape_hash: str | None = None
    cut: Raw = Raw(b"null")


class RequestShapeRecord(_Record, tag="api-request-shape"):
    """The system prompt and the tools of all requests that name its hash. It has about 45 kB and is logged once."""

    shape_hash: str | None = None
    shape: Raw = Raw(b"null")


class RequestBlobRecord(_Record, tag="api-request-blob"):
    """A message of a request that is not in the lines of the conversation."""

    hash: str | None = None
    message: Raw = Raw(b"null")


class _ModelUsage(Struct, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation_5m: int | None = msgspec.field(default=None, name="cacheCreationEphemeral5mInputTokens")
    cache_creation_1h: int | None = msgspec.field(default=None, name="cacheCreationEphemeral1hInputTokens")
    web_search_requests: int | None = None


class CostStateRecord(_Record, tag="cost-state"):
    """Claude Code's totals since the session began, including earlier runs and forked parents (2.1.250 and later)."""

    total_cost_usd: float | None = msgspec.field(default=None, name="totalCostUSD")
    total_lines_added: int | None = None
    total_lines_removed: int | None = None
    model_usage: dict[str, _ModelUsage] | None = None


class AgentSettingRecord(_Record, tag="agent-setting"):
    """The agent that the session was started as (`--agent`)."""

    agent_setting: str | None = None


class _AiTitle(_Record, tag="ai-title"):
    ai_title: str | None = None


class _CustomTitle(_Record, tag="custom-title"):
    custom_title: str | None = None


class _Summary(_Record, tag="summary"):
    summary: str | None = None


class TitleRecord(Struct, kw_only=True, gc=False):
    """A title of the session.

    Attributes:
        session_id: the session it names; None if the line does not say.
        title: the title.
        chosen: whether the user chose it. A generated title does not replace such a one.
    """

    session_id: str | None
    title: str
    chosen: bool


class IgnoredRecord(Struct, gc=False):
    """A line of a known type that says nothing about calls."""

    type: str


Record = (
    UserRecord
    | AssistantRecord
    | SystemRecord
    | AttachmentRecord
    | ApiRequestRecord
    | RequestShapeRecord
    | RequestBlobRecord
    | CostStateRecord
    | AgentSettingRecord
    | TitleRecord
    | IgnoredRecord
    | UnknownRecord
)

_KNOWN = (
    UserRecord,
    AssistantRecord,
    SystemRecord,
    AttachmentRecord,
    ApiRequestRecord,
    CostStateRecord,
    AgentSettingRecord,
    _AiTitle,
    _CustomTitle,
    _Summary,
)
_BY_TAG: dict[str, type[_Record]] = {str(kind.__struct_config__.tag): kind for kind in _KNOWN}
# Most bytes of a log are in these lines. They are ignored unless requests are to be rebuilt.
_PARTS_BY_TAG: dict[str, type[_Record]] = {
    str(kind.__struct_config__.tag): kind for kind in (RequestShapeRecord, RequestBlobRecord)
}
# Records that `decode` returns as they are.
_FINAL = (
    UserRecord,
    AssistantRecord,
    SystemRecord,
    AttachmentRecord,
    ApiRequestRecord,
    RequestShapeRecord,
    RequestBlobRecord,
    CostStateRecord,
    AgentSettingRecord,
)
# Types that are known and say nothing about calls. `progress` lines (2.1.9 to 2.1.81) contain whole messages of
# subagents, but those are counted from the subagents' own files.
_IGNORED = frozenset(
    {
        "agent-color",
        "agent-name",
        "api-request-blob",
        "api-request-resumed",
        "api-request-shape",
        "artifact-autoreact-ledger",
        "artifact-comment-monitor",
        "atis-latch",
        "attribution-snapshot",
        "bridge-session",
        "content-replacement",
        "continued-in",
        "data-flow-incomplete",
        "data-flow-records",
        "derived-from",
        "dev-mods",
        "ended-by-model",
        "file-history-delta",
        "file-history-snapshot",
        "fork-context-ref",
        "frame-link",
        "history-suppression",
        "host-row",
        "hybrid-organization",
        "isolation-latch",
        "last-prompt",
        "memory-mode",
        "mode",
        "observer-ref",
        "permission-mode",
        "pr-link",
        "progress",
        "queue-operation",
        "relocated",
        "repl-mode",
        "resume-head-vouch",
        "session-owner",
        "tag",
        "tools-used",
        "worktree-state",
    },
)
_IGNORED_NAMES = frozenset(name.encode() for name in _IGNORED)


class _Header(Struct, gc=False):
    type: str = ""


class Block(Struct, gc=False):
    """One content block of a message.

    Attributes:
        type: `text`, `thinking`, `tool_use`, `tool_result`, `image` or another of the provider's names.
        id: in a tool_use, the call's id.
        name: in a tool_use, the tool's name.
        text: in a text block, the text, as raw JSON.
        input: in a tool_use, the arguments, as raw JSON.
        tool_use_id: in a tool_result, the id of the call it answers.
        content: in a tool_result, the result, as raw JSON.
        is_error: in a tool_result, whether the tool failed.
        raw: the whole block, as logged.
    """

    type: str = ""
    id: str | None = None
    name: str | None = None
    text: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    tool_use_id: str | None = None
    content: Raw | UnsetType = UNSET
    is_error: bool | None = None
    raw: bytes = b""

    @property
    def has_words(self) -> bool:
        """Whether this is a text block that is not empty."""
        if self.type != "text" or not isinstance(self.text, Raw):
            return False
        view = memoryview(self.text)
        return len(view) > len(b'""') and view[0] == _QUOTE

    @property
    def words(self) -> str:
        """The text of a text block; "" for any other block."""
        return (_decode_as_text(self.text) or "") if self.has_words and isinstance(self.text, Raw) else ""


class ToolUseResult(Struct, rename="camel", gc=False):
    """What Claude Code notes about a tool's run, beside the result that the model saw.

    Attributes:
        agent_id: the subagent that the call started.
        teammate_id: the teammate that the call started, as `name@team`.
        run_id: the run of a workflow that the call started, whose subagents' logs are in a folder of this name.
        is_async: whether that subagent runs in the background, so that this result is not its answer.
        interrupted: whether the user stopped the tool.
        status: the subagent's state in Claude Code's words.
        duration_ms: how long the tool took, in milliseconds.
        total_duration_ms: how long the subagent took, in milliseconds.
    """

    agent_id: str | None = None
    teammate_id: str | None = msgspec.field(default=None, name="teammate_id")
    run_id: str | None = None
    workflow_run_id: str | None = None
    is_async: bool = False
    interrupted: bool = False
    status: str | None = None
    duration_ms: Any = None
    total_duration_ms: Any = None

    @property
    def took_ms(self) -> int | None:
        """How long the tool took, in milliseconds."""
        took = self.duration_ms if self.duration_ms is not None else self.total_duration_ms
        return _count(round(took) if isinstance(took, float) and math.isfinite(took) else took)


class AgentMeta(Struct, rename="camel"):
    """The content of a subagent's meta file (2.1.72 and later).

    Attributes:
        agent_type: the kind of agent, such as `general-purpose`.
        tool_use_id: the call that started it (2.1.150 and later).
        parent_agent_id: the subagent that made this call; None if the main thread did.
        finished: whether the agent has ended (2.1.329).
        name: the name that the call gave it, if it is a teammate.
    """

    agent_type: str | None = None
    name: str | None = None
    tool_use_id: str | None = None
    parent_agent_id: str | None = None
    finished: bool = False


# Counts are whatever a gateway writes: `10`, `10.0` or `"10"`. See `_count`.
class _CacheCreation(Struct, gc=False):
    ephemeral_5m_input_tokens: Any = None
    ephemeral_1h_input_tokens: Any = None


class _OutputDetails(Struct, gc=False):
    thinking_tokens: Any = None


class _ServerTools(Struct, gc=False):
    web_search_requests: Any = None


class _Usage(Struct, gc=False):
    type: str | None = None
    model: str | None = None
    iterations: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None


_decode_known = msgspec.json.Decoder(
    UserRecord | AssistantRecord | SystemRecord | AttachmentRecord | ApiRequestRecord | CostStateRecord
    | AgentSettingRecord | _AiTitle | _CustomTitle | _Summary
).decode  # fmt: skip
_decode_part = msgspec.json.Decoder(RequestShapeRecord | RequestBlobRecord).decode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_QUOTE = ord('"')
_BRACE = ord("{")
_decode_strings = msgspec.json.Decoder(list[str]).decode


_NULL = Raw(b"null")
_TYPE = re.compile(rb'"type"\s*:\s*"([a-z][a-z-]*)"')


def decode(line: bytes, *, requests: bool = False) -> Record:
    """Decode one line of a session log.

    Args:
        line: the line, without its line end.
        requests: whether to decode the lines that requests are rebuilt from. They are ignored otherwise.

    Raises:
        RecordError: the line is not a JSON object. The reason quotes no content.
    """
    line = sendable(line)
    # Most bytes of a log are in lines of ignored types. A search finds their type without decoding them. If it finds a
    # nested "type" instead of the line's own, the decoder below decides.
    found = _TYPE.search(line, 0, 400)
    if found is not None and found[1] in _IGNORED_NAMES:
        try:
            header = _decode_header(line)
            if requests and header.type in _PARTS_BY_TAG:
                return _finish(_decode_part(line))
        except (msgspec.MsgspecError, RecursionError):
            return _decode_slowly(line, requests=requests)
        if header.type in _IGNORED:
            return IgnoredRecord(header.type)
    try:
        return _finish(_decode_known(line))
    except (msgspec.MsgspecError, RecursionError):
        return _decode_slowly(line, requests=requests)


def _finish(record: _Record) -> Record:
    if isinstance(record, _FINAL):
        return record
    if isinstance(record, _AiTitle):
        return _title(record, record.ai_title, chosen=False)
    if isinstance(record, _CustomTitle):
        return _title(record, record.custom_title, chosen=True)
    assert isinstance(record, _Summary)
    return _title(record, record.summary, chosen=False)


def _title(record: _Record, title: str | None, *, chosen: bool) -> Record:
    if not title:
        return IgnoredRecord("title")
    return TitleRecord(session_id=record.session_id, title=title, chosen=chosen)


def _decode_slowly(line: bytes, *, requests: bool) -> Record:
    """Decode a line that the typed decoder rejects: it has an unknown type, or a field of an unexpected type."""
    value = decode_object(line)
    kind = value.get("type")
    if not isinstance(kind, str):
        return UnknownRecord("")
    struct = _BY_TAG.get(kind) or (_PARTS_BY_TAG.get(kind) if requests else None)
    if struct is None:
        return IgnoredRecord(kind) if kind in _IGNORED else UnknownRecord(kind)
    try:
        record = build(struct, value)
    except (RecursionError, msgspec.MsgspecError):
        raise RecordError("nested too deep") from None
    assert isinstance(record, _Record)
    return _finish(record)


class Shape(Struct):
    """The parts of a request that the next requests usually share. The keys are those of the provider's API.

    Attributes:
        system: the system prompt as raw JSON, a string or a list of blocks.
        tools: the definitions of the tools as raw JSON, a list.
    """

    system: Raw = Raw(b"null")
    tools: Raw = Raw(b"null")


_decode_message: Callable[[bytes | Raw], Message] = msgspec.json.Decoder(Message).decode
_decode_shape: Callable[[bytes | Raw], Shape] = msgspec.json.Decoder(Shape).decode
_decode_block: Callable[[bytes | Raw], Block] = msgspec.json.Decoder(Block).decode
_decode_blocks = msgspec.json.Decoder(list[Block]).decode
_decode_usage: Callable[[bytes | Raw], _Usage] = msgspec.json.Decoder(_Usage).decode
_decode_result: Callable[[bytes | Raw], ToolUseResult] = msgspec.json.Decoder(ToolUseResult).decode
_decode_meta: Callable[[bytes | Raw], AgentMeta] = msgspec.json.Decoder(AgentMeta).decode


def _decode_as_text(data: Raw) -> str | None:
    try:
        return _decode_text(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def not_null(data: Raw) -> bytes | None:
    """Return a raw value as JSON; None if it is missing or null."""
    return None if data == _NULL else bytes(data)


def blocks(content: Raw) -> list[Block]:
    """Return the blocks of a message's content. A string counts as one text block; anything else has no blocks."""
    data = bytes(content)
    if data[:1] == b'"':
        return [Block(type="text", text=Raw(data), raw=b'{"type":"text","text":' + data + b"}")]
    try:
        # Usually there is one block, and its bytes are everything between the brackets.
        [only] = _decode_blocks(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        pass
    else:
        only.raw = data[1:-1].strip(b" \t\r\n")
        return [only]
    try:
        items = _decode_list(data)
    except (msgspec.MsgspecError, RecursionError):
        return []
    found = []
    for item in items:
        part = decode_as(Block, _decode_block, item)
        if part is not None:
            part.raw = bytes(item)
            found.append(part)
    return found


def request_message(record: RequestBlobRecord) -> Message | None:
    """Return the message in a line; None if there is none."""
    return decode_as(Message, _decode_message, record.message)


def shape(record: RequestShapeRecord) -> Shape | None:
    """Return the system prompt and the tools in a line; None if there are none."""
    return decode_as(Shape, _decode_shape, record.shape)


def strings(data: Raw) -> list[str] | None:
    """Decode a list of strings from raw JSON; return None if it is not one."""
    try:
        return _decode_strings(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


def text_of(content: Raw) -> str:
    """Return the text of a message's content: a string as it is, text blocks joined by line breaks."""
    return words_of(blocks(content))


def words_of(parts: Iterable[Block]) -> str:
    """Return the text of all text blocks, joined by line breaks."""
    return "\n".join(part.words for part in parts if part.has_words)


def block(raw: bytes) -> Block | None:
    """Decode one block from its bytes, as `blocks` returned them; return None if they are not a block."""
    return decode_as(Block, _decode_block, raw)


def tool_use_result(record: UserRecord) -> ToolUseResult:
    """Return what Claude Code notes about a tool's run, beside the result that the model saw."""
    if record.tool_use_result == _NULL or memoryview(record.tool_use_result)[0] != _BRACE:
        return ToolUseResult()
    return decode_as(ToolUseResult, _decode_result, record.tool_use_result) or ToolUseResult()


def hook_runs(record: AttachmentRecord | SystemRecord) -> tuple[str, list[HookRun]]:
    """Return the runs of hooks that a line reports, and the id of the call or stop they belong to.

    Since 2.1.100, Claude Code writes a line for each run. In all versions, it also writes one that sums up the hooks
    that ran when a turn stopped.
    """
    if isinstance(record, SystemRecord):
        failures = len(record.hook_errors or ())
        infos = record.hook_infos or ()
        runs = [
            HookRun(name="Stop", duration_ms=_count(info.duration_ms), failed=index < failures, error=None)
            for index, info in enumerate(infos)
        ]
        return record.tool_use_id or "", runs
    noted = record.attachment
    kind = (noted.type if noted is not None else None) or ""
    if noted is None or not (kind == "hook_success" or (kind.startswith("hook_") and kind.endswith(_HOOK_FAILURES))):
        return "", []
    failed = kind != "hook_success" or noted.exit_code not in (None, 0)
    words = noted.stderr or (text_of(noted.content) if failed else None)
    run = HookRun(
        name=noted.hook_name or "",
        duration_ms=_count(noted.duration_ms),
        failed=failed,
        error=words if failed and words else None,
    )
    return noted.tool_use_id or "", [run]


_HOOK_FAILURES = ("error", "cancelled", "error_during_execution")


def stopped_by(record: AttachmentRecord) -> str | None:
    """Return which of the user's limits stopped the client, as the client calls it; None if *record* says none."""
    noted = record.attachment
    if noted is None:
        return None
    # What is left of a budget is noted again and again.
    is_spent = noted.type == "budget_usd" and noted.remaining is not None and noted.remaining <= 0
    return noted.type if noted.type == "max_turns_reached" or is_spent else None


def model_usage(record: CostStateRecord) -> dict[str, TokenUsage]:
    """Return Claude Code's totals by model, as answers call the model: without the size of its context (`[1m]`)."""
    found: dict[str, TokenUsage] = {}
    for key, counts in (record.model_usage or {}).items():
        model = key.partition("[")[0]
        before = found.get(model, TokenUsage())
        found[model] = TokenUsage(
            input=(before.input or 0) + (_count(counts.input_tokens) or 0),
            output=(before.output or 0) + (_count(counts.output_tokens) or 0),
            cache_read=(before.cache_read or 0) + (_count(counts.cache_read_input_tokens) or 0),
            cache_creation=(before.cache_creation or 0) + (_count(counts.cache_creation_input_tokens) or 0),
            # 2.1.329 tells these. Older totals may not.
            cache_creation_5m=_sum(before.cache_creation_5m, _count(counts.cache_creation_5m)),
            cache_creation_1h=_sum(before.cache_creation_1h, _count(counts.cache_creation_1h)),
            web_searches=_sum(before.web_searches, _count(counts.web_search_requests)),
        )
    return found


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


def usage(message: Message) -> TokenUsage | None:
    """Return the token counts in a line; None if it has none."""
    return None if message.usage == _NULL else _token_usage(bytes(message.usage))


# The lines of one message usually have the same counts.
@lru_cache(maxsize=16)
def _token_usage(data: bytes) -> TokenUsage | None:
    counts = decode_as(_Usage, _decode_usage, data)
    return None if counts is None else _counted(counts, data)


def _counted(counts: _Usage, data: bytes | None) -> TokenUsage:
    cache, thinking, tools = counts.cache_creation, counts.output_tokens_details, counts.server_tool_use
    created = _count(counts.cache_creation_input_tokens)
    short = _count(cache.ephemeral_5m_input_tokens) if cache else None
    long = _count(cache.ephemeral_1h_input_tokens) if cache else None
    if counts.cache_creation_input_tokens is None and short is not None and long is not None:
        created = short + long
    return TokenUsage(
        input=_count(counts.input_tokens),
        output=_count(counts.output_tokens),
        cache_read=_count(counts.cache_read_input_tokens),
        cache_creation=created,
        cache_creation_5m=short,
        cache_creation_1h=long,
        reasoning=_count(thinking.thinking_tokens) if thinking else None,
        web_searches=_count(tools.web_search_requests) if tools else None,
        service_tier=counts.service_tier,
        speed=counts.speed,
        inner=tuple(_inner_calls(counts.iterations)) if counts.iterations else (),
        raw=data,
    )


def _inner_calls(iterations: Any) -> Iterator[InnerCall]:
    """Yield the calls that were made inside one. The parts of the call itself are of type `message`."""
    for index, part in enumerate(iterations if isinstance(iterations, list) else ()):
        if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] != "message":
            counts = build(_Usage, part)
            if isinstance(counts, _Usage):
                counts.iterations = None
                yield InnerCall(index=index, kind=part["type"], model=counts.model, usage=_counted(counts, None))


def api_error(error: Raw, cause: Raw) -> ApiError:
    """Return what a line about a failed attempt says, whoever wrote it.

    It holds an object, one in another, a text that may hold JSON, or nothing; without an answer it holds the cause.
    """
    said = _read_error(_decode_any(error), 0)
    because = _decode_any(cause)
    code = because.get("code") if isinstance(because, dict) else None
    if said.type is None and isinstance(code, str):
        said = replace(said, type=code)
    return said if said.message else replace(said, message=said.type)


def api_error_words(words: str) -> str:
    """Return the text of a permanent error in words: JSON or a page in it is replaced by the message that it holds."""
    words = markup.words(words)
    found = _read_error(words, 0)
    if found.message and "{" in words and "{" not in found.message:
        head = words[: words.index("{")].rstrip()
        return f"{head} {found.message}".strip()
    return words


_NESTED = 6
_LISTED = 8
# Beside those of Anthropic's API: FastAPI's `detail`, a list or a text; AWS's `Message`; OAuth's description; the
# `title` of RFC 9457; Google's list of errors, whose `status` is a word and whose `code` is the status.
_TELLING = (
    "error",
    "message",
    "Message",
    "detail",
    "errors",
    "msg",
    "error_description",
    "error_message",
    "title",
    "cause",
    "formatted",
)
_STATUS_KEYS = ("status", "statusCode", "status_code", "code")
_TYPE_KEYS = ("type", "code", "status", "__type", "name")
_LEADING_STATUS = re.compile(r"(?:API Error: ?)?(\d{3})\b[ :]*")


def _read_error(value: Any, depth: int) -> ApiError:
    if depth > _NESTED:
        return ApiError()
    if isinstance(value, str):
        return _read_error_text(value, depth)
    if isinstance(value, list):
        listed = (_read_error(each, depth + 1) for each in value[:_LISTED])
        return next((each for each in listed if each != ApiError()), ApiError())
    if not isinstance(value, dict):
        return ApiError()
    inner = ApiError()
    for key in _TELLING:
        found = _read_error(value.get(key), depth + 1)
        inner = ApiError(
            status=inner.status or found.status, type=inner.type or found.type, message=inner.message or found.message
        )
    status = next((code for key in _STATUS_KEYS if (code := _status_of(value.get(key)))), inner.status)
    kind = next((value[key] for key in _TYPE_KEYS if _is_error_type(value.get(key))), None)
    return ApiError(status=status, type=inner.type or kind, message=inner.message)


def _read_error_text(text: str, depth: int) -> ApiError:
    text = markup.words(text)
    leading = _LEADING_STATUS.match(text)
    status = _status_of(leading[1]) if leading else None
    if "{" in text:
        nested = _decode_any(Raw(text[text.index("{") : text.rindex("}") + 1].encode())) if "}" in text else None
        if isinstance(nested, dict):
            found = _read_error(nested, depth + 1)
            return replace(found, status=found.status or status)
    words = text[leading.end() :] if leading and depth else text
    return ApiError(status=status, message=words.strip() or None)


_STATUSES = range(100, 600)


def _status_of(value: Any) -> int | None:
    number = _count(value)
    return number if number in _STATUSES else None


def _is_error_type(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.lower() != "error"
        and _status_of(value) is None
        and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value) is not None
    )


def _decode_any(data: Raw) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return None


_DIGITS = re.compile(r"([0-9]{1,19})(?:\.0+)?")


def _count(value: Any) -> int | None:
    """Return a count, however a gateway spells it: `10`, `10.0`, `"10"` or `"10.0"`; None for what is none."""
    if value is None:
        return None
    if type(value) is not int:
        if isinstance(value, str) and (digits := _DIGITS.fullmatch(value)):
            value = int(digits[1])
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
    # The receiver's columns are signed 64-bit integers. It would drop an event with a larger or negative count.
    return value if 0 <= value < 2**63 else None


class _MessageId(Struct, gc=False):
    id: str | None = None


class Glance(Struct, rename="camel", gc=False):
    """The few fields of a line that tell which session a file belongs to and when it begins.

    Attributes:
        timestamp: the line's time, as text.
        session_id: the session that the line names.
        is_copy: whether it says that it is a copy of another session's.
    """

    timestamp: str | None = None
    session_id: str | None = None
    uuid: str | None = None
    parent_uuid: str | None = None
    message: _MessageId | None = None
    request_session_id: str | None = None
    forked_from: Raw = Raw(b"null")

    @property
    def is_copy(self) -> bool:
        """Whether the line says that it is a copy of another session's.

        2.1.45 wrote copies in which each line's new uuid is the id of its message, too.
        """
        if self.message is not None and self.message.id is not None and self.message.id == self.uuid:
            return True
        return self.request_session_id is not None or not_null(self.forked_from) is not None

    @property
    def original(self) -> str | None:
        """The session that the line was copied from; None if it does not say that it is a copy, or of what."""
        fork = decode_as(_Fork, _decode_fork, self.forked_from) if not_null(self.forked_from) is not None else None
        named = self.request_session_id or (fork.session_id if fork is not None else None)
        return named if named != self.session_id else None


_decode_fork: Callable[[bytes | Raw], _Fork] = msgspec.json.Decoder(_Fork).decode
_decode_glance: Callable[[bytes | Raw], Glance] = msgspec.json.Decoder(Glance).decode


def glance(line: bytes) -> Glance:
    """Decode only what a line says about its file; return an empty Glance for a line that is not a record."""
    return decode_as(Glance, _decode_glance, sendable(line)) or Glance()


_SESSION_KEY = b'"sessionId"'


def names_another(data: bytes, session: str) -> bool:
    """Whether some lines may name another session than *session*; a copied line may name its original, too."""
    return data.count(_SESSION_KEY) != data.count(_SESSION_KEY + b':"' + session.encode() + b'"')


def session_of(record: object) -> str | None:
    """Return the session that a record names; None if it names none."""
    return record.session_id if isinstance(record, _NAMING) else None


# It is asked of every line, and `_Record | TitleRecord` would be built each time.
_NAMING = (_Record, TitleRecord)


def decode_meta(data: bytes) -> AgentMeta | None:
    """Decode a subagent's meta file; return None while it is not a JSON object, such as when it is half written."""
    return decode_as(AgentMeta, _decode_meta, sendable(data))
