"""What was decided of a session holds after a restart; one that has to wait waits until it no longer has to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon import settings as settings_module
from daemon.catalog import Catalog, Unit
from daemon.decisions import Decisions
from daemon.project_settings import UNRESTRAINED, Restraint
from daemon.repository import Repositories
from daemon.routing import Held, Routing
from daemon.store import FrozenRoute, Store
from daemon.workers import Workers
from tests.support.logs import LogBuilder, text

FROZEN = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")
STRICT = Restraint(content="metadata")


class Bench:
    """Two sessions of one project, and what is decided of them."""

    def __init__(self, root: Path) -> None:
        self.project = root / "orchard"
        self.project.mkdir()
        self.state = root / "state"
        self.state.mkdir()
        self.root = root
        self.catalog = Catalog()
        for name in ("one", "two"):
            log = LogBuilder(name, cwd=str(self.project))
            log.prompt("begin")
            log.answer(text("done"))
            log.write(root / "projects")
            self.catalog.add(str(root / "projects" / log.path))

    @property
    def units(self) -> list[Unit]:
        return list(self.catalog.units.values())

    def asks_for(self, host: str | None) -> None:
        """Let the project's own settings ask for a host."""
        folder = self.project / ".claude"
        folder.mkdir(exist_ok=True)
        env = {"POSTHOG_HOST": host} if host else {}
        (folder / "settings.local.json").write_text(json.dumps({"env": env}))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Decisions, Store]]:
        """What a daemon has from its start to its end."""
        environ = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_own"}
        settings = settings_module.load({}, environ, config_file=self.root / "none.toml", home=self.root)
        store, workers = Store(self.state), Workers(asyncio.Event())
        reader = store.reader()
        try:
            yield (
                Decisions(
                    routing=Routing(settings, Repositories(), purpose="send"),
                    store=store,
                    reader=reader,
                    workers=workers,
                    units=self.catalog.units,
                ),
                store,
            )
        finally:
            workers.end_store()
            await workers.end_reader()
            reader.close()
            store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_what_was_decided_is_known_after_a_restart(bench: Bench) -> None:
    one, two = bench.units
    async with bench.running() as (decisions, _):
        await decisions.freeze(one.name, FROZEN)
        await decisions.restrain([one.name], STRICT)
        await decisions.restrain([one.name], UNRESTRAINED)
        assert decisions.restraint(one.name) == STRICT, "a restraint stays"
    async with bench.running() as (decisions, _):
        assert decisions.frozen(one.name) is None, "nothing is in memory of a session that is not"
        outlook = await decisions.outlook(one)
        assert (decisions.frozen(one.name), decisions.restraint(one.name)) == (FROZEN, STRICT)
        assert outlook.opening.cwd == str(bench.project)
        decisions.forget([one.name])
        assert decisions.restraint(one.name) == UNRESTRAINED
        await decisions.outlook(two)
        assert (decisions.frozen(two.name), decisions.restraint(two.name)) == (None, UNRESTRAINED)


async def test_where_events_will_go_is_known_before_a_session_is_read(bench: Bench) -> None:
    async with bench.running() as (decisions, _):
        one = bench.units[0]
        assert one.name not in decisions.foreseen
        decisions.foresee(one.name, await decisions.outlook(one))
        route = decisions.foreseen[one.name]
        assert route is not None
        assert route.host == "https://us.i.posthog.com"


async def test_sessions_that_have_to_wait_are_noted_and_told_once_and_let_go_together(bench: Bench) -> None:
    bench.asks_for("https://eu.i.posthog.com")
    async with bench.running() as (decisions, store):
        with capture_logs() as lines:
            for unit in bench.units:
                with pytest.raises(Held) as caught:
                    decisions.foresee(unit.name, await decisions.outlook(unit))
                await decisions.hold([unit.name], caught.value)
            assert await decisions.release() == [], "nothing has changed"
        assert [line["event"] for line in lines] == ["session_held"]
        assert sorted(row.unit for row in store.held()) == sorted(decisions.held) == [unit.name for unit in bench.units]
        bench.asks_for(None)
        with capture_logs() as lines:
            assert await decisions.release() == bench.units
        assert [(line["event"], line["sessions"]) for line in lines] == [("sessions_released", 2)]
        assert not decisions.held
        assert store.held() == []
