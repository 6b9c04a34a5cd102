"""Whole sessions, one for each thing that sessions do, and how their events are sent.

`tests/golden` holds the events that they give. `tests/test_content.py` looks for content in those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from llma_core.privacy import Policy
from llma_core.properties import Attribution
from tests.support.logs import LogBuilder, image, redacted_thinking, text, thinking, tool_use, usage

__all__ = ["CASES", "Case", "Files"]

FORK = "9a9a9a9a-0000-4000-8000-000000000001"
ADA = Attribution(distinct_id="ada@example.com")

Files = dict[str, bytes]


def parallel_tools() -> Files:
    """Two tools run while the message that called them is still being written."""
    log = LogBuilder()
    log.prompt("Count the apple and the pear trees")
    log.api_request()
    log.wait(1)
    answer = log.message(stop_reason="tool_use", counts=usage(9, 777, output_tokens_details={"thinking_tokens": 40}))
    answer.add(thinking("Both can be counted at once."))
    answer.add(text("I count both."))
    answer.add(tool_use("Bash", {"command": "ls apples", "timeout": 1000}, id="toolu_apples"))
    log.wait(0.5)
    log.tool_result("toolu_apples", "ada\nbea", noted={"stdout": "ada\nbea", "interrupted": False})
    answer.add(tool_use("mcp__orchard__pears", {"row": 3}, id="toolu_pears"), last=True)
    log.wait(2)
    log.tool_result("toolu_pears", [text("cleo"), image()])
    log.wait(1)
    log.answer(text("Three."), counts=usage(30, 5))
    log.turn_duration()
    log.cost_state(0.0421, added=0, removed=0)
    return log.files()


def subagent() -> Files:
    """A subagent with a meta file does the work."""
    log = LogBuilder()
    log.prompt("Let somebody count")
    log.answer(tool_use("Agent", {"prompt": "Count the apples", "subagent_type": "gardener"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "Count the apples", type="gardener", id="a0123456789abcdef")
    agent.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    agent.tool_result("toolu_ls", "ada")
    agent.answer(text("One apple."))
    log.agent_result("toolu_agent", agent, "One apple.")
    log.answer(text("It is one."))
    return log.files()


def nested_subagent() -> Files:
    """A subagent starts another one in the background. Its end starts a turn."""
    log = LogBuilder()
    log.prompt("Let somebody let somebody count")
    log.answer(tool_use("Agent", {"prompt": "outer", "subagent_type": "gardener"}, id="toolu_outer"))
    outer = log.agent("toolu_outer", "outer", type="gardener", id="a0000000000000001")
    outer.answer(tool_use("Agent", {"prompt": "inner", "subagent_type": "picker"}, id="toolu_inner"))
    inner = outer.agent("toolu_inner", "inner", type="picker", id="a0000000000000002")
    outer.agent_result("toolu_inner", inner, "", background=True)
    inner.answer(text("One pear."))
    inner.finish()
    outer.answer(text("It is being done."))
    log.agent_result("toolu_outer", outer, "It is being done.")
    log.answer(text("Wait."))
    log.task_notification("<task-id>a0000000000000002</task-id>\n<status>completed</status>")
    log.answer(text("One pear."))
    return log.files()


def retry() -> Files:
    """Two attempts fail before one succeeds."""
    log = LogBuilder()
    log.prompt("Count")
    for attempt in (1, 2):
        log.api_request()
        log.wait(1)
        log.api_error(529, "overloaded_error", attempt=attempt)
    log.wait(2)
    log.answer(text("Two."))
    return log.files()


def permanent_error() -> Files:
    """A request fails for good and ends the session."""
    log = LogBuilder()
    log.prompt("Count")
    log.api_request()
    log.permanent_error("API Error: 400 messages.0: too many trees", status=400, kind="invalid_request_error")
    return log.files()


def interrupted() -> Files:
    """The user stops a text, denies a call, and stops a running tool."""
    log = LogBuilder()
    log.prompt("Tell me everything")
    log.answer(text("In the beg"), aborted=True)
    log.interrupted()
    log.prompt("Remove the trees")
    log.answer(tool_use("Bash", {"command": "rm -r trees"}, id="toolu_rm"))
    log.denied("toolu_rm")
    log.interrupted(for_tool=True)
    log.prompt("Just wait")
    log.answer(tool_use("Bash", {"command": "sleep 60"}, id="toolu_sleep"))
    log.wait(3)
    refusal = "The user doesn't want to proceed with this tool use."
    log.tool_result("toolu_sleep", refusal, error=True, decision=None, toolDenialKind="user-rejected")
    log.interrupted(for_tool=True)
    log.prompt("Never mind")
    log.answer(text("As you like."))
    return log.files()


def compaction() -> Files:
    """The conversation is replaced by a summary in the middle of a turn."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(tool_use("Read", {"file_path": "trees.txt"}, id="toolu_read"))
    log.tool_result("toolu_read", "ada\nbea")
    log.compaction("They were counting trees: ada, bea.")
    log.answer(text("Two."))
    return log.files()


