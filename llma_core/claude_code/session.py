"""Turns the records of one session into spans, and decides when each span is final.

Theory of operation
===================

The problem. A session is one main log plus one log for each subagent. Claude Code writes an API response as several
lines, one for each content block. Each of these lines carries the response's id and the token counts of the whole
response. Tools start before the response has ended, so their results are logged between its lines. Subagents that run
in parallel write to their own files at the same time. And no line ever says "this response is complete now".

This module reads the lines of all these files and gives out a span when nothing more can change it.

Threads. The main conversation is a thread, and so is every subagent. Each thread has at most one open message (API
response) for each branch of the conversation: two terminals that go on with one session write into one file at the same
time. The message is finished when one of these happens:

    1. Another message of the same thread, a human prompt or an interrupt line follows. A line that is known to be on
       another branch does not follow it.
    2. One of its lines has a stop reason, and no further line came for the settle time. This does not hold for a stop
       reason that promises more: `tool_use` promises a call, and `end_turn` something after the thoughts. Before 2.1.25
       `tool_use` also promises the call's result, which finishes the message.
    3. The thread's next request was written, and no further line came for the settle time.
    4. Nothing came on the thread for the quiet time.
    5. The caller says that the session has ended.

A tool result does not finish a message, with one exception: in logs before 2.1.25, a result finishes the message that
made the call. Rule 1 depends on the lines alone, so every replay gives the same result. Rules 2 to 5 depend on time,
which the caller passes in. If a line comes for a message that is already finished, only its tool calls still count.
They are given out, and the message is not given out again.

Calls. A tool call is finished when its message is finished and its result has come, in either order. Since 2.1.91,
Claude Code logs the hooks that ran after a tool, and these lines follow the result. So the call also waits until the
thread goes on with a request, an answer or a prompt, or until the settle time is over. A result that comes before its
call waits for the call. A result may also come after the next prompt, for example when the user refuses a tool by
typing something else. But no request has a call without its result. So a call that never gets a result is given out
when the model answers a later prompt on the call's branch of the conversation, or at the end.

Links. A span of a subagent needs the call that started the subagent: it determines the span's parent, prompt and trace.
The subagent's spans wait until that call's line has been read. Calls of Agent, Task, Skill and Workflow start
subagents. The call is found in these ways, in this order:

    1. by the subagent's meta file, or by its own first line if it began as a fork of its parent,
    2. by the tool result that names the subagent, or the workflow's run in whose folder the subagent's log is,
    3. by the name that the call gave the teammate, or by the skill whose text is the subagent's first,
    4. as the oldest call whose prompt is the subagent's first text and which started no other subagent.

The spans wait as long as such a call may still come: one has no result and started nothing yet, the main thread's next
message is not there yet, or the log of another subagent is not read to its end. If none may come, they are given out
without it after the settle time. They are given out without it after the quiet time, or at the end, in any case.

Forks. The log of a subagent that is a fork of its parent begins with lines that the parent wrote, before the parent's
own log has them. A subagent's own lines begin with its own first text.

Snapshots. A span says what was true at its last line. A subagent's span says what was true at the line of the call that
started the subagent. What was read later has no influence. So reading slowly, quickly or twice gives the same spans.

A subagent that works on when the user starts a new conversation (`/clear`) is logged in the folder of the new session.
Its lines there belong to the session that started it.

Copies. Forks and resumed sessions copy lines into another session's log. The `copied` callback tells whether another
session wrote a message or a prompt first. A copy takes part in the conversation here, but it is not given out. 2.1.45
wrote copies in which every line has a new uuid, which is the message's id, too. Such a message is recognized by the id
of its request, together with the model and the time, because some gateways give all requests the same id.

Whole inputs. If the caller asks for them, every thread remembers what was said (`conversation`) and which requests were
made (`requests`). The memory of each thread has its own bound, so that lines of other files make no difference. What an
answer was given, and the messages before it, are looked up at the answer's first line. Lines that only serve to rebuild
requests do not count as needed lines.

Needed lines. `needed_from` returns, for each file, where the oldest line starts that a span still to come is made from.
A reader can start again from there, after a replay of the lines before it, without losing anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal, assert_never

import msgspec
from msgspec.structs import replace

from llma_core.agent import Accumulator, Copied, Opened, Passed, UnknownRecord
from llma_core.claude_code import layout, prompts
from llma_core.claude_code.conversation import Conversation
from llma_core.claude_code.endings import Endings, Totals
from llma_core.claude_code.framework import FRAMEWORK
from llma_core.claude_code.records import (
    AgentMeta,
    AgentSettingRecord,
    ApiRequestRecord,
    AssistantRecord,
    AttachmentRecord,
    Block,
    CostStateRecord,
    IgnoredRecord,
    Record,
    RequestBlobRecord,
    RequestShapeRecord,
    SystemRecord,
    TitleRecord,
    UserRecord,
    api_error,
    api_error_words,
    blocks,
    hook_runs,
    model_usage,
    not_null,
    stopped_by,
    text_of,
    tool_use_result,
    usage,
    words_of,
)
from llma_core.claude_code.requests import RequestLog
from llma_core.claude_code.tally import ClientTotals, Tally
from llma_core.claude_code.thread import (
    AGENT_TOOLS,
    SIDE,
    STARTERS,
    Answer,
    Call,
    Input,
    LineContext,
    OpenCompaction,
    OpenMessage,
    PromptLine,
    Result,
    Thread,
    WaitingSpan,
    WholeInput,
)
from llma_core.claude_code.usage import Reading, combine
from llma_core.spans import (
    ApiFailure,
    Compaction,
    ContentBlock,
    Context,
    Generation,
    HookRun,
    InputMessage,
    LineRange,
    Metric,
    OpeningTrace,
    Prompt,
    SideCalls,
    Span,
    TokenUsage,
    ToolCall,
    TurnKey,
    checksum_of,
    settled_name,
)
from llma_core.timestamps import milliseconds

__all__ = ["QUIET_SECONDS", "SETTLE_SECONDS", "SessionAccumulator"]

SETTLE_SECONDS = 1.0
"""Seconds without a line after which a message with a stop reason is final.

Claude Code buffers its log; the blocks of one message come at most two flushes apart.
"""
_FINISHED_SECONDS = 5.0
"""Seconds without a line after which a subagent is over whose meta file says so.

The meta file is written up to 0.75 s before the subagent's last line (2.1.332).
"""
QUIET_SECONDS = 300.0
"""Seconds without a line after which a message without a stop reason is final. No message in 980 logs paused longer."""

_REMEMBERED_LINES = 100_000
"""Number of lines whose prompt is remembered. The longest distance seen from an answer to its prompt is 941 lines."""

_WORKFLOW = "Workflow"
_NAMED = frozenset({*AGENT_TOOLS, "Skill", "SlashCommand", _WORKFLOW})
"""Tools whose calls are named by what they start."""

_PROMPTS_ABOVE = 1000
"""Number of prompts that are looked at, at most, to find out whether two lines are on different branches."""

_THOUGHTS = frozenset({"thinking", "redacted_thinking"})
_SYNTHETIC = "<synthetic>"
_WARM_UP = "Warmup"
_RESULT_ENDS_MESSAGE_BEFORE = (2, 1, 25)
_COPIES_WITH_NEW_IDS_BEFORE = (2, 1, 100)
"""Version of which no log was seen that was copied with new ids. 2.1.45 wrote such copies."""
_NOTES_HOOKS_SINCE = (2, 1, 91)
_STOP_DETAILS_SINCE = (2, 1, 150)
_ENDS_WITH_STOP_REASON_SINCE = (2, 1, 73)
_DENIED_BEFORE_RUN_SINCE = (2, 1, 329)
_STATUS = re.compile(r"API Error: (\d{3})\b")
_ERROR_TYPE = re.compile(r'"type"\s*:\s*"(\w+_error)"')


def _never(_name: str, _checksum: bytes | None, _at: int | None) -> bool:
    return False


def _ignore(_name: str, _checksum: bytes, _lines: LineRange) -> None:
    pass


def _let_pass(_name: str, _lines: LineRange) -> None:
    pass


@lru_cache(maxsize=64)
def _version(text: str | None) -> tuple[int, ...]:
    parts = re.findall(r"\d+", text or "")
    # A real version has short parts, and int() refuses thousands of digits.
    return tuple(int(part[:9]) for part in parts[:3])


_VERTEX = re.compile(r"@(\d{8}|latest|default)$")
_PATHS = ("accounts", "models", "projects", "publishers")
_PREFIX = re.compile(r"([a-z][a-z0-9_.-]{0,40})/")


@lru_cache(maxsize=64)
def _provider(model: str | None) -> str | None:
    """Return who served *model*, judged by the form of its id; None if it does not say, as a gateway's does not."""
    name = (model or "").lower()
    if "anthropic." in name or name.startswith("arn:"):
        return "bedrock"
    if name.startswith("vertex_ai/") or _VERTEX.search(name):
        return "vertex"
    if name.startswith("claude"):
        return "anthropic"
    found = _PREFIX.match(name)
    return found[1] if found and found[1] not in _PATHS else None


class _CallInput(msgspec.Struct):
    prompt: str | None = None
    subagent_type: str | None = None
    skill: str | None = None
    command: str | None = None
    name: str | None = None

    def subject(self, tool: str) -> str | None:
        """Return the name of what a call of *tool* starts."""
        match tool:
            case "Agent" | "Task":
                return self.subagent_type
            case "Skill":
                return self.skill or self.command
            case "Workflow":
                return self.name
            case "SlashCommand":
                return (self.command or "").split(" ")[0] or None
            case _:
                return None


