"""When the record of a command may be removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.following.log_roots import roots_at
from daemon.following.logs import Logs
from daemon.following.session_files import SessionFiles
from daemon.reading.attendance import Attendance
from daemon.reading.executions import Executions, Notice
from daemon.state.rows import Commit, FileMark
from daemon.state.store import Store
from daemon.system.workers import Workers
from tests.support.logs import LogBuilder, write_files
from tests.support.processes import session_id


class Site:
    """A command that has ended, and its one session, of which nothing is in memory."""

    def __init__(self, root: Path) -> None:
        projects = root / "projects"
        log = LogBuilder(session_id("one"))
        log.prompt("Count the trees")
        write_files(projects, log.files())
        self.path = projects / log.path
        self.logs = Logs(roots_at(projects))
        self.logs.include(self.logs.sweep("full").changed)
        self.store = Store(root)
        self.notice = Notice(root, {})
        with self.notice:
            self.notice.name([log.session])
            self.notice.end({})
        self.executions = Executions(root)
        self.executions.refresh()
        self.executions.close(self.executions.ended)

    def settles(self) -> None:
        """Settle the session's log to its end."""
        status = self.path.stat()
        [files] = self.logs.sessions.values()
        mark = FileMark(
            device=status.st_dev,
            inode=status.st_ino,
            path=str(self.path),
            unit=files.name,
            offset=status.st_size,
            head=b"",
            head_length=0,
            tail=b"",
        )
        self.store.commit(Commit(files=[mark]))

    async def look(self, is_done: Callable[[SessionFiles], bool | None]) -> bool:
        """Remove the record if the session is delivered; return whether it was removed."""
        workers, lookup = Workers(asyncio.Event()), self.store.reader()
        attendance = Attendance(
            self.executions, logs=self.logs, lookup=lookup, workers=workers, only_named=False, young=3.0
        )
        try:
            await attendance.remove_delivered(is_done)
        finally:
            workers.end_store()
            await workers.end_reader()
            lookup.close()
        return not self.notice.is_there


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.logs.close()
    site.store.close()


async def test_the_record_stays_until_the_session_is_delivered(site: Site) -> None:
    assert not await site.look(lambda _: False)


async def test_a_session_at_rest_is_delivered_when_its_log_is_settled_to_its_end(site: Site) -> None:
    assert not await site.look(lambda _: None)
    site.settles()
    assert await site.look(lambda _: None)


async def test_the_record_stays_if_the_session_grows_while_the_store_is_asked(site: Site) -> None:
    site.settles()
    answers = iter([None, False])
    assert not await site.look(lambda _: next(answers))