def _forked(version: str, *, branch: bool = False) -> Files:
    log = LogBuilder(version=version)
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("Two."))
    fork = log.fork(FORK, branch=branch)
    fork.prompt("And the pears?")
    fork.answer(text("One."))
    return {**fork.files(), **log.files()}


def fork_marked() -> Files:
    """A fork whose copied lines name their session."""
    return _forked("2.1.329")


def fork_unmarked() -> Files:
    """A fork whose copied lines do not name their session."""
    return _forked("2.1.100")


def held_back() -> Files:
    """A client that delays its answers writes a call's result before the call."""
    log = LogBuilder(version="2.1.150")
    log.prompt("Count")
    log.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.answer(text("Two."))
    return log.files()


def cut_stream() -> Files:
    """A stream breaks off after a block. The client asks the model to continue."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Tw"), cut=True)
    log.note("Your response above was cut off mid-stream. Go on from there.")
    log.answer(text("Two."))
    return log.files()


def message_grouping() -> Files:
    """Prompts, commands, a queued prompt, and an answer without a prompt: a trace for each."""
    log = LogBuilder()
    log.answer(text("Where were we?"))
    log.prompt("Count the trees", permissionMode="plan")
    log.answer(tool_use("Agent", {"prompt": "go"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "go", id="a0000000000000003")
    agent.answer(text("Two."))
    log.agent_result("toolu_agent", agent, "Two.")
    log.queued_prompt("The pears too")
    log.answer(text("Two, and one pear."))
    log.turn_duration()
    log.title("Trees and pears")
    log.command("/cost", output="Total cost: $0.04")
    log.command("/greet", "the world", expansion="Say hello to the world")
    log.answer(text("Hello, world."))
    return log.files()


def old_client() -> Files:
    """2.0.76: no prompt ids, token counts only in some lines, subagents' logs beside the session's, warm-ups."""
    log = LogBuilder(version="2.0.76", branch="")
    log.warm_up().answer(text("Ready."), model="claude-haiku-4-5-20251001")
    log.prompt("Count the trees")
    log.answer(
        thinking("Somebody should."), tool_use("Task", {"prompt": "go", "subagent_type": "Explore"}, id="toolu_task")
    )
    agent = log.agent("toolu_task", "go", id="a12b34c")
    agent.answer(text("Two."))
    log.tool_result("toolu_task", [text("Two.")], noted={"status": "completed", "agentId": "a12b34c"})
    log.answer(text("Two."))
    log.prompt("And the pears?")
    log.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_ls"))
    return log.files()


def content() -> Files:
    """Every kind of content, for the content levels."""
    log = LogBuilder()
    log.title("Orchard plans")
    log.prompt([text("What stands in this picture?"), image()])
    log.answer(
        thinking("An apple tree."),
        redacted_thinking(),
        text("An apple tree. I look closer."),
        tool_use("Read", {"file_path": "/home/ada/orchard/tree.png", "schema": {"kind": "image"}}, id="toolu_read"),
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "apple trees"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "Trees", "url": "x"}]},
    )
    log.tool_result("toolu_read", [text("tree.png"), image()])
    log.answer(tool_use("Bash", {"command": "false"}, id="toolu_false"))
    log.tool_result("toolu_false", "Exit code 1", error=True, noted="Error: Exit code 1")
    log.answer(text("It is an apple tree."))
    log.permanent_error("API Error: 500 the tree fell over", status=500, kind="api_error")
    log.cost_state(0.0421, added=2, removed=0)
    return log.files()


def _two_prompts(version: str) -> Files:
    log = LogBuilder(version=version, requests=True)
    log.prompt("Count the apple trees")
    log.answer(text("I look."), tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"))
    log.tool_result("toolu_apples", "ada\nbea")
    log.queued_prompt("The pear trees too")
    agent = {"prompt": "Count the pears", "subagent_type": "gardener"}
    log.answer(tool_use("Agent", agent, id="toolu_agent"))
    gardener = log.agent("toolu_agent", "Count the pears", type="gardener", id="a0123456789abcdef")
    gardener.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_pears"))
    gardener.tool_result("toolu_pears", [text("cleo"), image()])
    gardener.answer(text("One pear tree."))
    log.agent_result("toolu_agent", gardener, "One pear tree.")
    log.answer(thinking("Two and one."), text("Three."))
    log.prompt("And the plums?")
    log.answer(text("None."))
    return log.files()


def full_input() -> Files:
    """A log from which requests can be rebuilt: two prompts, tools, a prompt that joins a running turn, a subagent."""
    return _two_prompts("2.1.329")


def full_input_old() -> Files:
    """The same session from a client that kept no requests."""
    return _two_prompts("2.1.100")


def _streamed(version: str) -> Files:
    """One answer in three lines with a result between them, a subagent, and an answer at the end of the log."""
    log = LogBuilder(version=version)
    log.prompt("Count the trees")
    answer = log.message(stop_reason="tool_use", counts=usage(9, 777))
    answer.add(thinking("Somebody should help."))
    log.wait(1)
    answer.add(tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"))
    log.tool_result("toolu_apples", "ada\nbea")
    pears = {"prompt": "Count the pears", "subagent_type": "gardener"}
    answer.add(tool_use("Task", pears, id="toolu_task"), last=True)
    agent = log.agent("toolu_task", "Count the pears", type="gardener")
    agent.answer(thinking("Pears."), text("One pear."), counts=usage(5, 333))
    log.progress(agent.line()["message"])
    log.progress(agent.line()["message"] | {"id": "msg_told_of", "content": [text("I count.")]})
    log.agent_result("toolu_task", agent, "One pear.")
    log.answer(text("Two apples"), text("and one pear."), counts=usage(20, 555))
    return log.files()


def counts_at_first() -> Files:
    """2.1.50: each block is written at once, nearly always with the first token counts and no stop reason."""
    return _streamed("2.1.50")


def counts_at_last() -> Files:
    """2.1.72: each block is written at once, and the last line has the final token counts."""
    return _streamed("2.1.72")


def counts_held_back() -> Files:
    """2.1.200: the main log waits for the final token counts; a subagent's log does not."""
    return _streamed("2.1.200")