class SessionAccumulator(Accumulator):
    """The state of one session. Each method that takes input returns the spans that became final, in that order.

    Args:
        session: the session's id, from its file name. Lines that name no session belong to it.
        copied: tells what another session wrote first.
        opened: called when a message begins.
        passed: called for each copy that is not given out.
        settle: the settle time in seconds; see rules 2 and 3.
        quiet: the quiet time in seconds; see rule 4.
        whole_inputs: whether generations get their whole inputs. This costs memory; see `conversation` and `requests`.
            The records must then be decoded with `requests=True`.
    """

    def __init__(
        self,
        session: str,
        *,
        copied: Copied = _never,
        opened: Opened = _ignore,
        passed: Passed = _let_pass,
        settle: float = SETTLE_SECONDS,
        quiet: float = QUIET_SECONDS,
        whole_inputs: bool = False,
    ) -> None:
        self.session = session
        self._copied = copied
        self._opened = opened
        self._passed = passed
        self._settle = settle
        self._quiet = quiet
        self._whole_inputs = whole_inputs
        self._out: list[Span] = []
        self._main = self._new_thread("")
        self._threads: dict[str, Thread] = {"": self._main}
        self._side_threads: dict[str, str] = {}
        self._prompts_by_line: dict[str, PromptLine] = {}
        self._prompts_by_id: dict[str, PromptLine] = {}
        self._finished: dict[str, bool] = {}
        self._seen_names: set[str] = set()
        self._known_calls: dict[str, str] = {}
        self._answers: dict[str, list[Answer]] = {}
        self._agent_calls: dict[str, Call] = {}
        self._agent_results: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._links_changed = False
        self._title: str | None = None
        self._title_chosen = False
        self._title_is_own = False
        self._agent: str | None = None
        self._agent_is_own = False
        self._first_name: str | None = None
        self._client = ClientTotals()
        self._endings = Endings()
        self._latest: LineContext | None = None
        self._notified: set[str] = set()
        self._sessions: dict[str, Tally] = {}
        self._by_turn = True
        self._turns: dict[tuple[str, TurnKey], Tally] = {}
        self._ended_turns: set[TurnKey] = set()
        self._turn: TurnKey | None = None
        self._other_folders: dict[str, bool] = {}
        self._hooked: set[str] = set()
        self._early_hooks: list[HookRun] = []
        self._early_unknown = 0
        self._unknown_by_turn: Counter[TurnKey] = Counter()
        self._has_copies = False
        self._hides_copies = False
        self._heard_at = 0.0
        self.first_cwd: str | None = None

    # ------------------------------------------------------------------ input

    def feed(self, record: Record, lines: LineRange, *, agent: str | None = None, now: float) -> list[Span]:
        """Process one line.

        Args:
            record: the line's record.
            lines: the line's place.
            agent: the subagent whose file it is from; None for the main file.
            now: seconds on any steady clock.
        """
        self._heard_at = now
        if agent is not None and self._is_of_another_folder(lines.file):
            _rename(record, self.session)
        # The most common ones come first.
        match record:
            case AssistantRecord():
                thread = self._thread_of(record, agent, now)
                if agent is not None and _is_inherited(record, thread):
                    thread.inherited.append((record, lines))
                else:
                    self._assistant(record, thread, lines, now)
            case UserRecord():
                thread = self._thread_of(record, agent, now)
                self._user(record, thread, lines, now)
            case ApiRequestRecord():
                self._request(record, self._thread(agent or record.agent_id or "", now))
            case IgnoredRecord():
                pass
            case SystemRecord():
                self._system(record, self._thread_of(record, agent, now), lines, now)
            case AttachmentRecord():
                self._attachment(record, self._thread_of(record, agent, now), lines)
            case RequestShapeRecord() | RequestBlobRecord():
                self._request_part(record, agent or record.agent_id or "")
            case CostStateRecord() | AgentSettingRecord() | TitleRecord():
                self._about_session(record, lines)
            case UnknownRecord():
                self._count_unknown(agent, now)
            case _:
                assert_never(record)
        if self._links_changed:
            self._link()
        return self._drain() if self._out else []

    def _is_of_another_folder(self, file: str) -> bool:
        """Whether a subagent's log is in another session's folder: it goes on there after `/clear` (2.1.332)."""
        found = self._other_folders.get(file)
        if found is None:
            place = layout.classify(file)
            found = place is not None and place.session not in (None, self.session)
            self._other_folders[file] = found
        return found

    def link(self, agent: str, meta: AgentMeta, *, now: float) -> list[Span]:
        """Process a subagent's meta file."""
        thread = self._thread(agent, now)
        if thread.meta != meta:
            thread.meta = meta
            thread.agent_type = meta.agent_type or thread.agent_type
            self._link()
        return self._drain()

    def forget_turns(self) -> None:
        """Keep no sums of turns from now on, if nobody wants traces of turns. Their texts would take up memory."""
        if self._by_turn:
            self._by_turn = False
            self._turns.clear()

    def hide_copies(self) -> None:
        """Let nothing that was copied from another session, or sums it up, be part of a span from now on."""
        self._hides_copies = True

    def poll(self, now: float) -> list[Span]:
        """Finish whatever has been quiet for long enough."""
        for thread in sorted(self._threads.values(), key=_order):
            for message in thread.messages:
                if now >= message.heard_at + self._patience(message):
                    self._finish_message(thread, message, now)
            self._wait_no_more(thread, now)
            if thread.waiting and now >= thread.waiting[0].heard_at + self._link_patience(thread):
                self._emit_waiting(thread, self._parent_context(thread, late=True) or self._fallback_context(thread))
            for call in list(thread.calls.values()):
                if call.result is not None and not call.is_complete and now >= call.result.heard_at + self._settle:
                    call.is_complete = True
                    self._emit_call(call)
        self._link()
        if self._turn is not None and not self._main.working and now >= self._heard_at + self._quiet:
            self._ended_turns.add(self._turn)
        if now >= self._heard_at + self._settle:
            for key in self._endable_turns():
                if not self._is_busy(key[1], now):
                    self._emit_turn(key)
        return self._drain()

    def _wait_no_more(self, thread: Thread, now: float) -> None:
        """Give up what should have come by now: a subagent's text, a compaction's summary, the calls of results."""
        if thread.inherited and now >= thread.heard_at + self._quiet:
            self._own(thread, now)
        if thread.compaction is not None and now >= thread.compaction.heard_at + self._quiet:
            self._close_compaction(thread, now)
        for call_id, orphan in list(thread.orphans.items()):
            if now >= orphan.heard_at + self._quiet:
                del thread.orphans[call_id]

    def end(self, now: float) -> list[Span]:
        """Finish everything: the session has ended, or no further line will come."""
        for thread in self._threads.values():
            self._own(thread, now)
            self._close_compaction(thread, now)
            self._finish(thread, now)
        self._link()
        for thread in sorted(self._threads.values(), key=_order):
            if thread.is_subagent and thread.parent_context is None:
                self._emit_waiting(thread, self._parent_context(thread, late=True) or self._fallback_context(thread))
        self._break_off(self._main)
        self._count_early_unknown(copied=False)
        for thread in self._threads.values():
            self._complete_calls(thread)
            self._abandon_calls(thread)
            thread.orphans.clear()
            thread.rest()
        self._close_endings()
        for key in list(self._turns):
            self._emit_turn(key)
        has_totals = not (self._hides_copies and self._has_copies)
        for tally in self._sessions.values():
            if tally.opened and tally.changed:
                tally.changed = False
                tally.name = self._session_name(tally.session)
                self._out.append(tally.trace(self._client if has_totals and tally.session == self.session else None))
        return self._drain()

    # ------------------------------------------------------------------ state

    @property
    def idle(self) -> bool:
        """Whether nothing is open: no message, no call, no compaction and no waiting span."""
        return not any(
            thread.messages or thread.waiting or thread.calls or thread.compaction for thread in self._threads.values()
        )

    @property
    def at_rest(self) -> bool:
        """Whether nothing is open and, if turns have traces, no thread works: a turn's trace is given out only once."""
        return self.idle and not (self._by_turn and any(thread.working for thread in self._threads.values()))

    def due(self) -> float | None:
        """Return when `poll` may finish something, in seconds on the clock of `now`; None if only a line can."""
        times: list[float] = []
        for thread in self._threads.values():
            times.extend(message.heard_at + self._patience(message) for message in thread.messages)
            if thread.inherited:
                times.append(thread.heard_at + self._quiet)
            if thread.waiting:
                times.append(thread.waiting[0].heard_at + self._link_patience(thread))
            if thread.compaction is not None:
                times.append(thread.compaction.heard_at + self._quiet)
            times.extend(
                call.result.heard_at + self._settle
                for call in thread.calls.values()
                if call.result is not None and not call.is_complete
            )
            times.extend(orphan.heard_at + self._quiet for orphan in thread.orphans.values())
        turn = self._turn if self._by_turn else None
        if turn is not None and turn not in self._ended_turns and not self._main.working:
            times.append(self._heard_at + self._quiet)
        # A turn that has ended but is busy waits for lines, or for one of these times.
        endable = self._endable_turns()
        if any(not self._is_busy(turn, self._heard_at) for _, turn in endable):
            times.append(self._heard_at + self._settle)
        elif endable:
            times.extend(self._over_at(thread) for thread in self._threads.values() if thread.key and thread.working)
        return min(times, default=None)

    def needed_from(self) -> dict[str, int]:
        """Return, for each file, the offset of the oldest line that a span still to come is made from."""
        oldest: dict[str, int] = {}
        for thread in self._threads.values():
            for lines in thread.needed():
                oldest[lines.file] = min(lines.start, oldest.get(lines.file, lines.start))
        for lines in self._endings.needed():
            oldest[lines.file] = min(lines.start, oldest.get(lines.file, lines.start))
        return oldest

    # ------------------------------------------------------------------ threads and the context of a line

    def _thread(self, key: str, now: float) -> Thread:
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = self._new_thread(key)
        thread.heard_at = now
        return thread

    def _new_thread(self, key: str) -> Thread:
        if not self._whole_inputs:
            return Thread(key=key)
        return Thread(key=key, conversation=Conversation(), request_log=RequestLog())

    def _thread_of(
        self,
        record: UserRecord | AssistantRecord | SystemRecord | AttachmentRecord,
        agent: str | None,
        now: float,
    ) -> Thread:
        if self.first_cwd is None and record.cwd:
            self.first_cwd = record.cwd
        key = agent or (record.agent_id if record.is_sidechain else None) or ""
        if not key and record.is_sidechain:
            # Up to 2.0.1, subagents write into the main file without an id. Each has a chain of lines of its own that
            # begins without a parent, and only these chains tell parallel subagents apart.
            key = self._side_threads.get(record.parent_uuid or "", f"{SIDE}{record.uuid}")
            if record.uuid:
                self._side_threads[record.uuid] = key
        thread = self._thread(key, now)
        thread.at = milliseconds(record.timestamp)
        thread.near = thread.at if thread.at is not None else thread.near
        thread.descend(record.uuid, record.parent_uuid)
        if not key:
            self._endings.go_on(thread.at)
        if thread.session is None:
            thread.session = record.session_id or self.session
        if thread.request_log is not None:
            thread.request_log.take(record)
        return thread

    def _id_by_place(self, thread: Thread, lines: LineRange) -> str:
        """Return an id for a line that has none, made of its place; it is the same on every machine."""
        return f"{self.session}:{thread.key}:{lines.start}" if thread.key else f"{self.session}:{lines.start}"

    def _line_context(
        self,
        record: UserRecord | AssistantRecord | SystemRecord,
        thread: Thread,
        prompt: PromptLine | None = None,
    ) -> LineContext:
        """Return what is known at a line; *prompt* is the line itself if it is a prompt."""
        session = record.session_id or self.session
        effort = skill = None
        if isinstance(record, AssistantRecord):
            effort, skill = record.effort, record.attribution_skill
            forked = record.forked_from.session_id if record.forked_from else None
            session = record.request_session_id or forked or session
            if record.attribution_agent and thread.is_subagent:
                thread.agent_type = thread.agent_type or record.attribution_agent
        started_as = self._agent if self._agent_is_own or not self._hides_copies else None
        line_context = LineContext(
            session=session,
            near=thread.near,
            prompt=None if thread.is_subagent else prompt or self._root(record, thread),
            session_name=self._name,
            cwd=record.cwd,
            branch=record.git_branch if record.git_branch not in ("", "HEAD") else None,
            version=record.version,
            entrypoint=record.entrypoint,
            agent=thread.agent_type if thread.is_subagent else record.agent_name or started_as,
            effort=effort,
            skill=skill,
        )
        if not thread.is_subagent:
            self._latest = line_context
        return line_context

    def _root(
        self,
        record: UserRecord | AssistantRecord | SystemRecord | AttachmentRecord,
        thread: Thread,
    ) -> PromptLine | None:
        """Find the prompt that a line of the main thread belongs to, and remember it for the lines below."""
        root = self._prompts_by_line.get(record.parent_uuid or "")
        if isinstance(record, UserRecord) and record.prompt_id:
            root = self._prompts_by_id.get(record.prompt_id, root)
        elif root is None and isinstance(record, SystemRecord) and record.logical_parent_uuid:
            root = self._prompts_by_line.get(record.logical_parent_uuid)
        root = root or thread.prompt
        if root is not None and record.uuid:
            self._remember(record.uuid, root)
        return root

    def _known_root(
        self, record: UserRecord | AssistantRecord | SystemRecord | AttachmentRecord, thread: Thread
    ) -> PromptLine | None:
        """Return the prompt that a line of the main thread is, or is known to be below; None if that is not known."""
        if thread.is_subagent or not record.parent_uuid or record.parent_uuid not in self._prompts_by_line:
            return None
        return self._prompts_by_line.get(record.uuid or "")

    def _prompts_above(self, root: PromptLine) -> Iterator[PromptLine]:
        """Yield *root* and the prompts above it in the conversation, as far as they are known, the nearest first."""
        above: PromptLine | None = root
        for _ in range(_PROMPTS_ABOVE):
            if above is None:
                return
            yield above
            above = self._prompts_by_line.get(above.parent or "")

    def _apart_from(self, record: AssistantRecord | SystemRecord, thread: Thread) -> Callable[[Input], bool]:
        """Return what tells whether an input is known to be on another branch than a line: its model never saw it.

        Another terminal goes on with the session, or a person went back to an earlier prompt and asked again. The two
        have a prompt above them in common, and the input's own prompt is not above the line.
        """
        root = self._known_root(record, thread)
        own: set[int] = set()

        def is_apart(item: Input) -> bool:
            if root is None or item.root is None or item.root is root:
                return False
            if not own:
                own.update(map(id, self._prompts_above(root)))
            return id(item.root) not in own and any(id(above) in own for above in self._prompts_above(item.root))

        return is_apart

    def _remember(self, uuid: str, root: PromptLine) -> None:
        self._prompts_by_line[uuid] = root
        if len(self._prompts_by_line) > _REMEMBERED_LINES:
            del self._prompts_by_line[next(iter(self._prompts_by_line))]

    def _context(self, thread: Thread, line_context: LineContext) -> Context:
        """Return the context of a span on *thread*. A subagent's thread must have its parent context."""
        if thread.is_subagent:
            assert thread.parent_context is not None
            return replace(
                thread.parent_context,
                session=line_context.session,
                near=line_context.near,
                cwd=line_context.cwd,
                branch=line_context.branch,
                version=line_context.version,
                entrypoint=line_context.entrypoint,
                effort=line_context.effort,
                agent=line_context.agent or thread.parent_context.agent,
            )
        prompt = line_context.prompt
        assert prompt is not None
        return Context(
            framework=FRAMEWORK,
            session=line_context.session,
            near=line_context.near,
            turn=prompt.turn,
            prompt=prompt.text,
            session_name=line_context.session_name,
            turn_name=prompt.name,
            cwd=line_context.cwd,
            branch=line_context.branch,
            version=line_context.version,
            entrypoint=line_context.entrypoint,
            effort=line_context.effort,
            permission_mode=prompt.permission_mode,
            agent=line_context.agent,
        )

    def _ensure_prompt(self, thread: Thread, line_context: LineContext, identity: str) -> None:
        """Start a stretch for a line of the main thread that has no prompt above it."""
        if thread.is_subagent or line_context.prompt is not None:
            return
        thread.prompt = line_context.prompt = PromptLine(
            turn=TurnKey(kind="stretch", id=identity),
            text=None,
            name=None,
            permission_mode=None,
        )

    # ------------------------------------------------------------------ lines

    def _user(self, record: UserRecord, thread: Thread, lines: LineRange, now: float) -> None:
        self._close_compaction(thread, now, record, lines)
        if record.message is None or (record.uuid and record.uuid in self._prompts_by_line and not thread.is_subagent):
            return
        content = record.message.content
        parts = blocks(content)
        results = [part for part in parts if part.type == "tool_result" and part.tool_use_id]
        text = words_of(parts)
        is_task = thread.is_subagent and thread.first_uuid is None
        if is_task and results and text and (thread.inherited or record.parent_uuid is None):
            # A fork's first line answers the parent's call that started the fork.
            thread.named = results[0].tool_use_id if len(results) == 1 else None
        elif results:
            self._line_context(record, thread)
            calls = tuple(part.tool_use_id for part in results if part.tool_use_id)
            message = InputMessage(role="user", content=bytes(content), origin="tool_result")
            thread.add_input(message, answers=calls, root=self._known_root(record, thread))
            for part in results:
                self._result(record, part, thread, lines, now)
            return
        text = prompts.without_notes(text)
        kind: prompts.TextKind = prompts.classify(text)
        if not text.strip() and parts and all(part.has_words for part in parts):
            kind = "note"
        scheduled = record.turn_origin == "scheduled" and record.prompt_id is not None
        added = (record.is_meta and not scheduled) or record.is_compact_summary or record.is_visible_in_transcript_only
        if not parts:
            return
        if kind == "interrupt":
            self._interrupt(record, thread, lines, now)
        elif thread.is_subagent:
            self._agent_text(record, thread, text, lines)
        elif added or kind in ("output", "note"):
            self._line_context(record, thread)
        else:
            self._prompt(record, thread, text, kind, lines, now)
        origin = _origin(kind, added=added and not is_task, is_subagent=thread.is_subagent)
        message = InputMessage(role="user", content=bytes(content), origin=origin)
        thread.add_input(message, root=self._known_root(record, thread))
        if thread.is_subagent and thread.task is None and origin == "agent_prompt":
            thread.task = message
        elif origin == "prompt" and thread.prompt is not None:
            thread.prompt.said = message

    def _interrupt(self, record: UserRecord, thread: Thread, lines: LineRange, now: float) -> None:
        message = thread.open
        if message is not None and not message.has_stop_reason:
            message.aborted = True
            if message.lines.file == lines.file:
                message.lines = replace(message.lines, end=max(message.lines.end, lines.end))
        self._finish_above(record, thread, now)
        self._complete_calls(thread)
        line_context = self._line_context(record, thread)
        thread.rest()
        prompt = line_context.prompt
        if prompt is not None and not prompt.copied:
            for tally in self._tallies_of(record, prompt):
                tally.interrupt(thread.at)

    def _own(self, thread: Thread, now: float) -> None:
        """Process the lines that a subagent seemed to have from its parent: it has no text of its own."""
        inherited, thread.inherited = thread.inherited, []
        for record, lines in inherited:
            self._assistant(record, thread, lines, now)

    def _agent_text(self, record: UserRecord, thread: Thread, text: str, lines: LineRange) -> None:
        if thread.first_uuid is None:
            thread.inherited.clear()
            thread.first_uuid = record.uuid or self._id_by_place(thread, lines)
            thread.began = thread.at
            thread.first_text = _task(text)
            thread.teammate = text.lstrip().startswith(_TEAMMATE)
            place = layout.classify(lines.file)
            thread.runs = place.runs if place is not None else ()
            thread.prompt_id = record.prompt_id
            self._links_changed = True
        thread.working = True

    def _prompt(
        self,
        record: UserRecord,
        thread: Thread,
        text: str,
        kind: prompts.TextKind,
        lines: LineRange,
        now: float,
    ) -> None:
        """Start a turn, for a person's prompt, a command, or the end of a background task."""
        self._finish_above(record, thread, now)
        thread.prompts += 1
        self._complete_calls(thread)
        human = kind == "human" and record.prompt_source != "system"
        if kind == "notification" and (call := prompts.notified_call(text)):
            self._notified.add(call)
        if kind != "notification":
            thread.orphans.clear()
        self._break_off(thread)
        at = thread.at
        known = self._prompts_by_id.get(record.prompt_id) if record.prompt_id else None
        identity = record.uuid or self._id_by_place(thread, lines)
        scheduled = record.turn_origin == "scheduled"
        # A prompt may be an image only.
        typed = (prompts.command_line(text) if human or scheduled or kind == "command" else None) or None
        if known is None or known.copied:
            # A fork gives the same prompt id to everything it copies and to the next prompt.
            known = PromptLine(
                turn=TurnKey(kind="prompt", id=record.prompt_id or identity),
                text=typed,
                name=prompts.name(typed) or None if typed else None,
                permission_mode=record.permission_mode,
                is_command=kind == "command",
                parent=record.parent_uuid,
            )
            if record.prompt_id:
                self._prompts_by_id[record.prompt_id] = known
            known.copied = self._copied(settled_name("prompt", identity), None, at)
            if known.copied:
                self._passed(settled_name("prompt", identity), lines)
                if self._hides_copies:
                    known.text = known.name = None
            self._has_copies = self._has_copies or known.copied
        elif typed and (known.text is None or (known.is_command and human)):
            known.text, known.name = typed, prompts.name(typed) or None
            known.permission_mode = record.permission_mode or known.permission_mode
            known.is_command = kind == "command"
        if self._turn is not None and self._turn != known.turn:
            self._ended_turns.add(self._turn)
        self._turn = known.turn
        thread.prompt = known
        if human or scheduled:
            thread.ask()
        else:
            thread.working = True
        if record.uuid:
            self._remember(record.uuid, known)
        self._count_early_unknown(copied=known.copied)
        early, self._early_hooks = self._early_hooks, []
        if human and not known.copied:
            self._first_name = self._first_name or known.name
            context = self._context(thread, self._line_context(record, thread, known))
            for tally in self._tallies(context):
                tally.add_prompt(known.text, at, context)
                tally.add_hooks(early)
            self._out.append(Prompt(identity=identity, context=context, at=at, lines=lines))

    def _result(self, record: UserRecord, part: Block, thread: Thread, lines: LineRange, now: float) -> None:
        call_id = part.tool_use_id
        assert call_id is not None
        noted = tool_use_result(record)
        content = bytes(part.content) if isinstance(part.content, msgspec.Raw) else b'""'
        at = thread.at
        thread.ask()
        thread.steps += 1
        if noted.agent_id:
            self._agent_results.setdefault(noted.agent_id, call_id)
            self._links_changed = True
            if not noted.is_async and noted.agent_id in self._threads:
                self._threads[noted.agent_id].be_answered_for()
        for run in (noted.run_id, noted.workflow_run_id, noted.teammate_id):
            if run is not None:
                self._runs.setdefault(run, call_id)
                self._links_changed = True
        # A client that resumes a session writes such results for the calls that were running when it was killed.
        made_up = record.tool_denial_kind == "interrupted"
        result = Result(
            at=None if made_up else at,
            content=content,
            status=_status(record, part, interrupted=noted.interrupted or made_up),
            permission_decision=record.permission_decision.decision if record.permission_decision else None,
            duration_ms=None if noted.is_async else noted.took_ms,
            lines=lines,
            heard_at=now,
        )
        call = thread.calls.get(call_id)
        if call is None:
            if call_id not in self._known_calls:
                thread.orphans.setdefault(call_id, result)
            return
        if call.result is None:
            call.result = result
            call.is_complete = _version(record.version) < _NOTES_HOOKS_SINCE
        if thread.open is not None and call.message is thread.open:
            if _version(record.version) < _RESULT_ENDS_MESSAGE_BEFORE:
                self._finish(thread, now)
        else:
            self._emit_call(call)

    def _assistant(self, record: AssistantRecord, thread: Thread, lines: LineRange, now: float) -> None:
        self._close_compaction(thread, now)
        message = record.message
        if message is None:
            return
        line_context = self._line_context(record, thread)
        at = thread.at
        if record.is_api_error_message or message.model == _SYNTHETIC:
            self._finish(thread, now)
            self._complete_calls(thread)
            if record.is_api_error_message:
                self._give_up_calls_above(record, thread, line_context)
                self._synthetic_error(record, thread, line_context, lines, now)
            return
        parts, counts = blocks(message.content), usage(message)
        identity = self._key_of_message(message.id, record, parts, counts, thread, lines)
        if identity in self._finished or self._is_open_elsewhere(identity, thread):
            self._late_line(identity, record, thread, line_context, lines)
            return
        if thread.open is None or thread.open.id != identity:
            self._turn_to(identity, record, thread, now)
            self._give_up_calls_above(record, thread, line_context)
        self._complete_calls(thread, but=identity)
        if thread.open is None:
            self._ensure_prompt(thread, line_context, identity)
            if line_context.prompt is not None and not line_context.prompt.copied:
                self._first_name = self._first_name or line_context.prompt.name
                line_context.session_name = line_context.session_name or self._first_name
            checksum = checksum_of(record.uuid, record.timestamp, parts[0].raw if parts else b"")
            self._opened(settled_name("gen", identity), checksum, lines)
            thread.open = OpenMessage(
                id=identity,
                checksum=checksum,
                line_context=line_context,
                lines=lines,
                heard_at=now,
                given=thread.take_inputs(self._apart_from(record, thread)),
                parent=record.parent_uuid,
                below={record.uuid} if record.uuid else set(),
                first_at=at,
                last_at=at,
                has_new_ids=_has_new_ids(record),
            )
            if thread.conversation is not None:
                thread.open.whole = WholeInput(before=thread.conversation.so_far(), part=thread.conversation.part)
            thread.rest()
        self._ensure_prompt(thread, line_context, identity)
        self._extend(thread.open, record, parts, counts, line_context, at, lines, now)
        request = thread.requests.get(record.request_ref or "")
        if request is not None:
            thread.open.request, thread.open.request_at = request
        whole = thread.open.whole
        if thread.request_log is not None and whole is not None and whole.request is None and record.request_ref:
            whole.request = thread.request_log.request(record.request_ref)
        for part in parts:
            if part.type == "tool_use" and part.id:
                self._call(part, thread, thread.open, line_context, lines)

    def _turn_to(self, identity: str, record: AssistantRecord, thread: Thread, now: float) -> None:
        """Go on with the message *identity*; if it is a new one, finish the messages that it follows."""
        if identity in thread.parked:
            thread.park()
            thread.open = thread.parked.pop(identity)
            return
        self._finish_above(record, thread, now)
        thread.park()

    def _finish_above(self, record: UserRecord | AssistantRecord, thread: Thread, now: float) -> None:
        """Finish the messages that a line follows: all but those that are known to be on another branch."""
        parent = record.parent_uuid
        is_placed = parent is not None and not thread.is_subagent and parent in self._prompts_by_line
        for message in thread.messages:
            # Another answer with the same parent tries it again.
            is_retry = isinstance(record, AssistantRecord) and parent == message.parent
            if not is_placed or message.is_cut or is_retry or parent in message.below:
                self._finish_message(thread, message, now)

    def _key_of_message(
        self,
        name: str | None,
        record: AssistantRecord,
        parts: list[Block],
        counts: TokenUsage | None,
        thread: Thread,
        lines: LineRange,
    ) -> str:
        """Return the key of the message that a line with the message id *name* belongs to.

        Some gateways count their answers from 1 again. So several answers may have one id: they have different request
        ids, or a result or a prompt is between them and they have no block in common.
        """
        if not name or record.message is None:
            return record.uuid or self._id_by_place(thread, lines)
        request = record.request_id
        has_new_ids = _has_new_ids(record)
        known = self._answers.setdefault(f"{record.message.model}|{request}" if has_new_ids else name, [])
        # Where requests tell answers apart, what is in them does not matter.
        by_request = request and not has_new_ids and all(answer.request for answer in known)
        keys: set[int] = set() if by_request else {hash(_block_key(part)) for part in parts}
        for answer in reversed(known):
            if request and answer.request and not has_new_ids:
                is_same = request == answer.request
            else:
                is_same = answer.is_continued(thread, keys, counts)
            if is_same:
                break
        else:
            is_first = has_new_ids or not known
            key = name if is_first else f"{name}|{request or record.uuid or self._id_by_place(thread, lines)}"
            answer = Answer(key=key, thread=thread.key, request=request)
            known.append(answer)
        if not answer.request or has_new_ids:
            answer.blocks |= keys
            answer.steps, answer.prompts = thread.steps, thread.prompts
            answer.usage = counts or answer.usage
        return answer.key

    def _is_open_elsewhere(self, identity: str, thread: Thread) -> bool:
        """Whether a message is open on another thread: a subagent's log may begin with a copy of another's."""
        if len(self._threads) == 1 or (thread.open is not None and thread.open.id == identity):
            return False
        return any(
            message.id == identity
            for other in self._threads.values()
            if other is not thread
            for message in other.messages
        )

    def _extend(
        self,
        open_message: OpenMessage,
        record: AssistantRecord,
        parts: list[Block],
        counts: TokenUsage | None,
        line_context: LineContext,
        at: int | None,
        lines: LineRange,
        now: float,
    ) -> None:
        """Add one line to a message."""
        message = record.message
        assert message is not None
        open_message.heard_at = now
        # A resumed log of 2.1.1 repeats messages under its own session's id. The first id is the right one.
        line_context.session = open_message.line_context.session
        open_message.line_context = line_context
        if open_message.lines.file == lines.file:
            open_message.lines = LineRange(file=lines.file, start=open_message.lines.start, end=lines.end)
        if at is not None:
            open_message.last_at = at
        open_message.model = message.model or open_message.model
        open_message.request_id = record.request_id or open_message.request_id
        open_message.skill = record.attribution_skill or open_message.skill
        open_message.mcp_server = record.attribution_mcp_server or open_message.mcp_server
        open_message.mcp_tool = record.attribution_mcp_tool or open_message.mcp_tool
        open_message.aborted = open_message.aborted or record.is_aborted_mid_stream
        if message.stop_reason is not None:
            # Claude Code makes up a stop reason for a stream that broke off. Such a line has no `stop_details`, which
            # complete messages have since 2.1.150.
            broken = message.stop_details is msgspec.UNSET and _version(record.version) >= _STOP_DETAILS_SINCE
            open_message.broke_off = broken
            open_message.has_stop_reason = True
            open_message.stop_reason = message.stop_reason
        if counts is not None:
            final = message.stop_reason is not None and not open_message.broke_off
            open_message.readings.append(Reading(usage=counts, final=final))
        for part in parts:
            key = _block_key(part)
            if key not in open_message.seen:
                open_message.seen.add(key)
                open_message.add(part, record.api_block_index)

    def _call(
        self,
        part: Block,
        thread: Thread,
        message: OpenMessage | None,
        line_context: LineContext,
        lines: LineRange,
        *,
        late_for: str = "",
        copied: bool = False,
    ) -> None:
        """Open a tool call, unless it is already known."""
        call_id = part.id
        assert call_id is not None
        made_by = message.id if message is not None else late_for
        known_by = self._known_calls.get(call_id)
        if known_by == made_by:
            return
        # Some gateways count their calls from 0 again, with each answer.
        identity = call_id if known_by is None else f"{call_id}|{made_by}"
        self._known_calls[call_id] = made_by
        before = thread.calls.pop(call_id, None)
        if before is not None:
            before.key = before.identity + "|"
            thread.calls[before.key] = before
        call = Call(
            id=call_id,
            key=call_id,
            identity=identity,
            name=part.name or "",
            input=bytes(part.input) if isinstance(part.input, msgspec.Raw) else None,
            at=thread.at,
            line_context=line_context,
            lines=lines,
            thread=thread,
            message=message,
            message_id=made_by,
            copied=copied,
            result=thread.orphans.pop(call_id, None),
            is_complete=True,
        )
        thread.calls[call_id] = call
        if message is not None:
            message.calls.append(call)
        if call.name in STARTERS:
            started = _call_input(call.input)
            call.prompt, call.agent_type = started.prompt, started.subagent_type
            call.started_name = started.name if call.starts_agent else started.skill
            self._agent_calls[call_id] = call
            self._links_changed = True
        if message is None:
            self._emit_call(call)

    def _late_line(
        self, identity: str, record: AssistantRecord, thread: Thread, line_context: LineContext, lines: LineRange
    ) -> None:
        """Process a line of a message that was already given out: only its calls still count."""
        assert record.message is not None
        self._ensure_prompt(thread, line_context, identity)
        for part in blocks(record.message.content):
            if thread.conversation is not None:
                thread.conversation.add_late_block(identity, _block_key(part), part.raw, record.api_block_index)
            if part.type == "tool_use" and part.id:
                copied = self._finished.get(identity, False)
                self._call(part, thread, None, line_context, lines, late_for=identity, copied=copied)

    def _synthetic_error(
        self,
        record: AssistantRecord,
        thread: Thread,
        line_context: LineContext,
        lines: LineRange,
        now: float,
    ) -> None:
        assert record.message is not None
        words = text_of(record.message.content)
        status = record.api_error_status
        if status is None and (found := _STATUS.search(words)):
            status = int(found[1])
        kind = record.api_error_type or _string(record.error)
        if kind in (None, "unknown") and (found := _ERROR_TYPE.search(words)):
            kind = found[1]
        kind = None if kind == "unknown" else kind
        thread.rest()
        plain = api_error_words(words)
        self._failure(record, thread, line_context, lines, now, status=status, kind=kind, words=plain or None)

    def _system(self, record: SystemRecord, thread: Thread, lines: LineRange, now: float) -> None:
        self._close_compaction(thread, now)
        line_context = self._line_context(record, thread)
        if record.subtype == "api_error":
            said = api_error(record.error, record.cause)
            self._failure(
                record, thread, line_context, lines, now, status=said.status, kind=said.type, words=said.message
            )
        elif record.subtype == "compact_boundary":
            for message in thread.followed():
                message.is_cut = True
            if thread.conversation is not None:
                thread.conversation.restart()
            self._compaction(record, thread, line_context, lines, now)
        elif record.subtype == "stop_hook_summary":
            self._hooks(record, thread, line_context.prompt, lines)
        elif record.subtype == "turn_duration" and not record.pending_background_agent_count and self._turn:
            self._ended_turns.add(self._turn)

    def _is_repeated(self, name: str, at: int | None, lines: LineRange) -> bool:
        """Whether this session reported the same thing before, or another session wrote it first."""
        if name in self._seen_names:
            return True
        self._seen_names.add(name)
        if self._copied(name, None, at):
            self._passed(name, lines)
            return True
        return False

    def _failure(
        self,
        record: AssistantRecord | SystemRecord,
        thread: Thread,
        line_context: LineContext,
        lines: LineRange,
        now: float,
        *,
        status: int | None,
        kind: str | None,
        words: str | None,
    ) -> None:
        identity = record.uuid or self._id_by_place(thread, lines)
        at = thread.at
        if self._is_repeated(settled_name("error", identity), at, lines):
            return
        self._ensure_prompt(thread, line_context, identity)
        request, started_at = thread.request or (None, None)
        model = request.params.model if request is not None and request.params is not None else None
        if model is None and isinstance(record, AssistantRecord):
            model = record.requested_model

        is_apart = self._apart_from(record, thread)
        inputs = [item for item in thread.pending() if not is_apart(item)]
        given = _given(thread.opened_with(line_context), inputs)
        before = self._asked_with(thread, inputs)
        asked = request.id if request is not None else None
        whole = thread.request_log.request(asked) if thread.request_log is not None and asked else None

        def emit() -> None:
            context = self._context(thread, line_context)
            failure = ApiFailure(
                identity=identity,
                context=context,
                at=at,
                started_at=started_at,
                model=model,
                provider=_provider(model),
                status=status,
                error_type=kind,
                message=words,
                input=given,
                conversation=before,
                request=whole,
                lines=lines,
            )
            if thread.open is None:
                # Else the message that is open came first, and opens the session once it is finished.
                self._announce(thread, context, at)
            for tally in self._tallies(context):
                tally.add_failure(failure)
            self._out.append(failure)

        self._emit_or_wait(emit, thread, lines, now)

    def _asked_with(self, thread: Thread, inputs: list[Input]) -> tuple[InputMessage, ...] | None:
        """Return the conversation that the thread's next request sends; None unless whole inputs are asked for."""
        conversation, message = thread.conversation, thread.open
        if conversation is None:
            return None
        said = list(conversation.so_far())
        if message is not None:
            pending = {id(item) for item in inputs}
            answered = (item for item in message.given if id(item) not in pending)
            said += (item.message for item in answered if item.part == conversation.part)
            blocks = b",".join(part.raw for part in message.blocks)
            said.append(InputMessage(role="assistant", content=b"[" + blocks + b"]", origin="answer"))
        return (*said, *(item.message for item in inputs if item.part == conversation.part))

    def _compaction(
        self, record: SystemRecord, thread: Thread, line_context: LineContext, lines: LineRange, now: float
    ) -> None:
        identity = record.uuid or self._id_by_place(thread, lines)
        at = thread.at
        if self._is_repeated(settled_name("compaction", identity), at, lines):
            return
        noted = record.compact_metadata
        if noted is not None and noted.trigger == "manual" and not thread.is_subagent and thread.asked_at is None:
            line_context.prompt = self._compaction_turn(record, thread, identity)
        self._ensure_prompt(thread, line_context, identity)

        def emit() -> None:
            context = self._context(thread, line_context)
            compaction = Compaction(
                identity=identity,
                context=context,
                at=at,
                duration_ms=noted.duration_ms if noted else None,
                trigger=noted.trigger if noted else None,
                tokens_before=noted.pre_tokens if noted else None,
                tokens_after=noted.post_tokens if noted else None,
                summary=None if self._hides_copies else opened.summary,
                lines=opened.lines,
            )
            for tally in self._tallies(context):
                tally.add_compaction(compaction)
            self._out.append(compaction)

        turn = line_context.prompt.turn if line_context.prompt is not None else None
        opened = thread.compaction = OpenCompaction(turn=turn, lines=lines, heard_at=now, emit=emit)

    def _close_compaction(
        self, thread: Thread, now: float, record: UserRecord | None = None, lines: LineRange | None = None
    ) -> None:
        """Give out the compaction of which the summary is missing: *record* has it, or it will not come."""
        opened, thread.compaction = thread.compaction, None
        if opened is None:
            return
        if record is not None and record.is_compact_summary and record.message is not None:
            opened.summary = text_of(record.message.content) or None
            if lines is not None and lines.file == opened.lines.file:
                opened.lines = replace(opened.lines, end=max(lines.end, opened.lines.end))
        self._emit_or_wait(opened.emit, thread, opened.lines, now)

    def _compaction_turn(self, record: SystemRecord, thread: Thread, identity: str) -> PromptLine:
        """Return the turn of a compaction that the user asked for. The turn before is over, and may be given out."""
        mode = thread.prompt.permission_mode if thread.prompt is not None else None
        turn = PromptLine(turn=TurnKey(kind="stretch", id=identity), text=None, name="/compact", permission_mode=mode)
        self._ended_turns.add(turn.turn)
        if record.uuid:
            self._remember(record.uuid, turn)
        return turn

    def _count_unknown(self, agent: str | None, now: float) -> None:
        """Count a line of a type that this version does not know.

        It belongs to the turn that goes on in its file. Only the lines decide, not when they are read.
        """
        prompt = self._main.prompt
        if agent is not None:
            self._session_tally(self.session).add_unknown()
            thread = self._thread(agent, now)
            thread.unknown_records += 1
            self._place_unknown(thread)
        elif prompt is None:
            # The first prompt tells whether the whole beginning is a copy.
            self._early_unknown += 1
        elif not prompt.copied:
            self._session_tally(self.session).add_unknown()
            if self._turn is not None and self._turn not in self._ended_turns:
                self._add_unknown(self._turn)

    def _place_unknown(self, thread: Thread) -> None:
        """Count the unknown lines of a subagent on its turn, as soon as that is known."""
        if thread.parent_context is not None:
            count, thread.unknown_records = thread.unknown_records, 0
            for _ in range(count):
                self._add_unknown(thread.parent_context.turn)

    def _add_unknown(self, turn: TurnKey) -> None:
        tally = self._turns.get((self.session, turn))
        if tally is not None:
            tally.add_unknown()
        elif self._by_turn:
            self._unknown_by_turn[turn] += 1

    def _count_early_unknown(self, *, copied: bool) -> None:
        early, self._early_unknown = self._early_unknown, 0
        for _ in range(0 if copied else early):
            self._session_tally(self.session).add_unknown()

    def _hooks(
        self,
        record: AttachmentRecord | SystemRecord,
        thread: Thread,
        root: PromptLine | None,
        lines: LineRange,
    ) -> None:
        """Count runs of hooks, and add them to the call they belong to."""
        belongs_to, runs = hook_runs(record)
        if not runs or (isinstance(record, SystemRecord) and belongs_to in self._hooked):
            return
        call = thread.calls.get(belongs_to)
        if call is not None:
            call.hooks.extend(runs)
            call.hooks_lines = lines
        elif belongs_to and belongs_to not in self._known_calls:
            self._hooked.add(belongs_to)
        if root is None and not thread.is_subagent:
            # Hooks of a session's start come before its first prompt, which tells whether the whole session is a copy.
            self._early_hooks.extend(runs)
        elif root is None or not root.copied:
            session = record.session_id or self.session
            self._session_tally(session).add_hooks(runs)
            context = thread.parent_context
            turn = root.turn if root is not None else context.turn if context is not None else None
            if turn is not None and (session, turn) in self._turns:
                self._turns[session, turn].add_hooks(runs)

    def _attachment(self, record: AttachmentRecord, thread: Thread, lines: LineRange) -> None:
        root = None if thread.is_subagent else self._root(record, thread)
        self._hooks(record, thread, root, lines)
        limit = stopped_by(record)
        if limit is not None and root is not None and not root.copied:
            for tally in self._tallies_of(record, root):
                tally.stop(limit, thread.at)
        queued = record.attachment
        if queued is None or queued.type != "queued_command":
            return
        # A prompt that was typed while the model was busy. It joins the running turn at the next tool result, without a
        # line of its own and without a new prompt id.
        human = queued.human_turn or queued.origin is None or queued.origin.kind == "human"
        origin: Literal["prompt", "client", "notification"] = "prompt" if human else "client"
        if prompts.classify(text_of(queued.prompt)) == "notification":
            origin = "notification"
        message = InputMessage(role="user", content=bytes(queued.prompt), origin=origin)
        thread.add_input(message, root=self._known_root(record, thread))

    def _request(self, record: ApiRequestRecord, thread: Thread) -> None:
        if thread.request_log is not None:
            thread.request_log.take(record)
        thread.add_request(record, milliseconds(record.timestamp))
        thread.ask()
        self._complete_calls(thread)
        if thread.open is not None:
            thread.open.asked_again = True

    def _request_part(self, record: RequestShapeRecord | RequestBlobRecord, key: str) -> None:
        if key not in self._threads:
            self._threads[key] = self._new_thread(key)
        log = self._threads[key].request_log
        if log is not None:
            log.take(record)

    def _about_session(self, record: CostStateRecord | AgentSettingRecord | TitleRecord, lines: LineRange) -> None:
        """Process a line that is about the whole session."""
        match record:
            case CostStateRecord():
                self._cost_state(record, lines)
            case AgentSettingRecord():
                self._agent, self._agent_is_own = record.agent_setting or None, self._first_name is not None
            case TitleRecord():
                if not self._title_chosen or record.chosen:
                    self._title, self._title_chosen = prompts.name(record.title) or None, record.chosen
                    self._title_is_own = record.chosen and self._first_name is not None
            case _:
                assert_never(record)

    def _cost_state(self, record: CostStateRecord, lines: LineRange) -> None:
        self._client = ClientTotals(
            cost_usd=record.total_cost_usd,
            lines_added=record.total_lines_added,
            lines_removed=record.total_lines_removed,
        )
        if self._latest is not None and self._latest.prompt is not None:
            context = self._context(self._main, self._latest)
            context = replace(context, session=self.session, session_name=self._name)
            totals = Totals(
                by_model=model_usage(record),
                lines_added=record.total_lines_added,
                lines_removed=record.total_lines_removed,
            )
            self._endings.note(totals, context, self._main.near, lines)

    def _add_to_ending(self, generation: Generation) -> None:
        """Count a logged call, unless it is in another session's totals: the client counts where it writes."""
        if generation.context.session == self.session and not self._other_folders.get(generation.lines.file):
            self._endings.add(generation)

    def _close_endings(self) -> None:
        """Give out what the client's totals tell beyond the log."""
        tally = self._sessions.get(self.session)
        # A subagent that the session before `/clear` started works on. Its calls belong there, and are in the totals
        # here.
        is_alone = self._notified <= self._known_calls.keys()
        for ending in self._endings.close(is_whole=is_alone and not self._has_copies):
            if tally is None or not tally.opened:
                continue
            number, context, at, lines = ending.number, ending.context, ending.at, ending.lines
            for model, counts in ending.side_calls.items():
                self._out.append(
                    SideCalls(
                        number=number,
                        context=context,
                        model=model,
                        provider=_provider(model),
                        usage=counts,
                        at=at,
                        lines=lines,
                    )
                )
            for name, value in ending.changes.items():
                self._out.append(Metric(name=name, value=value, number=number, context=context, at=at, lines=lines))

    # ------------------------------------------------------------------ finishing

    def _patience(self, message: OpenMessage) -> float:
        if message.asked_again:
            return self._settle
        return self._settle if message.has_stop_reason and not _promises_more(message) else self._quiet

    def _finish(self, thread: Thread, now: float) -> None:
        """Finish the thread's open messages."""
        for message in thread.messages:
            self._finish_message(thread, message, now)

    def _finish_message(self, thread: Thread, message: OpenMessage, now: float) -> None:
        if thread.open is message:
            thread.open = None
        thread.parked.pop(message.id, None)
        message.copied = self._copied(settled_name("gen", message.id), message.checksum, message.first_at)
        if message.has_new_ids and not message.copied:
            self._recognize(message)
        self._has_copies = self._has_copies or message.copied
        self._finished[message.id] = message.copied
        if message.copied:
            self._passed(settled_name("gen", message.id), message.lines)
        inputs, message.given = message.given, []
        if inputs and message.calls:
            own = {call.id for call in message.calls}
            # A result may have been written before its message's first line. It belongs to the next message's input.
            early = [item for item in inputs if not own.isdisjoint(item.answers)]
            if early:
                inputs = [item for item in inputs if own.isdisjoint(item.answers)]
                thread.inputs = early + thread.inputs
        if thread.conversation is not None and message.whole is not None:
            self._add_to_conversation(thread.conversation, message, message.whole, inputs)
        self._emit_or_wait(lambda: self._emit_message(thread, message, inputs), thread, message.lines, now)

    def _recognize(self, message: OpenMessage) -> None:
        """Note whether a message with new ids is a copy. If it is, the prompt above it was copied, too."""
        name = settled_name("request", _request_name(message))
        if not self._copied(name, None, message.first_at):
            return
        message.copied = True
        self._passed(name, message.lines)
        prompt = message.line_context.prompt
        if prompt is not None and not prompt.copied:
            prompt.copied = True
            session = message.line_context.session
            for tally in (self._sessions.get(session), self._turns.get((session, prompt.turn))):
                if tally is not None:
                    tally.withdraw_prompt()

    def _add_to_conversation(
        self, conversation: Conversation, message: OpenMessage, whole: WholeInput, inputs: list[Input]
    ) -> None:
        """Add the inputs of *message* and its answer to the conversation."""
        heard = tuple(item.message for item in inputs if item.part == whole.part)
        whole.before += heard
        if whole.part == conversation.part:
            conversation.add(heard)
            keys = (_block_key(part) for part in message.blocks)
            raws = (part.raw for part in message.blocks)
            conversation.answer(message.id, zip(keys, raws, message.order, strict=True))

    def _emit_message(self, thread: Thread, message: OpenMessage, inputs: list[Input]) -> None:
        message.emitted = True
        if not message.copied:
            generation = self._generation(thread, message, inputs)
            self._announce(thread, generation.context, generation.ended_at)
            answer = tuple(part.raw for part in message.blocks if part.has_words)
            for tally in self._tallies(generation.context):
                tally.prompt = tally.prompt or generation.context.prompt
                tally.name = tally.name or generation.context.turn_name
                tally.add_generation(generation, answer)
                if thread.is_subagent:
                    tally.add_agent(thread.key)
            self._out.append(generation)
            self._add_to_ending(generation)
            self._emit_inner(generation)
        for call in message.calls:
            self._emit_call(call)
        # Open calls still refer to the message, but its content is no longer needed.
        message.blocks, message.order, message.seen = [], [], set()
        message.whole = None

    def _generation(self, thread: Thread, message: OpenMessage, inputs: list[Input]) -> Generation:
        counts = combine(message.readings)
        params = message.request.params if message.request else None
        effort = params.output_config.effort if params and params.output_config else None
        context = self._context(thread, message.line_context)
        started_at = message.request_at
        if started_at is None:
            started_at = max((item.at for item in inputs if item.at is not None), default=None)
        stop_reason = "interrupted" if message.aborted else None if message.broke_off else message.stop_reason
        return Generation(
            identity=message.id,
            checksum=message.checksum,
            context=context if not effort or effort == context.effort else replace(context, effort=effort),
            model=message.model,
            provider=_provider(message.model),
            usage=counts,
            output_partial=message.aborted or message.broke_off or not message.has_stop_reason,
            started_at=started_at,
            ended_at=message.last_at,
            stop_reason=stop_reason,
            was_stopped=message.aborted
            or (not message.has_stop_reason and _version(context.version) >= _ENDS_WITH_STOP_REASON_SINCE),
            input=_given(thread.opened_with(message.line_context), inputs),
            conversation=message.whole.before if message.whole else None,
            request=message.whole.request if message.whole else None,
            output=tuple(ContentBlock(type=part.type, raw=part.raw) for part in message.blocks),
            tools_called=tuple(part.name or "" for part in message.blocks if part.type == "tool_use"),
            max_tokens=params.max_tokens if params else None,
            thinking=not_null(params.thinking) if params else None,
            service_tier=(counts.service_tier if counts else None) or (params.service_tier if params else None),
            speed=(counts.speed if counts else None) or (params.speed if params else None),
            request_id=message.request_id,
            request_name=settled_name("request", _request_name(message)) if _may_get_new_ids(message) else None,
            mcp_server=message.mcp_server,
            mcp_tool=message.mcp_tool,
            skill=message.skill,
            lines=message.lines,
        )

    def _emit_inner(self, outer: Generation) -> None:
        """Give out the calls that the provider made inside a call, each as a generation of its own."""
        for call in outer.usage.inner if outer.usage is not None else ():
            model = call.model or outer.model
            inner = Generation(
                identity=f"{outer.identity}|{call.index}",
                span_id=f"{outer.identity}:{call.index}",
                inside=outer.identity,
                kind=call.kind,
                checksum=outer.checksum,
                context=outer.context,
                model=model,
                provider=_provider(model),
                usage=call.usage,
                output_partial=False,
                started_at=None,
                ended_at=outer.ended_at,
                stop_reason=None,
                input=(),
                output=(),
                tools_called=(),
                lines=outer.lines,
            )
            for tally in self._tallies(inner.context):
                tally.add_generation(inner, ())
            self._add_to_ending(inner)
            self._out.append(inner)

    def _emit_call(self, call: Call, *, abandoned: bool = False) -> None:
        """Give out a call if its message was given out and its result has come, or never will."""
        thread, message, result = call.thread, call.message, call.result
        if message is not None and not message.emitted:
            return
        if (result is None or not call.is_complete) and not abandoned:
            return
        if thread.is_subagent and thread.parent_context is None:
            return
        if thread.calls.pop(call.key, None) is None:
            return
        ranges = (call.lines, message.lines if message else None, result.lines if result else None, call.hooks_lines)
        ends = [lines.end for lines in ranges if lines is not None and lines.file == call.lines.file]
        starts = [call.lines.start, *([result.lines.start] if result and result.lines.file == call.lines.file else [])]
        lines = LineRange(file=call.lines.file, start=min(starts), end=max(ends))
        if call.copied or (message is not None and message.copied):
            self._passed(settled_name("call", call.identity), lines)
            return
        context = self._context(thread, call.line_context)
        span = ToolCall(
            identity=call.identity,
            call_id=call.identity,
            context=context,
            name=call.name,
            subject=_call_input(call.input).subject(call.name) if call.name in _NAMED else None,
            duration_ms=result.duration_ms if result else None,
            generation=call.message_id,
            generation_ended_at=message.last_at if message is not None else call.at,
            is_agent=call.starts_agent,
            called_at=call.at,
            ended_at=result.at if result else None,
            input=call.input,
            output=result.content if result else None,
            status=result.status if result else "no_result",
            permission_decision=result.permission_decision if result else None,
            skill=call.line_context.skill,
            hooks=tuple(call.hooks),
            lines=lines,
        )
        for tally in self._tallies(context):
            tally.add_call(span)
        self._out.append(span)

    def _complete_calls(self, thread: Thread, *, but: str | None = None) -> None:
        """Complete the calls that have their results: the thread went on, so no line about them will follow."""
        if not thread.calls:
            return
        for call in list(thread.calls.values()):
            if call.result is not None and not call.is_complete and call.message_id != but:
                call.is_complete = True
                self._emit_call(call)

    def _give_up_calls_above(self, record: AssistantRecord, thread: Thread, line_context: LineContext) -> None:
        """Give out the calls without a result whose turn can no longer answer: the model answers a later prompt."""
        if thread.is_subagent:
            return
        parent = record.parent_uuid
        is_placed = parent is not None and parent in self._prompts_by_line
        for call in list(thread.calls.values()):
            message = call.message
            is_same_turn = call.line_context.prompt is line_context.prompt
            if call.result is not None or is_same_turn or (message is not None and not message.emitted):
                continue
            if not is_placed or message is None or message.is_cut or parent in message.below:
                self._emit_call(call, abandoned=True)

    def _break_off(self, thread: Thread) -> None:
        """Note that the main thread's model will not give the answer that it owes: the client was killed, say."""
        if thread.asked_at is None or thread.prompt is None or thread.prompt.copied:
            return
        for tally in (self._sessions.get(self.session), self._turns.get((self.session, thread.prompt.turn))):
            if tally is not None:
                tally.interrupt(thread.asked_at)

    def _abandon_calls(self, thread: Thread) -> None:
        for call in list(thread.calls.values()):
            self._emit_call(call, abandoned=True)

    def _endable_turns(self) -> list[tuple[str, TurnKey]]:
        """Return the turns that have ended and have changed since their trace was last given out."""
        return [
            key for key, tally in self._turns.items() if tally.changed and tally.opened and key[1] in self._ended_turns
        ]

    def _emit_turn(self, key: tuple[str, TurnKey]) -> None:
        tally = self._turns[key]
        if tally.opened and tally.changed:
            tally.changed = False
            tally.name = tally.name or self._session_name(tally.session)
            self._out.append(tally.trace())

    # ------------------------------------------------------------------ links

    def _emit_or_wait(self, emit: Callable[[], None], thread: Thread, lines: LineRange, now: float) -> None:
        """Give out a span now, or let it wait until the subagent's call is known."""
        if thread.is_subagent and thread.parent_context is None:
            thread.waiting.append(WaitingSpan(lines=lines, heard_at=now, emit=emit))
            self._links_changed = True
        else:
            emit()

    def _link(self) -> None:
        """Find the calls that started the waiting subagents. A nested one may become known with its parent."""
        self._links_changed = False
        progress = True
        while progress:
            progress = False
            for thread in self._threads.values():
                if (
                    thread.is_subagent
                    and thread.parent_context is None
                    and (context := self._parent_context(thread)) is not None
                ):
                    self._emit_waiting(thread, context)
                    progress = True

    def _emit_waiting(self, thread: Thread, context: Context) -> None:
        thread.parent_context = context
        self._place_unknown(thread)
        waiting, thread.waiting = thread.waiting, []
        for item in waiting:
            item.emit()
        for call in list(thread.calls.values()):
            self._emit_call(call)

    def _parent_context(self, thread: Thread, *, late: bool = False) -> Context | None:
        """Return the context of the call that started *thread*; None if it is not known yet.

        Args:
            thread: a subagent's thread.
            late: whether no further line will tell, so that the order of the calls has to decide.
        """
        call: Call | None = None
        named = thread.call_id or self._agent_results.get(thread.key)
        if named:
            call = self._agent_calls.get(named)
            if call is None:
                return None
        elif thread.runs and any(call.name == _WORKFLOW for call in self._agent_calls.values()):
            call = self._call_of_run(thread.runs, late=late)
        elif thread.first_text == _WARM_UP:
            # Clients from 2.0.76 to 2.1.1 start two of these at every start. No call ever names them.
            return self._fallback_context(thread)
        elif thread.first_text:
            call = self._call_with_name(thread) or self._call_with_words(thread, late=late)
        if call is None or (call.thread.is_subagent and call.thread.parent_context is None) or call.thread is thread:
            return None
        call.claimed_by = thread.key
        self._ensure_prompt(call.thread, call.line_context, call.message_id)
        context = self._context(call.thread, call.line_context)
        return replace(
            context,
            # A call that names no kind of agent starts a general one.
            agent=thread.agent_type or call.agent_type or "general-purpose",
            parent_call=call.identity,
            is_subagent=True,
        )

    def _call_of_run(self, runs: tuple[str, ...], *, late: bool) -> Call | None:
        """Find the Workflow call that started one of *runs*: its result says so.

        Without such a result, the only Workflow call is it.
        """
        named = next((self._runs[run] for run in runs if run in self._runs), None)
        if named is not None:
            return self._agent_calls.get(named)
        calls = [call for call in self._agent_calls.values() if call.name == _WORKFLOW]
        return calls[0] if late and len(calls) == 1 else None

    def _call_with_name(self, thread: Thread) -> Call | None:
        """Find the call that started *thread* by the name of the teammate, or of the skill, that it started."""
        meta = thread.meta
        skill = _skill(thread.first_text or "")
        named = {meta.name, meta.agent_type if thread.teammate else None} if meta is not None else set()
        named.discard(None)
        calls = [
            call
            for call in self._agent_calls.values()
            if call.started_name is not None
            and call.claimed_by in (None, thread.key)
            and (
                call.started_name in named
                if call.starts_agent
                else skill is not None and call.started_name.rpartition(":")[2] == skill
            )
        ]
        same = [call for call in calls if call.starts_agent and _is_same_task(call, thread)]
        return next(iter(same or calls), None)

    def _link_patience(self, thread: Thread) -> float:
        """Return for how long spans of a subagent wait for the call that started it."""
        return self._quiet if self._call_may_come(thread) else self._settle

    def _call_may_come(self, thread: Thread) -> bool:
        """Whether a call may come, or may still prove to be the one, that started *thread*."""
        main = self._main
        if main.working or main.messages or main.calls:
            return True
        if any(call.is_unclaimed for call in self._agent_calls.values()):
            return True
        if any(other.may_call for other in self._threads.values() if other is not thread and other.is_subagent):
            return True
        # The main log may be read later than the subagent's.
        if thread.prompt_id:
            return thread.prompt_id not in self._prompts_by_id
        return main.near is None or thread.began is None or main.near < thread.began

    def _call_with_words(self, thread: Thread, *, late: bool) -> Call | None:
        """Find the call that started *thread* by its prompt.

        Before 2.1.150, nothing else connects the two until the subagent has ended.
        """
        named = set(self._agent_results.values())
        calls = [
            call
            for call in self._agent_calls.values()
            if _is_same_task(call, thread) and call.claimed_by in (None, thread.key) and call.id not in named
        ]
        rivals = [
            other
            for other in self._threads.values()
            if other.parent_context is None
            and other.first_text == thread.first_text
            and other.key not in self._agent_results
        ]
        if not calls:
            return None
        if len(calls) > 1 or len(rivals) > 1:
            # Several subagents have the same first text. A guess would depend on whose file is read first, so wait for
            # their results, which name them. If none will come, the order in which they began decides.
            if not thread.key.startswith(SIDE) and not late:
                return None
            place = sorted(rivals, key=_order).index(thread)
            return calls[place] if place < len(calls) else None
        return calls[0]

    def _fallback_context(self, thread: Thread) -> Context:
        """Return the context of a subagent whose call is not known."""
        prompt = self._prompts_by_id.get(thread.prompt_id or "")
        warm_up = thread.first_text == _WARM_UP
        return Context(
            framework=FRAMEWORK,
            session=thread.session or self.session,
            turn=TurnKey(kind="prompt", id=thread.prompt_id or thread.first_uuid or thread.key),
            prompt=prompt.text if prompt else None,
            session_name=None if warm_up else self._name,
            turn_name=prompt.name if prompt else None,
            permission_mode=prompt.permission_mode if prompt else None,
            agent=thread.agent_type or ("warm-up" if warm_up else _label(thread.key) or "subagent"),
            # A subagent that goes on after /clear is logged with the next session; its call is in the one before.
            parent_call=thread.call_id,
            is_subagent=True,
        )

    # ------------------------------------------------------------------ traces

    def _tallies(self, context: Context) -> tuple[Tally, ...]:
        session = context.session
        if not self._by_turn:
            return (self._session_tally(session),)
        key = session, context.turn
        if key not in self._turns:
            self._turns[key] = Tally(scope="turn", session=session, turn=context.turn, name=context.turn_name)
            if session == self.session:
                for _ in range(self._unknown_by_turn.pop(context.turn, 0)):
                    self._turns[key].add_unknown()
        return self._session_tally(session), self._turns[key]

    def _tallies_of(self, record: UserRecord | AttachmentRecord, prompt: PromptLine) -> list[Tally]:
        """Return the sums, as far as there are any, that a line of the main thread belongs to."""
        session = record.session_id or self.session
        found = (self._sessions.get(session), self._turns.get((session, prompt.turn)))
        return [tally for tally in found if tally is not None]

    def _session_tally(self, session: str) -> Tally:
        if session not in self._sessions:
            self._sessions[session] = Tally(scope="session", session=session)
        return self._sessions[session]

    def _announce(self, thread: Thread, context: Context, at: int | None) -> None:
        """Give out the session's opening with the main thread's first attempt at an API call.

        Subagents do not open it: in what order their files are read would decide what it says.
        """
        tally = self._session_tally(context.session)
        if thread.is_subagent or tally.announced:
            return
        tally.announced, tally.announced_at = True, at
        prompt = tally.prompt or context.prompt
        self._out.append(
            OpeningTrace(session=context.session, context=context, at=at, name=context.session_name, prompt=prompt)
        )

    @property
    def _name(self) -> str | None:
        """The session's title so far, else its first prompt. The client makes titles from all that a session holds."""
        return (self._title if self._title_is_own or not self._hides_copies else None) or self._first_name

    def _session_name(self, session: str) -> str | None:
        if session == self.session or len(self._sessions) == 1:
            return self._name
        tally = self._sessions.get(session)
        return prompts.name(tally.prompt) or None if tally and tally.prompt else None

    def _is_busy(self, turn: TurnKey, now: float) -> bool:
        """Whether anything that belongs to *turn* may still come."""
        calls = self._main.calls.values()
        for thread in self._threads.values():
            if thread.is_subagent:
                if thread.parent_context is not None and thread.parent_context.turn != turn:
                    continue
                if thread.working and now < self._over_at(thread):
                    return True
                if thread.messages or thread.waiting or thread.calls or thread.compaction:
                    return True
        if turn == self._turn and self._main.messages:
            return True
        if self._main.compaction is not None and self._main.compaction.turn == turn:
            return True
        return any(call.line_context.prompt is None or call.line_context.prompt.turn == turn for call in calls)

    def _over_at(self, thread: Thread) -> float:
        """Return when a subagent that owes an answer counts as over, if no further line comes."""
        is_finished = thread.meta is not None and thread.meta.finished
        return thread.heard_at + (_FINISHED_SECONDS if is_finished else self._quiet)

    def _drain(self) -> list[Span]:
        spans, self._out = self._out, []
        return spans


