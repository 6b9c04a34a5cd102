"""All logs: which sessions have something new to read, and which of them are gone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.following.kept_open import KeptOpen
from daemon.following.log_roots import roots_at
from daemon.following.logs import Changes, Logs
from daemon.following.tailer import mark_at_end
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.logs import write_files
from tests.support.processes import append

MAIN = "p/s.jsonl"
SUBAGENT = "p/s/subagents/agent-a.jsonl"
META = "p/s/subagents/agent-a.meta.json"


class Tree:
    """A `projects` folder and its logs; `open` holds the names of the sessions in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open: set[str] = set()
        self.logs = Logs(roots_at(root), kept=KeptOpen(8), is_open=self.open.__contains__)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def hint(self, name: str) -> Changes:
        return self.logs.hinted(self.path(name))

    def sweep(self) -> Changes:
        return self.logs.apply(self.logs.sweep("full"))


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    root = tmp_path / "projects"
    write_files(root, {MAIN: b"{}\n", "q/t.jsonl": b"{}\n"})
    tree = Tree(root)
    yield tree
    tree.logs.close()


def names(changes: Changes) -> dict[str, list[str]]:
    """Return the names of the changed sessions, without the kinds of change that affected none."""
    kinds = {"grown": changes.grown, "cut": changes.cut, "removed": changes.removed}
    return {kind: [files.name for files in sessions] for kind, sessions in kinds.items() if sessions}


def test_a_sweep_returns_each_changed_session_once(tree: Tree) -> None:
    write_files(tree.root, {SUBAGENT: b"{}\n", META: b"{}"})

    assert names(tree.sweep()) == {"grown": ["claude-code/s", "claude-code/t"]}
    assert names(tree.sweep()) == {}
    append(tree.root / MAIN, b"{}\n")
    assert names(tree.hint(MAIN)) == {"grown": ["claude-code/s"]}
    assert names(tree.hint(MAIN)) == {}


def test_a_meta_file_alone_counts_only_for_a_session_in_memory(tree: Tree) -> None:
    tree.sweep()
    write_files(tree.root, {META: b"{}"})
    assert names(tree.hint(META)) == {}

    tree.open.add("claude-code/s")
    write_files(tree.root, {META: b'{"agentType":"cook"}'})
    assert names(tree.hint(META)) == {"grown": ["claude-code/s"]}


def test_a_log_deleted_before_it_was_read_leaves_its_session_to_be_read(tree: Tree) -> None:
    tree.sweep()
    (tree.root / MAIN).unlink()

    assert names(tree.hint(MAIN)) == {"cut": ["claude-code/s"]}
    files = tree.logs.sessions["claude-code/s"]
    assert not tree.logs.exists(files)
    assert not tree.logs.look(tree.path(MAIN)), "it is still kept open"
    tree.logs.note_read(files)
    assert tree.logs.look(tree.path(MAIN))
    assert tree.logs.forget_gone(files) == [files]
    assert "claude-code/s" not in tree.logs.sessions


def test_a_log_deleted_after_it_was_read_removes_its_session_unless_it_is_in_memory(tree: Tree) -> None:
    tree.sweep()
    for files in tree.logs.sessions.values():
        tree.logs.note_read(files)
    tree.open.add("claude-code/t")
    shutil.rmtree(tree.root / "p")
    shutil.rmtree(tree.root / "q")

    assert names(tree.sweep()) == {"cut": ["claude-code/t"], "removed": ["claude-code/s"]}
    assert list(tree.logs.sessions) == ["claude-code/t"]


def test_a_session_with_another_log_is_not_removed(tree: Tree) -> None:
    write_files(tree.root, {SUBAGENT: b"{}\n"})
    tree.sweep()
    tree.logs.note_read(tree.logs.sessions["claude-code/s"])
    (tree.root / MAIN).unlink()

    assert names(tree.hint(MAIN)) == {}
    assert tree.logs.sessions["claude-code/s"].paths == [tree.path(SUBAGENT)]
    assert not tree.logs.has_main(CLAUDE_CODE, "s")


def test_a_log_that_does_not_name_its_session_yet_is_looked_at_again(tree: Tree) -> None:
    tree.sweep()
    log = tree.root / "p/agent-b.jsonl"
    write_files(tree.root, {"p/agent-b.jsonl": b'{"type":"summary"}\n'})
    assert names(tree.hint("p/agent-b.jsonl")) == {}
    assert str(log) not in tree.logs.files

    append(log, b'{"sessionId":"s"}\n')
    assert names(tree.sweep()) == {"grown": ["claude-code/s"]}
    assert tree.logs.session_of(str(log)) is tree.logs.sessions["claude-code/s"]