def repeated_blocks() -> Files:
    """Blocks that stand twice in one answer, lines without a block, and a line with several."""
    log = LogBuilder()
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use")
    answer.add()
    answer.add(text("I look."))
    answer.add(text("I look."))
    answer.add(thinking("", signature="b25l"), thinking("", signature="dHdv"))
    answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    answer.add(tool_use("Bash", {"command": "ls"}, id="toolu_ls"), last=True)
    log.tool_result("toolu_ls", "ada")
    log.tool_result("toolu_ls", "ada, once more")
    return log.files()


def refused_and_too_long() -> Files:
    """An answer that is too long, one that is refused, and one that breaks off in an old client's log."""
    log = LogBuilder()
    log.prompt("Tell me everything")
    log.answer(text("In the beginning"), stop_reason="max_tokens")
    log.note("Output token limit hit. Go on.")
    log.answer(text("I cannot."), stop_reason="refusal")
    log.system("informational", content="The model refused.", level="info")
    log.note("Try again.")
    log.api_request()
    log.permanent_error("API Error: the model refused", status=None, kind=None)
    return log.files()


def broken_off() -> Files:
    """2.1.72: a stream breaks off without a note, and the answer comes again under another id."""
    log = LogBuilder(version="2.1.72")
    log.prompt("Count")
    log.answer(text("Tw"), cut=True)
    log.answer(text("Two."))
    return log.files()


