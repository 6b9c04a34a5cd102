"""Pruning forgets state that no log refers to any more, and nothing that may still be needed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.following.catalog import Catalog
from daemon.following.log_roots import LogRoot, log_roots, roots_at
from daemon.following.session_files import unit_name
from daemon.following.sweep import FileStat
from daemon.history.pruning import KEPT_DAYS, REJECTED_KEPT, Forgettable, Retained, forgetting
from daemon.state.rows import Commit, Copies, FileMark, FrozenRoute, RejectedEvent, Settled
from daemon.state.store import Store
from llma_core import agents
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.journal import SCRIBE
from tests.support.processes import environment, following, log_lines, many_sessions, put_logs, verb

LONG = KEPT_DAYS + 1
START = 1000
DAY = 86_400


def unit(name: str) -> str:
    """The name of the session whose log is called *name* below `projects`."""
    return unit_name(CLAUDE_CODE, name.rpartition("/")[2])


class Machine:
    """A `projects` folder, the store, and a calendar."""

    def __init__(self, root: Path) -> None:
        self.day = START
        self.projects = root / "projects"
        self.projects.mkdir()
        state = root / "state"
        state.mkdir()
        self.store = Store(state, today=lambda: self.day)
        self.reader = self.store.reader()

    def settle(self, name: str, *, original: str | None = None) -> Path:
        """Write a session's log, and settle something of it; return the log's path."""
        path = self.projects / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"line\n")
        status = path.stat()
        mark = FileMark(
            device=status.st_dev,
            inode=status.st_ino,
            path=str(path),
            unit=unit(name),
            offset=5,
            head=b"",
            head_length=0,
            tail=b"",
        )
        copies = [Copies(unit=unit(name), original=unit(original))] if original is not None else []
        self.store.commit(
            Commit(files=[mark], settled=[Settled(identity=f"gen|{name}", unit=unit(name))], copies=copies)
        )
        self.store.freeze({unit(name): FrozenRoute(distinct_id="ada", identified=True, grouping="session")})
        return path

    def remembers(self, name: str) -> bool:
        return self.reader.owner(f"gen|{name}") is not None

    def prune(self, *roots: Path) -> Forgettable:
        catalog = Catalog()
        found = {}
        for path in self.projects.rglob("*.jsonl"):
            catalog.add(str(path))
            found[str(path)] = FileStat.of(path.stat())
        has_log = catalog.sessions.__contains__
        kept = Retained.of(self.store, found, has_log)
        what = Forgettable.of(
            kept, roots=[LogRoot(CLAUDE_CODE, root) for root in (self.projects, *roots)], found=found, has_log=has_log
        )
        for step in forgetting(self.store, what, has_log):
            step()
        return what


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.reader.close()
    machine.store.close()


def test_a_session_is_forgotten_long_after_its_log_is_gone(machine: Machine) -> None:
    gone, kept = machine.settle("orchard/a"), machine.settle("orchard/b")
    gone.unlink()
    machine.day += KEPT_DAYS
    assert machine.prune() == Forgettable(), "it is kept for that many days"
    machine.day += 1
    assert machine.prune().sessions == {unit("orchard/a")}
    assert not machine.remembers("orchard/a")
    assert machine.remembers("orchard/b")
    assert [mark.path for mark in machine.store.files()] == [str(kept)]
    assert machine.reader.route(unit("orchard/a")) is None
    assert machine.reader.route(unit("orchard/b")) is not None
    assert machine.prune() == Forgettable(), "nothing is left to do"


def test_an_original_is_kept_as_long_as_a_copy_of_it_exists(machine: Machine) -> None:
    original, copy = machine.settle("orchard/a"), machine.settle("orchard/b", original="orchard/a")
    machine.settle("orchard/c")
    original.unlink()
    machine.day += LONG
    machine.prune()
    assert machine.remembers("orchard/a"), "otherwise a fork of the fork would be counted again"
    copy.unlink()
    machine.prune()
    assert not machine.remembers("orchard/a")
    assert not machine.remembers("orchard/b")


def test_a_file_replaced_by_another_is_forgotten_at_once(machine: Machine) -> None:
    path = machine.settle("orchard/a")
    (mark,) = machine.store.files()
    beside = path.with_name("beside")
    beside.write_bytes(b"other\n")
    beside.replace(path)
    assert machine.prune().files == {(mark.device, mark.inode)}
    assert list(machine.store.files()) == []
    assert machine.remembers("orchard/a")


def test_the_state_of_a_moved_log_is_kept(machine: Machine) -> None:
    path = machine.settle("orchard/a")
    path.parent.rename(machine.projects / "garden")
    machine.day += LONG
    machine.prune()
    assert len(list(machine.store.files())) == 1
    assert machine.remembers("orchard/a")


@pytest.mark.parametrize("state", ["missing", "empty", "holding no folder"])
def test_nothing_is_forgotten_while_the_projects_folder_is_missing(
    machine: Machine, state: str, tmp_path: Path
) -> None:
    machine.settle("orchard/a")
    machine.projects.rename(tmp_path / "away")
    if state != "missing":
        machine.projects.mkdir()
    if state == "holding no folder":
        (machine.projects / "note").touch()
    machine.day += LONG
    assert machine.prune() == Forgettable()
    assert machine.remembers("orchard/a")


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_nothing_is_forgotten_while_another_projects_folder_is_missing(
    machine: Machine, tmp_path: Path, left: str
) -> None:
    other = tmp_path / "other"
    machine.settle("orchard/a").unlink()
    machine.settle("orchard/b")
    here, machine.projects = machine.projects, other
    machine.settle("garden/c")
    machine.projects = here
    other.rename(tmp_path / "away")
    if left == "an empty folder":
        other.mkdir()
    machine.day += LONG
    assert machine.prune(other) == Forgettable()
    assert machine.remembers("orchard/a")


def test_a_missing_projects_folder_that_never_held_logs_does_not_stop_pruning(machine: Machine, tmp_path: Path) -> None:
    machine.settle("orchard/a").unlink()
    machine.settle("orchard/b")
    machine.day += LONG
    assert machine.prune(tmp_path / "other").sessions == {unit("orchard/a")}


def test_nothing_is_forgotten_while_a_project_is_a_dangling_link(machine: Machine, tmp_path: Path) -> None:
    machine.settle("orchard/a").unlink()
    (machine.projects / "disk").symlink_to(tmp_path / "unmounted")
    machine.day += LONG
    assert machine.prune() == Forgettable()


def test_nothing_of_a_project_is_forgotten_whose_folder_is_empty_as_a_mount_point_is(machine: Machine) -> None:
    gone = [machine.settle("garden/b"), machine.settle("orchard/a")]
    machine.settle("tree/c")
    for path in gone:
        path.unlink()
    machine.day += LONG
    os.utime(machine.projects / "orchard", (0, (START - 1) * DAY))
    os.utime(machine.projects / "garden", (0, START * DAY))
    assert machine.prune().sessions == {unit("garden/b")}, "there a log was removed after it was settled"
    assert machine.remembers("orchard/a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can list every folder")
def test_nothing_is_forgotten_while_a_project_cannot_be_listed(machine: Machine) -> None:
    machine.settle("orchard/a")
    machine.settle("garden/b").unlink()
    machine.day += LONG
    (machine.projects / "orchard").chmod(0)
    try:
        assert machine.prune() == Forgettable()
    finally:
        (machine.projects / "orchard").chmod(0o700)


def test_logs_below_a_folder_that_is_no_longer_followed_are_left_alone(machine: Machine, tmp_path: Path) -> None:
    machine.settle("orchard/a")
    machine.day += LONG
    machine.projects = tmp_path / "other"
    machine.settle("garden/b")
    assert machine.prune() == Forgettable()
    assert machine.remembers("orchard/a")


def test_a_session_that_comes_back_meanwhile_is_left_alone(machine: Machine) -> None:
    machine.settle("orchard/a").unlink()
    machine.settle("orchard/b")
    machine.day += LONG

    def has_log(name: str) -> bool:
        return name == unit("orchard/b")

    kept = Retained.of(machine.store, {}, has_log)
    what = Forgettable.of(kept, roots=roots_at(machine.projects), found={}, has_log=has_log)
    assert what.sessions == {unit("orchard/a")}
    for step in forgetting(machine.store, what, lambda _name: True):
        step()
    assert machine.remembers("orchard/a")
    assert machine.reader.route(unit("orchard/a")) is not None


def test_rejected_events_do_not_pile_up(machine: Machine) -> None:
    rows = [
        RejectedEvent(uuid=str(number), name="event", bytes=1, reason="no", path=None, start=None, end=None, at="9999")
        for number in range(REJECTED_KEPT + 5)
    ]
    old = RejectedEvent(
        uuid="old", name="event", bytes=1, reason="no", path=None, start=None, end=None, at="2001-01-01"
    )
    machine.store.commit(Commit(rejected=[old]))
    machine.prune()
    assert machine.store.rejected() == []
    machine.store.commit(Commit(rejected=rows))
    machine.prune()
    assert len(machine.store.rejected()) == REJECTED_KEPT


def age(workspace: Workspace) -> None:
    """Date everything that is settled back to long ago."""
    connection = sqlite3.connect(workspace.state / "state.db")
    with connection:
        connection.execute("UPDATE units SET settled_on=1")
    connection.close()


def settled_sessions(workspace: Workspace) -> int:
    connection = sqlite3.connect(workspace.state / "state.db")
    (number,) = connection.execute("SELECT count(DISTINCT unit) FROM settled").fetchone()
    connection.close()
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("once", [True, False])
async def test_a_start_forgets_sessions_whose_logs_are_gone(
    workspace: Workspace, posthog: CaptureServer, once: bool
) -> None:
    logs = many_sessions(3, 2)
    projects = put_logs(workspace, logs)
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    sent = len(posthog.events)
    assert settled_sessions(workspace) == 3
    age(workspace)
    (projects / min(logs)).unlink()
    if once:
        ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
        lines = log_lines(ended.stderr)
    else:
        async with following(workspace, env=env) as daemon:
            await daemon.until(lambda: "store_pruned" in daemon.stderr)
            lines = log_lines(daemon.stderr)
    [pruned] = [line for line in lines if line["event"] == "store_pruned"]
    assert (pruned["sessions"], pruned["files"]) == (1, 0)
    assert settled_sessions(workspace) == 2
    assert len(posthog.events) == sent, "nothing is sent again"


# ---------------------------------------------------------------------- logs directly in their root


@pytest.fixture
def journals(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(agents, "AGENTS", (SCRIBE,))
    root = machine.projects.with_name("journals")
    root.mkdir()
    return root


def journal(machine: Machine, root: Path, session: str) -> Path:
    settled = machine.settle(f"journals/{session}")
    path = root / f"{session}.ndjson"
    settled.rename(path)
    [mark] = [mark for mark in machine.store.files() if mark.path == str(settled)]
    machine.store.commit(Commit(files=[replace(mark, path=str(path))]))
    return path


def prune_journals(machine: Machine, root: Path) -> Forgettable:
    found = {str(path): FileStat.of(path.stat()) for path in root.glob("*.ndjson")}
    existing = {unit(Path(path).stem) for path in found}
    kept = Retained.of(machine.store, found, existing.__contains__)
    return Forgettable.of(kept, roots=[LogRoot(SCRIBE, root)], found=found, has_log=existing.__contains__)


def test_a_session_whose_log_was_directly_in_the_root_is_forgotten_once_it_is_gone(
    machine: Machine, journals: Path
) -> None:
    gone, _ = journal(machine, journals, "first"), journal(machine, journals, "second")
    gone.unlink()
    machine.day += LONG
    assert prune_journals(machine, journals).sessions == {unit("journals/first")}


def test_nothing_is_forgotten_while_a_root_that_held_logs_directly_is_missing(machine: Machine, journals: Path) -> None:
    journal(machine, journals, "first")
    journals.rename(journals.with_name("away"))
    machine.day += LONG
    assert prune_journals(machine, journals) == Forgettable()


def test_an_empty_outbox_keeps_nothing_and_what_was_in_it_is_forgotten(machine: Machine) -> None:
    outbox = machine.projects.parent / "outbox"
    outbox.mkdir()
    [spool] = log_roots((), [outbox])
    path = machine.settle("p/old")
    recorded = unit_name(spool.agent, "12-34-1")
    gone = FileMark(
        device=1, inode=2, path=f"{outbox}/12-34-1.jsonl", unit=recorded, offset=5, head=b"", head_length=0, tail=b""
    )
    kept = Retained(quiet={recorded: START, unit("p/old"): START}, copies=(), files=[gone])

    what = Forgettable.of(
        kept,
        roots=[*roots_at(machine.projects)[:1], spool],
        found={str(path): FileStat.of(path.stat())},
        has_log=lambda name: name == unit("p/old"),
    )

    assert what.sessions == {recorded}