def _promises_more(message: OpenMessage) -> bool:
    """Whether the stop reason of an open message tells that another line will finish it, or is one of its own.

    Clients before 2.1.100 log each block by itself. On a machine that hardly lets them run, seconds pass between two.
    """
    kinds = {block.type for block in message.blocks}
    if message.stop_reason == "tool_use":
        return _version(message.line_context.version) < _RESULT_ENDS_MESSAGE_BEFORE or "tool_use" not in kinds
    return message.stop_reason == "end_turn" and bool(kinds) and kinds <= _THOUGHTS


def _status(record: UserRecord, part: Block, *, interrupted: bool) -> Literal["ok", "error", "denied", "interrupted"]:
    """Return how a tool call ended."""
    if interrupted:
        return "interrupted"
    if not part.is_error:
        return "ok"
    decision = record.permission_decision.decision if record.permission_decision else None
    if record.tool_denial_before_run or decision in ("reject", "deny"):
        return "denied"
    words = text_of(part.content) if isinstance(part.content, msgspec.Raw) else ""
    if record.tool_denial_kind == "user-rejected" or words.startswith("The user doesn't want to proceed"):
        # Since 2.1.329, Claude Code notes if the user refused a tool before it ran. So a refusal without that note
        # stopped a running tool. Older clients do not tell the two apart.
        known = _version(record.version) >= _DENIED_BEFORE_RUN_SINCE
        return "interrupted" if known else "denied"
    return "interrupted" if prompts.is_interrupt(words) else "error"


