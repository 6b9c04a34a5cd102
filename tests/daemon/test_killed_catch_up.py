"""A first catch-up that is killed, or a search that is, leaves no trace in the local file once the next one is done."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from daemon.delivering.local.events import LocalEvents
from daemon.state.layout import events_path
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import environment, put_logs, session_id, verb

MORTAL = "tests.support.mortal"
SINCE = ("--since", "2026-01-01")
WORDS = ("Prune", "tree 3", "answer12", "orchard", "Bash", "nothing")
CALLS = """
SELECT events.uuid, kind, at, session.word, trace.word, input, output, name, events.session_id, events.trace_id, body
FROM events JOIN calls ON received = calls.id JOIN words AS session ON session.id = calls.session_id
JOIN words AS trace ON trace.id = calls.trace_id ORDER BY events.uuid
"""
TEXTS = """
SELECT session.word, text FROM text_index JOIN texts ON texts.id = text_index.rowid
JOIN words AS session ON session.id = texts.session_id ORDER BY 1, 2
"""
INDEXES = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name"


def orchard() -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number in range(4):
        log = LogBuilder(session=session_id(f"orchard {number}"))
        for turn in range(4):
            log.prompt(f"Prune tree {turn}")
            log.answer(tool_use("Bash", {"command": "ls"}, id=f"toolu_{turn}"))
            log.tool_result(f"toolu_{turn}", "ok")
            log.answer(text(f"answer{number}{turn}"))
        files |= log.files()
    return files


async def content(workspace: Workspace) -> tuple[list[object], ...]:
    """Return what the local file holds and what a search finds, once whoever comes next has caught up."""
    drawn = await verb(workspace, "traces", "--json", "--search", "Prune", env=environment(workspace))
    assert drawn.status == 0, drawn.stderr
    path = events_path(workspace.state)
    with closing(sqlite3.connect(path)) as connection:
        rows = [connection.execute(question).fetchall() for question in (CALLS, TEXTS, INDEXES)]
        [behind] = connection.execute("SELECT max(received) - (SELECT indexed FROM kept) FROM events").fetchone()
        check = connection.execute("INSERT INTO text_index (text_index) VALUES ('integrity-check')").fetchall()
    assert (behind, check) == (0, [])
    local = LocalEvents(path)
    return *rows, [sorted(local.search(words)) for words in WORDS], [len(drawn.stdout)]


async def test_after_a_kill_the_local_file_is_what_an_undisturbed_one_is(workspace: Workspace, tmp_path: Path) -> None:
    put_logs(workspace, orchard())
    undisturbed = await content(workspace)
    assert len(undisturbed[0]) > 40
    for dies in ("added 1", "adding 3", "indexing 2", "indexed 2"):
        workspace.state.rename(tmp_path / f"before {dies}")
        env = environment(workspace, LLMA_DIES=dies)
        words = ("traces", "--json", "--search", "Prune") if dies.startswith("index") else ("usage", *SINCE)
        assert (await verb(workspace, *words, env=env, program=MORTAL)).status == -signal.SIGKILL, dies
        assert await content(workspace) == undisturbed, dies
