"""The session `demo` plays: made up for this project, in the shape of a Claude Code log.

A user asks for a flaky test to be mended. The session holds what a trace can hold: parallel tool calls whose results
stand between the blocks of their message, a call that fails, an overloaded API, a subagent that starts another one,
and a second prompt. The numbers are seconds since the start: when a line was made, and when it became readable.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from daemon.demo.transcript import Step, Thread, Transcript

__all__ = ["Step", "steps"]

_MODEL = "claude-opus-5-5"
_SMALL_MODEL = "claude-haiku-4-5"
_TITLE = "Mend the flaky retry test"
_ASK = "tests/test_retry.py fails now and then. Find out why and mend it."
_ASK_AGAIN = "Thanks! In one sentence, for the changelog?"
_OUTER = "Find every place that waits with time.sleep in src/ and say which of them the retry test can reach."
_INNER = "List the callers of wait_before_retry, with file and line."
_RETRY = (
    "import random\nimport time\n\n\ndef wait_before_retry(attempt):\n    time.sleep(random.random() * 2**attempt)\n"
)
_OLD = "    time.sleep(random.random() * 2**attempt)\n"
_NEW = "    sleep(jitter() * 2**attempt)\n"
_INNER_REPORT = "One caller: src/client.py, line 41."
_OUTER_REPORT = "Only wait_before_retry in src/retry.py sleeps; the test reaches it through src/client.py, line 41."
_FAILURE = "FAILED tests/test_retry.py::test_gives_up - Timeout: 5.0 s passed\n1 failed, 11 passed in 5.31s"


def steps(session_id: str, started: datetime, cwd: str) -> Iterator[Step]:
    """Write the session down.

    Args:
        session_id: the session's id, a UUID; every other id is derived from it.
        started: when the first step is written; the lines' timestamps follow from it and the delays.
        cwd: the folder the session seems to run in. Nothing in it is read or written.

    Returns:
        The client's writes in their order. The same arguments give the same bytes.
    """
    log = Transcript(session_id, started, cwd)
    main = Thread(log, model=_MODEL)
    _look_around(log, main)
    _fail_and_retry(main)
    _delegate(log, main)
    _mend(log, main)
    _ask_again(log, main)
    return iter(log.steps)


def _look_around(log: Transcript, main: Thread) -> None:
    """Ask; think, say and call two tools in one message."""
    main.put("mode", mode="normal")
    main.put("permission-mode", permissionMode="acceptEdits")
    main.ask(0.0, _ASK)
    main.put("last-prompt", lastPrompt=_ASK, leafUuid=main.leaf)
    main.write(0.0)
    main.request(0.06)
    main.write(0.1)
    message = main.answer(fresh=9, read=11_480, write=6_214, output=412, thinking=96)
    message.think(0.62, "It fails now and then: timing, order or randomness. What does the test wait for?")
    message.say(0.84, "I'll read the retry module and look at what the test does.")
    path = f"{log.cwd}/src/retry.py"
    read = message.call(1.02, "Read", file_path=path)
    main.result(1.05, read, _numbered(_RETRY), _file(path, _RETRY))
    look = message.call(1.24, "Bash", command="grep -n wait tests/test_retry.py", description="Find waits in the test")
    message.end("tool_use")
    main.write(1.35)
    found = "14:    wait_before_retry(attempt)"
    main.result(1.31, look, found, _shell(found))
    main.put("ai-title", aiTitle=_TITLE)
    main.request(1.4)
    main.write(1.45)


def _fail_and_retry(main: Thread) -> None:
    """Run a command that fails; meet an overloaded API."""
    message = main.answer(fresh=11, read=17_694, write=731, output=148)
    message.say(1.82, "The wait is random and really sleeps. Let me see the test fail.")
    test = message.call(2.01, "Bash", command="pytest -q tests/test_retry.py", description="Run the retry tests")
    message.end("tool_use")
    main.write(2.1)
    main.result(2.62, test, f"Exit code 1\n{_FAILURE}", f"Error: Exit code 1\n{_FAILURE}", error=True)
    main.request(2.68)
    main.write(2.7)
    main.overloaded(2.86, wait=0.5)
    main.write(2.9)
    main.request(3.36, retry=True)
    main.write(3.4)


def _delegate(log: Transcript, main: Thread) -> None:
    """Start a subagent, which starts another one."""
    message = main.answer(fresh=10, read=18_425, write=402, output=203, thinking=41)
    message.think(3.82, "Before I change the wait I should know who else depends on it.")
    call = message.call(4.1, "Agent", **_order("Find real waits", _OUTER, "general-purpose"))
    message.end("tool_use")
    outer = Thread(log, model=_MODEL, agent="general-purpose", call=call, description="Find real waits")
    outer.meta(4.14)
    main.write(4.2)

    outer.ask(4.2, _OUTER)
    outer.request(4.24)
    outer.write(4.3)
    message = outer.answer(fresh=7, read=6_920, write=1_311, output=127)
    message.say(4.66, "I'll have the callers listed first.")
    inner_call = message.call(4.8, "Agent", **_order("List callers", _INNER, "Explore"))
    message.end("tool_use")
    inner = Thread(log, model=_SMALL_MODEL, agent="Explore", call=inner_call, description="List callers", parent=outer)
    inner.meta(4.85)
    outer.write(4.9)

    inner.ask(4.88, _INNER)
    inner.request(4.92)
    inner.write(4.95)
    message = inner.answer(fresh=6, read=0, write=4_870, output=74)
    search = message.call(5.26, "Bash", command="grep -rn wait_before_retry src", description="Search for callers")
    message.end("tool_use")
    found = "src/client.py:41:        wait_before_retry(attempt)"
    inner.result(5.33, search, found, _shell(found))
    inner.request(5.37)
    inner.write(5.4)
    message = inner.answer(fresh=5, read=4_870, write=122, output=38)
    message.say(5.71, _INNER_REPORT)
    message.end("end_turn")
    inner.write(5.8)
    inner.meta(5.84, finished=True)

    outer.report(5.86, inner_call, inner, _INNER, _INNER_REPORT)
    outer.request(5.9)
    outer.write(5.95)
    message = outer.answer(fresh=9, read=8_231, write=384, output=58)
    message.say(6.47, _OUTER_REPORT)
    message.end("end_turn")
    outer.write(6.55)
    outer.meta(6.6, finished=True)

    main.report(6.63, call, outer, _OUTER, _OUTER_REPORT)
    main.request(6.68)
    main.write(6.7)


def _mend(log: Transcript, main: Thread) -> None:
    """Edit the file and say what was done."""
    path = f"{log.cwd}/src/retry.py"
    message = main.answer(fresh=12, read=18_827, write=655, output=241)
    edit = message.call(7.05, "Edit", file_path=path, old_string=_OLD, new_string=_NEW, replace_all=False)
    message.end("tool_use")
    main.write(7.15)
    main.result(7.11, edit, f"The file {path} has been updated.", _edit(path))
    main.request(7.18)
    main.write(7.2)
    message = main.answer(fresh=8, read=19_482, write=297, output=96)
    message.say(7.62, "Mended: the wait takes its clock and its jitter from outside, and the test passes neither real.")
    message.end("end_turn")
    main.end_turn(7.66)
    main.write(7.7)


def _ask_again(log: Transcript, main: Thread) -> None:
    """Ask a second time, get a short answer and leave."""
    main.ask(7.9, _ASK_AGAIN)
    main.request(7.95)
    main.write(8.0)
    message = main.answer(fresh=14, read=19_779, write=61, output=33)
    message.say(8.38, "Retries no longer sleep for real in tests: clock and jitter can be passed in.")
    message.end("end_turn")
    main.end_turn(8.42)
    main.put("last-prompt", lastPrompt=_ASK_AGAIN, leafUuid=main.leaf)
    main.write(8.5)
    main.put("cost-state", **log.cost_state(8.6, lines_added=1, lines_removed=1))
    main.write(8.6)


def _order(description: str, prompt: str, agent: str) -> dict[str, Any]:
    return {"description": description, "prompt": prompt, "subagent_type": agent, "run_in_background": False}


def _numbered(text: str) -> str:
    return "".join(f"{number}\t{line}\n" for number, line in enumerate(text.splitlines(), 1))


def _file(path: str, content: str) -> dict[str, Any]:
    count = len(content.splitlines())
    file = {"filePath": path, "content": content, "numLines": count, "startLine": 1, "totalLines": count}
    return {"type": "text", "file": file}


def _shell(output: str) -> dict[str, Any]:
    return {"stdout": output, "stderr": "", "interrupted": False, "isImage": False, "noOutputExpected": False}


def _edit(path: str) -> dict[str, Any]:
    lines = [f"-{_OLD.rstrip()}", f"+{_NEW.rstrip()}"]
    return {
        "filePath": path,
        "oldString": _OLD,
        "newString": _NEW,
        "originalFile": _RETRY,
        "structuredPatch": [{"oldStart": 6, "oldLines": 1, "newStart": 6, "newLines": 1, "lines": lines}],
        "userModified": False,
        "replaceAll": False,
    }
