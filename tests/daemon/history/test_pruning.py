"""What no log refers to any more is forgotten, and nothing that may be needed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.following.catalog import Catalog
from daemon.following.log_roots import LogRoot, roots_at
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

    def settles(self, name: str, *, original: str | None = None) -> Path:
        """Let a session's log be there, and something of it be settled."""
        path = self.projects / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"line\n")
        status = path.stat()
        mark = FileMark(
            device=status.st_dev,
            inode=status.st_ino,
            path=str(path),
            unit=name,
            offset=5,
            head=b"",
            head_length=0,
            tail=b"",
        )
        copies = [Copies(unit=name, original=original)] if original is not None else []
        self.store.commit(Commit(files=[mark], settled=[Settled(identity=f"gen|{name}", unit=name)], copies=copies))
        self.store.freeze({name: FrozenRoute(distinct_id="ada", identified=True, grouping="session")})
        return path

    def knows(self, name: str) -> bool:
        return self.reader.owner(f"gen|{name}") is not None

    def prune(self, *roots: Path) -> Forgettable:
        catalog = Catalog()
        found = {}
        for path in self.projects.rglob("*.jsonl"):
            catalog.add(str(path))
            found[str(path)] = FileStat.of(path.stat())
        is_there = catalog.sessions.__contains__
        kept = Retained.of(self.store, found, is_there)
        what = Forgettable.of(
            kept, roots=[LogRoot(CLAUDE_CODE, root) for root in (self.projects, *roots)], found=found, is_there=is_there
        )
        for step in forgetting(self.store, what, is_there):
            step()
        return what


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.reader.close()
    machine.store.close()


def test_a_session_is_forgotten_when_its_log_is_gone_and_it_is_long_ago(machine: Machine) -> None:
    gone, kept = machine.settles("orchard/a"), machine.settles("orchard/b")
    gone.unlink()
    machine.day += KEPT_DAYS
    assert machine.prune() == Forgettable(), "that many days it is kept"
    machine.day += 1
    assert machine.prune().units == {"orchard/a"}
    assert not machine.knows("orchard/a")
    assert machine.knows("orchard/b")
    assert [mark.path for mark in machine.store.files()] == [str(kept)]
    assert machine.reader.route("orchard/a") is None
    assert machine.reader.route("orchard/b") is not None
    assert machine.prune() == Forgettable(), "nothing is left to do"


def test_an_original_is_kept_for_as_long_as_a_copy_of_it_is_there(machine: Machine) -> None:
    original, copy = machine.settles("orchard/a"), machine.settles("orchard/b", original="orchard/a")
    machine.settles("orchard/c")
    original.unlink()
    machine.day += LONG
    machine.prune()
    assert machine.knows("orchard/a"), "a fork of the fork would be counted again"
    copy.unlink()
    machine.prune()
    assert not machine.knows("orchard/a")
    assert not machine.knows("orchard/b")


def test_a_file_that_another_has_replaced_is_forgotten_at_once(machine: Machine) -> None:
    path = machine.settles("orchard/a")
    (mark,) = machine.store.files()
    beside = path.with_name("beside")
    beside.write_bytes(b"other\n")
    beside.replace(path)
    assert machine.prune().files == {(mark.device, mark.inode)}
    assert list(machine.store.files()) == []
    assert machine.knows("orchard/a")


def test_a_log_that_was_moved_keeps_what_is_known_of_it(machine: Machine) -> None:
    path = machine.settles("orchard/a")
    path.parent.rename(machine.projects / "garden")
    machine.day += LONG
    machine.prune()
    assert len(list(machine.store.files())) == 1
    assert machine.knows("orchard/a")


@pytest.mark.parametrize("state", ["missing", "empty", "holding no folder"])
def test_nothing_is_forgotten_while_the_projects_folder_is_away(machine: Machine, state: str, tmp_path: Path) -> None:
    machine.settles("orchard/a")
    machine.projects.rename(tmp_path / "away")
    if state != "missing":
        machine.projects.mkdir()
    if state == "holding no folder":
        (machine.projects / "note").touch()
    machine.day += LONG
    assert machine.prune() == Forgettable()
    assert machine.knows("orchard/a")


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_nothing_is_forgotten_while_another_projects_folder_is_away(
    machine: Machine, tmp_path: Path, left: str
) -> None:
    other = tmp_path / "other"
    machine.settles("orchard/a").unlink()
    machine.settles("orchard/b")
    here, machine.projects = machine.projects, other
    machine.settles("garden/c")
    machine.projects = here
    other.rename(tmp_path / "away")
    if left == "an empty folder":
        other.mkdir()
    machine.day += LONG
    assert machine.prune(other) == Forgettable()
    assert machine.knows("orchard/a")


def test_a_projects_folder_in_which_nothing_ever_stood_keeps_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.settles("orchard/a").unlink()
    machine.settles("orchard/b")
    machine.day += LONG
    assert machine.prune(tmp_path / "other").units == {"orchard/a"}


def test_nothing_is_forgotten_while_a_project_leads_nowhere(machine: Machine, tmp_path: Path) -> None:
    machine.settles("orchard/a").unlink()
    (machine.projects / "disk").symlink_to(tmp_path / "unmounted")
    machine.day += LONG
    assert machine.prune() == Forgettable()