def sidechains() -> Files:
    """2.0.1: two subagents at once in the main log. Only their chains of parents tell them apart."""
    log = LogBuilder(version="2.0.1", branch="")
    log.prompt("Let somebody count")
    apples = tool_use("Task", {"prompt": "Count the apples", "subagent_type": "gardener"}, id="toolu_apples")
    pears = tool_use("Task", {"prompt": "Count the pears", "subagent_type": "picker"}, id="toolu_pears")
    log.answer(apples, pears)
    gardener = log.agent("toolu_apples", "Count the apples", type="gardener")
    picker = log.agent("toolu_pears", "Count the pears", type="picker")
    picker.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_ls"))
    gardener.answer(text("Two apples."))
    picker.tool_result("toolu_ls", "cleo")
    picker.answer(text("One pear."))
    log.tool_result("toolu_pears", [text("One pear.")])
    log.tool_result("toolu_apples", [text("Two apples.")])
    log.answer(text("Three."))
    return log.files()


def linked_by_result() -> Files:
    """2.1.50: no meta files, and two subagents with the same prompt. Their results tell which call each belongs to."""
    log = LogBuilder(version="2.1.50")
    log.prompt("Ask two of them")
    calls = [
        tool_use("Task", {"prompt": "Guess", "subagent_type": "guesser"}, id=f"toolu_{name}") for name in ("a", "b")
    ]
    log.answer(*calls)
    second = log.agent("toolu_b", "Guess", type="guesser", id="a0000000000000002")
    first = log.agent("toolu_a", "Guess", type="guesser", id="a0000000000000001")
    first.answer(text("Seven."))
    second.answer(text("Nine."))
    log.agent_result("toolu_b", second, "Nine.")
    log.agent_result("toolu_a", first, "Seven.")
    log.answer(text("Seven and nine."))
    return log.files()


def linked_to_nothing() -> Files:
    """A subagent whose call is in no log belongs to the trace."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("I had somebody do it."))
    agent = log.agent("toolu_lost", "Count", type="gardener", id="a0000000000000001")
    agent.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    agent.tool_result("toolu_ls", "ada")
    return log.files()


def background_agent() -> Files:
    """A subagent works in the background while a new prompt is answered. Its end starts a turn."""
    log = LogBuilder()
    log.prompt("Count in the background")
    log.answer(tool_use("Agent", {"prompt": "Count", "subagent_type": "gardener"}, id="toolu_agent"))
    agent = log.agent("toolu_agent", "Count", type="gardener", id="a0000000000000001")
    log.agent_result("toolu_agent", agent, "", background=True)
    agent.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.answer(text("It is being done."))
    log.turn_duration(pending_agents=1)
    log.prompt("How are you?")
    agent.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("Well."))
    log.turn_duration(pending_agents=1)
    agent.answer(text("Two trees."))
    agent.finish()
    log.queue("enqueue", "<task-notification>")
    log.task_notification("<task-id>a0000000000000001</task-id>\n<result>Two trees.</result>")
    log.answer(text("It found two."))
    log.turn_duration()
    return log.files()


def late_lines() -> Files:
    """A line of an answer that comes after the next answer still adds its call."""
    log = LogBuilder()
    log.prompt("Count")
    answer = log.message(stop_reason="tool_use", counts=usage(1, 2))
    answer.add(tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"))
    log.tool_result("toolu_apples", "ada")
    log.answer(text("One apple."))
    answer.add(tool_use("Bash", {"command": "ls pears"}, id="toolu_pears"), last=True)
    log.tool_result("toolu_pears", "cleo")
    log.answer(text("And one pear."))
    return log.files()


def branch_marked() -> Files:
    """A branch. Each of its lines names its session."""
    return _forked("2.1.329", branch=True)


def fork_of_an_old_client() -> Files:
    """2.1.1: the first copied line keeps the old session's id. The others have the new one's."""
    return _forked("2.1.1")


def resumed_into_a_new_log() -> Files:
    """2.1.1: a resumed session gets its own log, which begins with unchanged copies of all lines of the first."""
    log = LogBuilder(version="2.1.1")
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada\nbea")
    log.answer(text("Two."))
    resumed = log.continued(FORK)
    resumed.prompt("And the pears?")
    resumed.answer(text("One."))
    return {**resumed.files(), **log.files()}


def cleared() -> Files:
    """After `/clear`, a new session starts in its own log and copies nothing of the first."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Two."))
    log.cost_state(0.5, added=1, removed=0, models={"claude-opus-5-5": [10, 50, 1000, 300]})
    new = log.clear(FORK)
    new.prompt("And the pears?")
    new.answer(text("One."))
    new.cost_state(0.25, added=0, removed=0)
    return {**new.files(), **log.files()}