def _is_inherited(record: AssistantRecord, thread: Thread) -> bool:
    """Whether a line at the beginning of a subagent's log may be its parent's: the subagent has no text yet."""
    if thread.first_uuid is not None:
        return False
    above = record.parent_uuid
    return above is None or any(above == other.uuid for other, _ in thread.inherited)


_TEAMMATE = "<teammate-message"
_DIRECTIVE = "Your directive: "


def _task(text: str) -> str:
    """Return the task in a subagent's first text, without the envelope that Claude Code puts around some tasks."""
    start = text.lstrip()
    if start.startswith(_TEAMMATE):
        inside, closed, _ = start.partition(">")[2].partition("</teammate-message>")
        return inside.strip() if closed else text
    if start.startswith("<fork-boilerplate>"):
        directive = start.partition("</fork-boilerplate>")[2].partition(_DIRECTIVE)[2]
        return directive.strip() or text
    return text


def _skill(text: str) -> str | None:
    """Return the skill that a subagent's first text is from; None if it is not a skill's."""
    prefix = "Base directory for this skill: "
    if not text.startswith(prefix):
        return None
    return text[len(prefix) :].partition("\n")[0].rstrip("/ ").replace("\\", "/").rpartition("/")[2] or None


_LABELED = re.compile(r"a([a-z][a-z_]*)-[0-9a-f]+")


