"""The stat sweep finds changed files without a hint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from daemon.following import sweep as sweep_module
from daemon.following.log_roots import LogRoot, roots_at
from daemon.following.log_tree import project_files
from daemon.following.sweep import HOT_SECONDS, TURNS, Sweep
from llma_core.agent import Agent
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.logs import write_files

MAIN = "p/s.jsonl"
AGENT = "p/s/subagents/agent-a.jsonl"
ROOT_TIME = 1_000_000_000.0
NOW = 2_000_000_000.0


def touched(path: Path, at: float) -> None:
    """Set the time of *path*: two writes within one tick of the file system's clock would get the same time."""
    os.utime(path, (at, at))


class Tree:
    """A `projects` folder whose times are set by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = NOW
        self.sweep = Sweep(roots_at(root))

    def write(self, name: str, data: bytes = b"{}\n") -> None:
        path = self.root / name
        new = not path.exists()
        write_files(self.root, {name: data})
        self.now += 1
        touched(path, self.now)
        if new:
            self.touch_folders(path.parent)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        self.touch_folders((self.root / name).parent)

    def folder(self, name: str) -> None:
        (self.root / name).mkdir(parents=True)
        self.touch_folders((self.root / name).parent)

    def touch_folders(self, folder: Path) -> None:
        self.now += 1
        while folder != self.root.parent:
            touched(folder, self.now)
            folder = folder.parent

    def full(self) -> tuple[list[str], list[str]]:
        return self.named(self.sweep.full())

    def hot(self) -> tuple[list[str], list[str]]:
        return self.named(self.sweep.hot(self.now))

    def named(self, found: tuple[Sequence[str], Sequence[str]]) -> tuple[list[str], list[str]]:
        changed, gone = ([str(Path(path).relative_to(self.root)) for path in paths] for paths in found)
        return sorted(changed), sorted(gone)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "projects"
    root.mkdir()
    return Tree(root)


@pytest.mark.parametrize("kind", ["full", "hot"])
def test_each_new_changed_or_gone_file_is_reported_once(tree: Tree, kind: str) -> None:
    look = tree.full if kind == "full" else tree.hot
    tree.write(MAIN)
    tree.write(AGENT)
    assert tree.full() == (sorted([MAIN, AGENT]), [])
    assert look() == ([], [])
    tree.write(MAIN, b"{}\n{}\n")
    assert look() == ([MAIN], [])
    tree.write("p/t.jsonl")
    assert look() == (["p/t.jsonl"], [])
    tree.remove(MAIN)
    assert look() == ([], [MAIN])
    assert look() == ([], [])


def test_a_file_that_replaces_another_counts_as_changed(tree: Tree) -> None:
    tree.write(MAIN)
    tree.full()
    path = tree.root / MAIN
    beside = path.with_name("beside")
    beside.write_bytes(path.read_bytes())
    touched(beside, path.stat().st_mtime)
    beside.replace(path)
    assert tree.full() == ([MAIN], [])


def test_only_a_full_sweep_looks_at_a_file_untouched_for_a_day(tree: Tree) -> None:
    tree.write(MAIN)
    touched(tree.root / MAIN, NOW - HOT_SECONDS - 10)
    tree.full()
    tree.write(MAIN, b"{}\n{}\n")
    assert tree.hot() == ([], [])
    assert tree.full() == ([MAIN], [])
    tree.write(MAIN, b"{}\n{}\n{}\n")
    assert tree.hot() == ([MAIN], []), "now it was touched recently"


@pytest.mark.parametrize(
    "folders",
    [
        pytest.param(["p"], id="a project that was empty"),
        pytest.param(["p", "p/s"], id="a session folder that was empty"),
        pytest.param(["p", "p/s", "p/s/tool-results", "p/s/subagents"], id="a folder for subagents that was empty"),
    ],
)
def test_a_hot_sweep_finds_the_first_log_in_a_folder(tree: Tree, folders: Sequence[str]) -> None:
    tree.full()
    for folder in folders:
        tree.folder(folder)
        assert tree.hot() == ([], [])
    name = AGENT if folders[-1] != "p" else MAIN
    write_files(tree.root, {name: b"{}\n"})
    # Only the folder with the new entry gets a new time.
    deepest = max(folders, key=len) if folders[-1].endswith("subagents") else folders[-1]
    touched(tree.root / deepest, tree.now + 100)
    assert tree.hot() == ([name], [])


@pytest.mark.parametrize(("main", "most"), [(None, 1), (0, 1), (2, TURNS)])
def test_folders_of_sessions_untouched_for_a_day_are_looked_at_in_turn(tree: Tree, main: int | None, most: int) -> None:
    folders = [tree.root / f"p/s{number}/subagents" for number in range(2 * TURNS)]
    for folder in folders:
        tree.write(f"p/{folder.parent.name}/subagents/agent-{folder.parent.name}.jsonl")
        if main is not None:
            tree.write(f"p/{folder.parent.name}.jsonl")
            touched(tree.root / f"p/{folder.parent.name}.jsonl", NOW - main * HOT_SECONDS)
        touched(folder, NOW - 2 * HOT_SECONDS)
    tree.full()
    for folder in folders:
        late = folder / "agent-late.jsonl"
        late.write_bytes(b"{}\n")
        touched(folder, NOW)
        assert [str(late.relative_to(tree.root))] in [tree.hot()[0] for _ in range(most)]


def test_files_that_tools_write_do_not_cause_a_full_sweep(tree: Tree) -> None:
    tree.write(MAIN)
    tree.folder("p/s/tool-results")
    touched(tree.root, ROOT_TIME)
    tree.full()
    (tree.root / "p/s/tool-results/out.txt").write_text("a tree")
    touched(tree.root / "p/s/tool-results", tree.now + 100)
    tree.write(MAIN, b"{}\n{}\n")
    tree.write("q/unseen.jsonl")
    touched(tree.root, ROOT_TIME)
    assert tree.hot() == ([MAIN], []), "a full sweep would have found the log in the new folder"


def test_a_root_that_is_created_later_is_found(tmp_path: Path) -> None:
    root = tmp_path / "projects"
    tree = Tree(root)
    assert tree.full() == ([], [])
    assert tree.hot() == ([], [])
    tree.write(MAIN)
    assert tree.hot() == ([MAIN], [])


def test_the_logs_of_a_root_that_is_moved_away_are_gone(tree: Tree) -> None:
    tree.write(MAIN)
    tree.full()
    tree.root.rename(tree.root.with_name("elsewhere"))
    assert tree.hot() == ([], [MAIN])


def test_a_sweep_does_not_repeat_what_a_look_at_one_file_found(tree: Tree) -> None:
    tree.write(MAIN)
    path = str(tree.root / MAIN)
    assert tree.sweep.look(path)
    assert not tree.sweep.look(path)
    assert tree.full() == ([], [])
    tree.remove(MAIN)
    assert not tree.sweep.look(path)
    assert path not in tree.sweep.files
    assert tree.full() == ([], []), "the look has already found that it is gone"


def test_a_link_or_a_folder_is_no_log_file(tree: Tree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "secret.jsonl"
    elsewhere.write_bytes(b"{}\n")
    tree.folder("p/folder.jsonl")
    (tree.root / "p/link.jsonl").symlink_to(elsewhere)
    for name in ("p/link.jsonl", "p/folder.jsonl"):
        assert not tree.sweep.look(str(tree.root / name))
    assert tree.sweep.files == {}


def test_a_log_counts_only_where_sessions_keep_their_logs(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "projects", tmp_path / "elsewhere"
    write_files(root, {"p/s.jsonl": b"{}\n"})
    write_files(elsewhere, {"t.jsonl": b"{}\n"})
    (root / "link").symlink_to(elsewhere)
    sweep = Sweep(roots_at(root))
    sweep.full()
    logs = [root / "p/s.jsonl", root / "p/s/subagents/agent-a.jsonl", root / "new/t.jsonl", elsewhere / "t.jsonl"]
    others = [
        root / "p/memory/notes.jsonl",
        root / "p/s/tool-results/out.jsonl",
        root / "link/t.jsonl",
        root / "top.jsonl",
        tmp_path / "other/s.jsonl",
    ]
    assert [path for path in (*logs, *others) if sweep.is_log(str(path))] == logs


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("p", ["p/s.jsonl", AGENT]),
        ("p/s", [AGENT]),
        ("p/s/subagents", [AGENT]),
        ("p/s/tool-results", []),
        ("p/memory", []),
    ],
)
def test_the_logs_in_a_folder_that_appeared_are_found(tree: Tree, folder: str, names: list[str]) -> None:
    tree.full()
    for name in (MAIN, AGENT, "p/s/tool-results/out.jsonl", "p/memory/notes.jsonl", "p/memory/subagents/x.jsonl"):
        tree.write(name)
    found = tree.sweep.below(str(tree.root / folder))
    assert sorted(found) == sorted(str(tree.root / name) for name in names)
    assert tree.sweep.below(str(tree.root / folder)) == [], "they were already seen"


def test_several_roots_are_swept_together(tmp_path: Path) -> None:
    write_files(tmp_path, {"a/p/s.jsonl": b"{}\n", "b/q/t.jsonl": b"{}\n"})
    sweep = Sweep([LogRoot(CLAUDE_CODE, tmp_path / name) for name in ("a", "b", "missing")])
    changed, gone = sweep.full()
    assert sorted(changed) == [str(tmp_path / "a/p/s.jsonl"), str(tmp_path / "b/q/t.jsonl")]
    assert gone == []


def test_a_file_that_a_hint_finds_during_a_full_sweep_is_neither_forgotten_nor_gone(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write(MAIN)
    late = tree.root / "p/late.jsonl"

    def followed_by_a_hint(
        agent: Agent, project: str, on_folder: Callable[[str], None], on_unlisted: Callable[[str, OSError], None]
    ) -> Iterator[tuple[str, os.stat_result]]:
        yield from project_files(agent, project, on_folder, on_unlisted)
        late.write_bytes(b"{}\n")
        assert tree.sweep.look(str(late))

    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "project_files", followed_by_a_hint)
        assert tree.full() == ([MAIN], [])
    assert set(tree.sweep.files) == {str(tree.root / MAIN), str(late)}
    late.unlink()
    assert tree.full() == ([], ["p/late.jsonl"])


def test_a_hint_leads_to_a_look_at_the_path_it_names(tree: Tree) -> None:
    def hinted(name: str) -> tuple[list[str], list[str]]:
        return tree.named(tree.sweep.hinted(str(tree.root / name)))

    tree.folder("p")
    tree.full()
    tree.write(MAIN)
    assert hinted(MAIN) == ([MAIN], [])
    assert hinted(MAIN) == ([], [])
    tree.write(AGENT)
    assert hinted("p/s") == ([AGENT], [])
    assert hinted("p/notes.txt") == ([], [])
    tree.remove(MAIN)
    assert hinted(MAIN) == ([], [MAIN])


def test_the_size_before_a_file_grew_is_known_until_the_reader_has_caught_up(tree: Tree) -> None:
    path = str(tree.root / MAIN)
    tree.write(MAIN)
    tree.full()
    assert tree.sweep.positions == {}, "a new file has no earlier size"
    tree.write(MAIN, b"{}\n{}\n")
    tree.full()
    tree.write(MAIN, b"{}\n{}\n{}\n")
    assert tree.sweep.look(path)
    assert tree.sweep.positions == {path: 3}
    del tree.sweep.positions[path]
    tree.write(MAIN, b"{}\n{}\n{}\n{}\n")
    tree.hot()
    assert tree.sweep.positions == {path: 9}


def test_a_log_replaced_by_a_link_is_gone(tree: Tree) -> None:
    tree.write(MAIN)
    tree.full()
    (tree.root / MAIN).unlink()
    (tree.root / MAIN).symlink_to("elsewhere")
    assert not tree.sweep.look(str(tree.root / MAIN))
    assert tree.sweep.files == {}


def test_a_folder_that_is_a_root_twice_is_swept_once(tree: Tree) -> None:
    tree.write(MAIN)
    sweep = Sweep([*roots_at(tree.root), *roots_at(tree.root)])
    assert sweep.full() == ([str(tree.root / MAIN)], [])


def test_a_hint_at_a_file_that_is_no_log_finds_nothing(tree: Tree) -> None:
    tree.write(MAIN)
    tree.write("p/memory/notes.jsonl")
    tree.full()
    path = str(tree.root / "p/memory/notes.jsonl")
    tree.sweep.hinted(path)
    assert path not in tree.sweep.files