def test_nothing_of_a_project_is_forgotten_whose_folder_is_empty_as_a_mount_point_is(machine: Machine) -> None:
    machine.settles("garden/b").unlink()
    machine.settles("orchard/a").unlink()
    machine.settles("tree/c")
    machine.day += LONG
    os.utime(machine.projects / "orchard", (0, (START - 1) * DAY))
    os.utime(machine.projects / "garden", (0, START * DAY))
    assert machine.prune().units == {"garden/b"}, "there a log was removed after it was settled"
    assert machine.knows("orchard/a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_nothing_is_forgotten_while_a_project_cannot_be_listed(machine: Machine) -> None:
    machine.settles("orchard/a")
    machine.settles("garden/b").unlink()
    machine.day += LONG
    (machine.projects / "orchard").chmod(0)
    try:
        assert machine.prune() == Forgettable()
    finally:
        (machine.projects / "orchard").chmod(0o700)


def test_logs_below_a_folder_that_is_followed_no_more_are_let_alone(machine: Machine, tmp_path: Path) -> None:
    machine.settles("orchard/a")
    machine.day += LONG
    machine.projects = tmp_path / "other"
    machine.settles("garden/b")
    assert machine.prune() == Forgettable()
    assert machine.knows("orchard/a")


def test_a_session_that_comes_back_meanwhile_is_let_alone(machine: Machine) -> None:
    machine.settles("orchard/a").unlink()
    machine.settles("orchard/b")
    machine.day += LONG

    def is_there(name: str) -> bool:
        return name == "orchard/b"

    kept = Retained.of(machine.store, {}, is_there)
    what = Forgettable.of(kept, roots=roots_at(machine.projects), found={}, is_there=is_there)
    assert what.units == {"orchard/a"}
    for step in forgetting(machine.store, what, lambda _name: True):
        step()
    assert machine.knows("orchard/a")
    assert machine.reader.route("orchard/a") is not None


def test_events_that_were_set_aside_do_not_pile_up(machine: Machine) -> None:
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
    """Let everything that was settled be settled long ago."""
    connection = sqlite3.connect(workspace.state / "state.db")
    with connection:
        connection.execute("UPDATE units SET settled_on=1")
    connection.close()


def kept(workspace: Workspace) -> int:
    connection = sqlite3.connect(workspace.state / "state.db")
    (number,) = connection.execute("SELECT count(DISTINCT unit) FROM settled").fetchone()
    connection.close()
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("once", [True, False])
async def test_a_start_forgets_what_is_gone(workspace: Workspace, posthog: CaptureServer, once: bool) -> None:
    logs = many_sessions(3, 2)
    projects = put_logs(workspace, logs)
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    sent = len(posthog.events)
    assert kept(workspace) == 3
    age(workspace)
    (projects / min(logs)).unlink()
    if once:
        ended = await verb(workspace, "run", "--once", "--log-format", "json", env=env)
        said = log_lines(ended.stderr)
    else:
        async with following(workspace, env=env) as daemon:
            await daemon.until(lambda: "store_pruned" in daemon.stderr)
            said = log_lines(daemon.stderr)
    [pruned] = [line for line in said if line["event"] == "store_pruned"]
    assert (pruned["sessions"], pruned["files"]) == (1, 0)
    assert kept(workspace) == 2
    assert len(posthog.events) == sent, "and nothing is sent again"


# ---------------------------------------------------------------------- logs that are in their root


@pytest.fixture
def journals(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(agents, "AGENTS", (SCRIBE,))
    root = machine.projects.with_name("journals")
    root.mkdir()
    return root


def journal(machine: Machine, root: Path, session: str) -> Path:
    settled = machine.settles(f"journals/{session}")
    path = root / f"{session}.ndjson"
    settled.rename(path)
    [mark] = [mark for mark in machine.store.files() if mark.path == str(settled)]
    machine.store.commit(Commit(files=[replace(mark, path=str(path))]))
    return path


def prune_journals(machine: Machine, root: Path) -> Forgettable:
    found = {str(path): FileStat.of(path.stat()) for path in root.glob("*.ndjson")}
    there = {f"journals/{Path(path).stem}" for path in found}
    kept = Retained.of(machine.store, found, there.__contains__)
    return Forgettable.of(kept, roots=[LogRoot(SCRIBE, root)], found=found, is_there=there.__contains__)


def test_a_session_whose_log_was_in_the_root_itself_is_forgotten_when_it_is_gone(
    machine: Machine, journals: Path
) -> None:
    gone, _ = journal(machine, journals, "first"), journal(machine, journals, "second")
    gone.unlink()
    machine.day += LONG
    assert prune_journals(machine, journals).units == {"journals/first"}


def test_while_a_root_that_held_logs_itself_is_away_nothing_is_forgotten(machine: Machine, journals: Path) -> None:
    journal(machine, journals, "first")
    journals.rename(journals.with_name("away"))
    machine.day += LONG
    assert prune_journals(machine, journals) == Forgettable()