def _label(agent: str) -> str | None:
    """Return what the id of a subagent says that it is for, such as `compact` or `prompt_suggestion`.

    The client starts these by itself.
    """
    found = _LABELED.fullmatch(agent)
    return found[1] if found else None


def _is_same_task(call: Call, thread: Thread) -> bool:
    return call.prompt is not None and call.prompt.strip() == (thread.first_text or "").strip()


def _origin(
    kind: prompts.TextKind, *, added: bool, is_subagent: bool
) -> Literal["prompt", "client", "command_output", "agent_prompt", "notification"]:
    """Return where a user text comes from; *added* says that the client marked it as its own."""
    if kind == "output":
        return "command_output"
    if kind == "notification":
        return "notification"
    if added or kind in ("interrupt", "note"):
        return "client"
    return "agent_prompt" if is_subagent else "prompt"


def _given(opening: InputMessage | None, inputs: list[Input]) -> tuple[InputMessage, ...]:
    """Return what a request added to the conversation, after what its turn started with; no message comes twice."""
    added = [item.message for item in inputs if item.message is not opening]
    return tuple(added if opening is None else [opening, *added])


def _rename(record: Record, session: str) -> None:
    """Let a line belong to *session*."""
    if isinstance(record, UserRecord | AssistantRecord | SystemRecord | AttachmentRecord):
        record.session_id = session


def _has_new_ids(record: AssistantRecord) -> bool:
    """Whether a line may be from a copy with new ids: its message has the id of the line."""
    message = record.message
    return message is not None and bool(record.request_id) and message.id is not None and message.id == record.uuid


def _may_get_new_ids(message: OpenMessage) -> bool:
    """Whether there may be copies of a message that have new ids."""
    if not message.request_id or message.has_new_ids:
        return False
    return _version(message.line_context.version) < _COPIES_WITH_NEW_IDS_BEFORE


def _request_name(message: OpenMessage) -> str:
    """Return what stays of a message in a copy with new ids: its request, its model and its time."""
    return f"{message.request_id}|{message.model}|{message.first_at}"


def _block_key(part: Block) -> bytes:
    """Return a key that is the same for the same block in every line of its message."""
    return part.id.encode() if part.type == "tool_use" and part.id else part.raw


def _order(thread: Thread) -> tuple[int, str]:
    return thread.began or 0, thread.key


def _call_input(data: bytes | None) -> _CallInput:
    try:
        return msgspec.json.decode(data or b"{}", type=_CallInput)
    except (msgspec.MsgspecError, RecursionError):
        return _CallInput()


def _string(data: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(data, type=str)
    except msgspec.MsgspecError:
        return None