def test_unread_logs_are_those_not_settled_to_their_end(tree: Tree) -> None:
    tree.sweep()
    sessions = list(tree.logs.sessions.values())
    settled = tree.logs.files[tree.path(MAIN)].identity

    unread = tree.logs.unread(sessions, lambda identity: 3 if identity == settled else 1)
    assert unread == {tree.path("q/t.jsonl"): 1}
    tree.logs.expect(unread)
    append(tree.root / MAIN, b"{}\n")
    tree.hint(MAIN)
    assert [tree.logs.position(tree.path(name)) for name in (MAIN, "q/t.jsonl")] == [3, 1]
    for files in sessions:
        tree.logs.note_read(files)
    assert [tree.logs.position(tree.path(name)) for name in (MAIN, "q/t.jsonl")] == [0, 0]


def test_a_session_was_deleted_if_its_neighbors_are_still_there(tree: Tree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_files(elsewhere, {"r/u.jsonl": b"{}\n"})
    paths = [tree.root / MAIN, elsewhere / "r/u.jsonl"]
    names_of = zip(paths, ("claude-code/s", "r/u"), strict=True)
    marks = [mark for path, name in names_of if (mark := mark_at_end(str(path), name)) is not None]
    shutil.rmtree(tree.root / "p")
    shutil.rmtree(elsewhere)
    tree.sweep()

    assert tree.logs.deleted(["claude-code/s", "r/u", "x/never-seen"], marks) == ["claude-code/s"]
    shutil.rmtree(tree.root)
    tree.sweep()
    assert tree.logs.deleted(["claude-code/s", "r/u"], marks) == [], "the root's disk may not be mounted"


def test_a_session_on_a_disk_that_is_not_mounted_yet_was_not_deleted(tree: Tree, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    write_files(disk, {"u.jsonl": b"{}\n"})
    (tree.root / "linked").symlink_to(disk)
    tree.sweep()
    assert "claude-code/u" in tree.logs.sessions
    mark = mark_at_end(str(disk / "u.jsonl"), "claude-code/u")
    assert mark is not None

    (disk / "u.jsonl").unlink()
    tree.sweep()
    assert tree.logs.deleted(["claude-code/u"], [mark]) == [], "an empty folder may be where the disk will be mounted"
    (disk / "v.jsonl").touch()
    assert tree.logs.deleted(["claude-code/u"], [mark]) == ["claude-code/u"]


HOST, GUEST, GONE = (f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b" for number in range(3))


@pytest.fixture
def hosting(tree: Tree) -> Tree:
    """A log with lines of two other sessions, of which one has a log of its own."""
    own = b'{"type":"user","sessionId":"%s","uuid":"u"}\n'
    host = b"".join(own % session.encode() for session in (HOST, GUEST, GONE))
    write_files(tree.root, {f"p/{HOST}.jsonl": host, f"q/{GUEST}.jsonl": own % GUEST.encode()})
    tree.sweep()
    return tree


def test_it_is_known_whose_lines_stand_in_the_logs_of_others(hosting: Tree) -> None:
    """A session without a log of its own is left to the session whose log it is."""
    hosting.logs.note_hosts()

    hosts = {files.session: [host.session for host in files.hosts] for files in hosting.logs.sessions.values()}
    assert {session: found for session, found in hosts.items() if found} == {GUEST: [HOST]}


def test_a_session_was_last_written_to_when_a_log_was_that_holds_lines_of_it(hosting: Tree) -> None:
    """Otherwise a call that runs there would be given up because of the time of the session's own log."""
    guest, own = hosting.logs.sessions[f"claude-code/{GUEST}"], Path(hosting.path(f"q/{GUEST}.jsonl"))
    os.utime(own, (5, 5))
    os.utime(hosting.path(f"p/{HOST}.jsonl"), (7, 7))
    hosting.sweep()
    assert hosting.logs.touched(guest) == 5_000_000_000
    hosting.logs.note_hosts()
    assert hosting.logs.touched(guest) == 7_000_000_000
    own.unlink()
    hosting.sweep()
    assert hosting.logs.touched(guest) == 0