def rewound() -> Files:
    """A prompt is taken back and replaced by another. What followed the first one stays in the log."""
    log = LogBuilder()
    log.prompt("Count the apples")
    log.answer(text("Two."))
    log.prompt("And the pears")
    log.answer(tool_use("Bash", {"command": "ls pears"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "cleo")
    log.answer(text("One."))
    log.rewind(2)
    log.prompt("And the plums")
    log.answer(text("None."))
    return log.files()


def compacted_by_hand() -> Files:
    """A person compacts the conversation between two prompts, with a command."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Two."))
    log.compaction("They counted two trees.", trigger="manual", preTokens=13_737, postTokens=2_965, durationMs=181)
    log.note("<local-command-caveat>Caveat</local-command-caveat>")
    log.command("/compact", output="Compacted")
    log.prompt("And the pears?")
    log.answer(text("One."))
    return log.files()


def queued_prompts() -> Files:
    """A prompt that joins the running turn at a tool's result, and one that waits for the turn's end."""
    log = LogBuilder()
    log.prompt("Count the apples")
    log.answer(tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"))
    log.queue("enqueue", "And the pears")
    log.tool_result("toolu_apples", "ada")
    log.queue("remove", "And the pears")
    log.queued_prompt("And the pears")
    log.answer(text("One apple, one pear."))
    log.queue("enqueue", "And the plums")
    log.turn_duration()
    log.queue("dequeue")
    log.prompt("And the plums", promptSource="queued")
    log.answer(text("None."))
    return log.files()


def commands() -> Files:
    """Commands that print, a command that is a prompt, a shell command, and something pasted."""
    log = LogBuilder()
    log.note("<local-command-caveat>Caveat</local-command-caveat>")
    log.command("/cost", output="Total cost: $0.04")
    log.command("/greet", "the world", expansion="Say hello to the world")
    log.answer(text("Hello, world."))
    log.bash("ls apples", "ada\nbea")
    log.answer(text("I see two apples."))
    log.prompt('Explain <pasted_content id="47ff">a < b\nand c > d</pasted_content>')
    log.answer(text("It compares."))
    return log.files()


def hooks() -> Files:
    """Hooks of the user: at the start, at a prompt, before and after tools, at the end. One fails."""
    log = LogBuilder()
    log.hook("SessionStart", seconds=0.04)
    log.prompt("Count")
    log.hook("UserPromptSubmit", seconds=0.008)
    log.answer(
        tool_use("Bash", {"command": "ls"}, id="toolu_ls"), tool_use("Read", {"file_path": "x"}, id="toolu_read")
    )
    log.hook("PreToolUse", "toolu_ls", tool="Bash", seconds=0.25)
    log.tool_result("toolu_ls", "ada")
    log.tool_result("toolu_read", "bea")
    log.hook("PostToolUse", "toolu_ls", tool="Bash", error="the gate is shut")
    log.answer(text("Two."))
    log.hook("Stop", seconds=1)
    log.turn_duration()
    return log.files()


def hooks_summed_up() -> Files:
    """2.1.72: only the hooks at the end of a turn are noted, and only their sum."""
    log = LogBuilder(version="2.1.72")
    log.prompt("Count")
    log.answer(text("Two."))
    runs = [{"command": "check", "durationMs": 1500}, {"command": "tidy", "durationMs": 20}]
    log.system("stop_hook_summary", toolUseID="stop-1", hookCount=2, hookInfos=runs, hookErrors=["the gate is shut"])
    return log.files()


def mcp_and_skills() -> Files:
    """Tools of an MCP server, one of which fails, and an answer under a skill."""
    log = LogBuilder()
    log.prompt("Add")
    log.answer(tool_use("mcp__garden__add", {"a": 2, "b": 3}, id="toolu_add"))
    log.tool_result("toolu_add", '{"sum":5}', noted='{"sum":5}', mcpMeta={"structuredContent": {"sum": 5}})
    server = {"attributionMcpServer": "garden", "attributionMcpTool": "add"}
    log.answer(tool_use("mcp__garden__boom", id="toolu_boom"), **server)
    log.tool_result("toolu_boom", "boom failed", error=True, noted="Error: boom failed")
    log.answer(tool_use("Skill", {"skill": "pruning"}, id="toolu_skill"))
    log.tool_result("toolu_skill", "Launching skill: pruning")
    log.answer(tool_use("Bash", {"command": "prune"}, id="toolu_prune"), attributionSkill="pruning")
    log.tool_result("toolu_prune", "")
    log.answer(text("Pruned."), attributionSkill="pruning")
    return log.files()


def worktree() -> Files:
    """A session moves into a worktree, so its folder and its branch change."""
    log = LogBuilder()
    log.prompt("Cut the hay")
    log.answer(tool_use("EnterWorktree", {"name": "hay"}, id="toolu_enter"))
    log.cd("/home/ada/worktrees/meadow", branch="hay")
    log.tool_result("toolu_enter", "Entered")
    log.answer(tool_use("Bash", {"command": "mow"}, id="toolu_mow"))
    log.tool_result("toolu_mow", "mown")
    log.cd("/home/ada/orchard", branch="HEAD")
    log.answer(text("Cut."))
    return log.files()


def hosted() -> Files:
    """A session goes on in the log of another, which its client had open when the user resumed it."""
    log, resumed = LogBuilder(), LogBuilder(FORK)
    resumed.prompt("Count the pears")
    resumed.answer(text("One pear."))
    log.prompt("Count the trees")
    log.answer(text("Two trees."))
    with resumed.in_the_log_of(log):
        resumed.prompt("And the plums")
        resumed.answer(tool_use("Bash", {"command": "ls plums"}, id="toolu_plums"))
        resumed.tool_result("toolu_plums", "ada")
        resumed.answer(text("One plum."))
    log.prompt("And the elms")
    log.answer(text("No elms."))
    return {**log.files(), **resumed.files()}


def unknown() -> Files:
    """Unknown types, fields, blocks, tools and stop reasons, and lines that are no records."""
    log = LogBuilder(version="3.0.0")
    log.raw({"type": "observer-note", "sessionId": log.session, "note": {"deep": [1, "tree"]}})
    log.prompt("Count", mood="curious")
    log.raw({"type": "dream", "message": {"id": "msg_dream", "model": "claude-opus-9", "usage": usage()}})
    log.raw(b"[1, 2]")
    log.raw(b"half a li")
    answer = log.message(stop_reason="ran_away", counts=usage(moonlight_tokens=7))
    answer.add({"type": "hologram", "shape": "tree", "id": "holo_1"}, future=True)
    answer.add(tool_use("Teleport", {"to": "pears"}, id="toolu_teleport"), last=True)
    log.tool_result("toolu_teleport", [{"type": "smell", "of": "pears"}], aroma=3)
    log.system("weather_report", content="sunny")
    log.attachment("postcard", picture="trees")
    log.answer(text("One."))
    return log.files()


def side_calls() -> Files:
    """The client's own totals hold more than the log: calls for titles and the like have no line."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("Two."), counts=usage(10, 50, cache_read=1000, cache_5m=200, cache_1h=100))
    log.title("Counting trees")
    totals = {"claude-opus-5-5": [10, 50, 1000, 300], "claude-haiku-4-5": [120, 12, 0, 0]}
    log.cost_state(0.0421, added=2, removed=1, models=totals)
    return log.files()


def providers() -> Files:
    """Models with the names of Bedrock and Vertex."""
    log = LogBuilder()
    for model in ("us.anthropic.claude-opus-5-5-v1:0", "claude-opus-5-5@20260101", "claude-opus-5-5"):
        log.prompt("Count")
        log.answer(text("Two."), model=model)
    log.prompt("Again")
    log.api_request(model="arn:aws:bedrock:us-east-1:1:inference-profile/x.claude-opus-5-5")
    log.permanent_error("API Error: 403 no access", status=403, kind="permission_error")
    return log.files()


def advisor() -> Files:
    """A call in which another model is asked and the conversation is compacted."""
    log = LogBuilder()
    log.prompt("Which tree first?")
    asked = {"type": "advisor_message", "model": "claude-sonnet-5-5", **usage(159_000, 7800, cache_5m=0, cache_1h=0)}
    parts = [{"type": "message", **usage(2, 491)}, asked, {"type": "compaction", **usage(180_000, 3500)}]
    log.answer(text("The old one."), counts=usage(2, 491, iterations=parts))
    return log.files()


def workflow() -> Files:
    """A workflow starts two subagents. Their logs are in the folder of its run."""
    log = LogBuilder()
    log.prompt("Audit the orchard")
    log.answer(tool_use("Workflow", {"name": "audit"}, id="toolu_audit"))
    log.tool_result("toolu_audit", "launched", noted={"status": "async_launched", "runId": "wf_1"})
    for number in (1, 2):
        agent = log.agent("toolu_none", f"Look at tree {number}", id=f"a000000000000000{number}", meta=False)
        log.place(agent, log.agent_path(agent.id).replace("/subagents/", "/subagents/workflows/wf_1/"))
        agent.answer(tool_use("Read", {"file_path": f"tree{number}.md"}, id=f"toolu_{number}"))
        agent.tool_result(f"toolu_{number}", "healthy")
        agent.answer(text("Healthy."))
    log.answer(text("All healthy."))
    return log.files()


def teammates() -> Files:
    """Two teammates in the same process, whose tasks come in envelopes."""
    log = LogBuilder()
    log.prompt("Make a team")
    for name in ("guard", "scout"):
        call = f"toolu_{name}"
        log.answer(tool_use("Agent", {"name": name, "prompt": f"Be the {name}"}, id=call))
        log.tool_result(call, "Spawned", noted={"status": "teammate_spawned", "teammate_id": f"{name}@orchard"})
        told = f'<teammate-message teammate_id="lead">\nBe the {name}\n</teammate-message>'
        mate = log.agent(call, told, id=f"a{name}-0123456789abcdef", type=name)
        log.metas[mate.id] = {"agentType": name}
        mate.answer(text(f"I am the {name}."))
    log.answer(text("The team is complete."))
    return log.files()


def skill_with_a_context() -> Files:
    """A skill that runs as a subagent."""
    log = LogBuilder()
    log.prompt("Greet")
    log.answer(tool_use("Skill", {"skill": "garden:greet", "args": "x"}, id="toolu_greet"))
    words = "Base directory for this skill: /home/ada/skills/greet\n\nGreet x"
    agent = log.agent("", words, id="a0123456789abcdef", meta=False)
    agent.answer(text("Hello."))
    log.tool_result("toolu_greet", "Hello.", noted={"status": "forked", "agentId": agent.id})
    log.answer(text("Done."))
    return log.files()


def damaged_lines() -> Files:
    """The lines that a crash and two writers leave: zero bytes, half a line, two records on one line."""
    log = LogBuilder()
    log.prompt("Count")
    log.answer(text("One."))
    log.answer(text("Two."))
    log.answer(text("Three."))
    path, *_ = files = log.files()
    lines = files[path].splitlines(keepends=True)
    *before, one, two, three = lines
    damaged = [b"\0" * 16 + one, two[:40] + two.rstrip(b"\n") + three]
    return {**files, path: b"".join(before + damaged)}


def two_terminals() -> Files:
    """Two terminals continue one session at the same time."""
    log = LogBuilder()
    log.prompt("From one")
    above = log.line()["uuid"]
    first = log.message(stop_reason="tool_use", counts=usage(10, 40))
    first.add(text("I count the apples."))
    apples = log.line()["uuid"]
    log.prompt("From two")
    log.line()["parentUuid"] = above
    second = log.message(stop_reason="end_turn", counts=usage(20, 50))
    second.add(text("There are two pears"))
    first.add(tool_use("Bash", {"command": "ls apples"}, id="toolu_apples"), last=True)
    log.line()["parentUuid"] = apples
    second.add(text("and a quince."), last=True)
    return log.files()


def agent_in_a_worktree() -> Files:
    """A subagent works in its own worktree, and its log is in that folder's project."""
    log = LogBuilder()
    log.prompt("Cut the hay elsewhere")
    call = {"prompt": "Cut", "subagent_type": "mower", "isolation": "worktree"}
    log.answer(tool_use("Agent", call, id="toolu_mower"))
    mower = log.agent("toolu_mower", "Cut", type="mower", id="a0123456789abcdef")
    log.place(mower, f"-home-ada-orchard-meadow/{log.session}/subagents/agent-{mower.id}.jsonl")
    mower.answer(text("Cut."))
    log.agent_result("toolu_mower", mower, "Cut.")
    log.answer(text("It is cut."))
    return log.files()


def started_as_an_agent() -> Files:
    """A session that was started as an agent, and stopped by a limit."""
    log = LogBuilder()
    log.raw({"type": "agent-setting", "agentSetting": "gardener", "sessionId": log.session})
    log.prompt("Count")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ls"))
    log.tool_result("toolu_ls", "ada")
    log.attachment("max_turns_reached", maxTurns=1, turnCount=1)
    return log.files()


@dataclass(frozen=True, slots=True)
class Case:
    """One golden file: a log, and how it is sent."""

    files: Callable[[], Files]
    attribution: Attribution = ADA
    repository: str | None = None


CASES = {
    make.__name__: Case(make)
    for make in (
        parallel_tools,
        subagent,
        nested_subagent,
        retry,
        permanent_error,
        interrupted,
        compaction,
        fork_marked,
        fork_unmarked,
        held_back,
        cut_stream,
        old_client,
        counts_at_first,
        counts_at_last,
        counts_held_back,
        repeated_blocks,
        refused_and_too_long,
        broken_off,
        sidechains,
        linked_by_result,
        linked_to_nothing,
        background_agent,
        late_lines,
        branch_marked,
        fork_of_an_old_client,
        resumed_into_a_new_log,
        cleared,
        rewound,
        compacted_by_hand,
        queued_prompts,
        commands,
        hooks,
        hooks_summed_up,
        mcp_and_skills,
        worktree,
        hosted,
        unknown,
        side_calls,
        providers,
        advisor,
        workflow,
        teammates,
        skill_with_a_context,
        damaged_lines,
        two_terminals,
        agent_in_a_worktree,
        started_as_an_agent,
    )
} | {
    "message_grouping": Case(message_grouping, replace(ADA, grouping="message")),
    "commands_by_message": Case(commands, replace(ADA, grouping="message")),
    "background_agent_by_message": Case(background_agent, replace(ADA, grouping="message")),
    "queued_prompts_by_message": Case(queued_prompts, replace(ADA, grouping="message")),
    "linked_to_nothing_by_message": Case(linked_to_nothing, replace(ADA, grouping="message")),
    "fork_marked_by_message": Case(fork_marked, replace(ADA, grouping="message")),
    "full_input": Case(full_input, replace(ADA, input_mode="full")),
    "full_input_old": Case(full_input_old, replace(ADA, input_mode="full")),
    "level_full": Case(content, repository="ada/orchard"),
    "level_no_tool_content": Case(content, replace(ADA, policy=Policy(level="no_tool_content"))),
    "level_metadata": Case(
        content,
        Attribution(
            distinct_id=f"claude-code:{LogBuilder().session}",
            identified=False,
            policy=Policy(level="metadata"),
            purpose="review",
            properties={"team": "trees"},
        ),
    ),
}
