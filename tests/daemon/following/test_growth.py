"""One look at all logs tells whether anything in them is not settled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.following.growth import has_grown
from daemon.following.log_roots import LogRoot
from daemon.following.tailer import Identity
from llma_core import agents
from tests.support.logs import write_files

MAIN = "p/0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b.jsonl"
AGENT = "p/0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b/subagents/workflows/w/agent-a.jsonl"
OLD, SINCE, NEW = 1_000, 2_000, 3_000


class Tree:
    """Logs that are settled to their ends, all of them old."""

    def __init__(self, root: Path) -> None:
        self.root = root
        agent = next(each for each in agents.AGENTS if each.by_project)
        spool = next(each for each in agents.AGENTS if each.is_spool)
        self.roots = [LogRoot(agent, root / "projects"), LogRoot(spool, root / "outbox")]
        self.settled: dict[Identity, int] = {}
        for name in (f"projects/{MAIN}", f"projects/{AGENT}", "outbox/4711-1772442000000-1.jsonl"):
            self.write(name, OLD)
        for path in root.rglob("*.jsonl"):
            status = path.stat()
            self.settled[status.st_dev, status.st_ino] = status.st_size

    def write(self, name: str, at: int, data: bytes = b"{}\n") -> None:
        write_files(self.root, {name: data})
        os.utime(self.root / name, (at, at))

    def has_grown(self) -> bool:
        settled = self.settled
        return has_grown(self.roots, lambda identity, size: settled.get(identity) == size, since=SINCE * 10**9)


def test_what_is_settled_to_its_end_has_not_grown(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    for name in (MAIN, AGENT):
        os.utime(tmp_path / "projects" / name, (NEW, NEW))
    assert not tree.has_grown()


@pytest.mark.parametrize(
    ("change", "grown"),
    [
        (lambda tree: tree.write(f"projects/{MAIN}", NEW, b"{}\n{}\n"), True),
        (lambda tree: tree.write(f"projects/{AGENT}", NEW, b"{}\n{}\n"), True),
        (lambda tree: tree.write("projects/q/new.jsonl", NEW), True),
        # Nobody asks about what was written before, but for what programs record.
        (lambda tree: tree.write(f"projects/{MAIN}", OLD, b"{}\n{}\n"), False),
        (lambda tree: tree.write("outbox/4711-1772442000000-1.jsonl", OLD, b"{}\n{}\n"), True),
        # What a session's tools write is no log, nor is what tells of a subagent.
        (lambda tree: tree.write("projects/p/notes.txt", NEW), False),
        (lambda tree: tree.write(f"projects/{AGENT.removesuffix('.jsonl')}.meta.json", NEW), False),
    ],
)
def test_a_log_counts_that_was_written_to_since_then(
    tmp_path: Path, change: Callable[[Tree], None], grown: bool
) -> None:
    tree = Tree(tmp_path)
    change(tree)
    assert tree.has_grown() is grown


def test_a_log_in_the_place_of_another_has_grown(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.write("projects/p/other", NEW)
    (tmp_path / "projects/p/other").rename(tmp_path / "projects" / MAIN)
    assert tree.has_grown()


def test_nothing_is_known_of_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(tmp_path)
    listed = os.listdir

    def refused(folder: str) -> list[str]:
        if folder.endswith("/projects/p"):
            raise PermissionError(folder)
        return listed(folder)

    monkeypatch.setattr(os, "listdir", refused)
    assert tree.has_grown()
