"""Decisions survive a restart, and a held session waits until it is released."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.config import loading
from daemon.config.restraint import UNRESTRAINED, Restraint
from daemon.following.catalog import Catalog
from daemon.following.session_files import SessionFiles
from daemon.routing.decisions import Decisions
from daemon.routing.repository import Repositories
from daemon.routing.routing import Held, Routing
from daemon.state.rows import FrozenRoute
from daemon.state.store import Store
from daemon.system import disk
from daemon.system.workers import Workers
from tests.support.logs import LogBuilder, text
from tests.support.waiting import PATIENCE

FROZEN = FrozenRoute(distinct_id="ada@example.com", identified=True, grouping="session")
STRICT = Restraint(content="metadata")


class Bench:
    """Two sessions of one project, with the decisions about them."""

    def __init__(self, root: Path) -> None:
        self.project = root / "orchard"
        self.project.mkdir()
        self.state = root / "state"
        self.state.mkdir()
        self.root = root
        self.catalog = Catalog()
        for name in ("one", "two"):
            self.session(name, self.project)

    def session(self, name: str, cwd: Path) -> SessionFiles:
        """Begin a session in *cwd*."""
        log = LogBuilder(name, cwd=str(cwd))
        log.prompt("begin")
        log.answer(text("done"))
        log.write(self.root / "projects")
        self.catalog.add(str(self.root / "projects" / log.path))
        unit = self.catalog.find(str(self.root / "projects" / log.path))
        assert unit is not None
        return unit

    @property
    def units(self) -> list[SessionFiles]:
        return list(self.catalog.sessions.values())

    def asks_for(self, host: str | None, project: Path | None = None) -> None:
        """Let a project's own settings ask for a host."""
        folder = (project or self.project) / ".claude"
        folder.mkdir(exist_ok=True, parents=True)
        env = {"POSTHOG_HOST": host} if host else {}
        (folder / "settings.local.json").write_text(json.dumps({"env": env}))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Decisions, Store]]:
        """The decisions of one daemon, from its start to its end."""
        environ = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_own"}
        settings = loading.load({}, environ, config_file=self.root / "none.toml", home=self.root)
        store, workers = Store(self.state), Workers(asyncio.Event())
        reader = store.reader()
        try:
            yield (
                Decisions(
                    routing=Routing(settings, Repositories(), purpose="send"),
                    store=store,
                    reader=reader,
                    workers=workers,
                    units=self.catalog.sessions,
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


async def test_decisions_are_known_after_a_restart(bench: Bench) -> None:
    one, two = bench.units
    async with bench.running() as (decisions, _):
        decisions.freeze(one.name, FROZEN)
        decisions.forget([one.name])
        await decisions.outlook(one)
        assert decisions.frozen(one.name) == FROZEN, "it is not written yet, and known nevertheless"
        await decisions.write()
        await decisions.restrain([one.name], STRICT)
        await decisions.restrain([one.name], UNRESTRAINED)
        assert decisions.restraint(one.name) == STRICT, "a restraint stays"
    async with bench.running() as (decisions, _):
        assert decisions.frozen(one.name) is None, "nothing is in memory of a session that is not"
        outlook = await decisions.outlook(one)
        assert (decisions.frozen(one.name), decisions.restraint(one.name)) == (FROZEN, STRICT)
        assert outlook.opening.cwd == str(bench.project)
        decisions.foresee(one.name, outlook)
        decisions.forget([one.name, two.name])
        assert (decisions.frozen(one.name), decisions.restraint(one.name)) == (None, UNRESTRAINED)
        assert not decisions.foreseen
        await decisions.outlook(two)
        assert (decisions.frozen(two.name), decisions.restraint(two.name)) == (None, UNRESTRAINED)


async def test_the_expected_route_is_known_before_a_session_is_read(bench: Bench) -> None:
    async with bench.running() as (decisions, _):
        one = bench.units[0]
        assert one.name not in decisions.foreseen
        decisions.foresee(one.name, await decisions.outlook(one))
        route = decisions.foreseen[one.name]
        assert route is not None
        assert route.host == "https://us.i.posthog.com"


async def test_many_outlooks_at_once_say_what_each_says(bench: Bench) -> None:
    bench.asks_for("https://eu.i.posthog.com")
    elsewhere = bench.session("elsewhere", bench.root / "garden")
    async with bench.running() as (decisions, _):
        together = await decisions.outlooks(bench.units)
        assert {name: each.held is None for name, each in together.items()} == {
            unit.name: unit is elsewhere for unit in bench.units
        }
        for unit in bench.units:
            alone, among = await decisions.outlook(unit), together[unit.name]
            assert (among.opening, among.ruling, str(among.held)) == (alone.opening, alone.ruling, str(alone.held))
        # Files that change count the next time.
        bench.asks_for(None)
        assert all(each.held is None for each in (await decisions.outlooks(bench.units)).values())


async def test_a_project_that_does_not_answer_spoils_no_other_outlook(bench: Bench) -> None:
    elsewhere = bench.session("elsewhere", bench.root / "garden")
    answered = threading.Event()
    with pytest.raises(disk.Unanswered):
        disk.call(str(bench.project), lambda: answered.wait(PATIENCE), patience=0.01)
    try:
        async with bench.running() as (decisions, _):
            outlooks = await decisions.outlooks(bench.units)
    finally:
        answered.set()
    assert {name for name, each in outlooks.items() if each.held is None} == {elsewhere.name}
    assert str(outlooks[bench.units[0].name].held).startswith(f"{bench.project} does not answer")


async def test_held_sessions_are_listed_and_logged_once_and_released_together(bench: Bench) -> None:
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


async def test_an_outlook_uses_the_frozen_route_and_the_restraint(bench: Bench) -> None:
    bench.asks_for("https://eu.i.posthog.com")
    one, two = bench.units
    async with bench.running() as (decisions, _):
        outlook = await decisions.outlook(two)
        assert outlook.held is not None
    bench.asks_for(None)
    async with bench.running() as (decisions, _):
        route = (await decisions.outlook(one)).ruling
        assert route is not None
        assert route.route is not None
        frozen = replace(FROZEN, host=route.route.host, key=route.route.fingerprint)
        decisions.freeze(one.name, FROZEN)
        writing = asyncio.ensure_future(decisions.write())
        await asyncio.sleep(0)
        decisions.freeze(one.name, frozen)
        await writing
        await decisions.write()
        assert decisions.frozen(one.name) == frozen
        await decisions.restrain([one.name, two.name], Restraint(off=True))
        assert decisions.restraint(one.name) == decisions.restraint(two.name) == Restraint(off=True)
    async with bench.running() as (decisions, _):
        outlook = await decisions.outlook(one)
        assert decisions.frozen(one.name) == frozen, "where it goes was decided anew"
        decisions.foresee(one.name, outlook)
        assert decisions.foreseen == {one.name: None}, "nothing of it may be sent"
        assert (await decisions.outlook(two)).ruling is not None
    async with bench.running() as (decisions, store):
        store.restrain({one.name: UNRESTRAINED.dump()})
        bench.asks_for("https://eu.i.posthog.com")
        assert (await decisions.outlook(one)).held is None, "it goes where it went before"


async def test_a_session_without_a_folder_has_no_ruling_yet(bench: Bench) -> None:
    path = bench.root / "projects" / "-p" / "empty.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    bench.catalog.add(str(path))
    unit = bench.catalog.find(str(path))
    assert unit is not None
    async with bench.running() as (decisions, _):
        outlook = await decisions.outlook(unit)
        assert (outlook.ruling, outlook.held) == (None, None)
        decisions.foresee(unit.name, outlook)
        assert not decisions.foreseen


async def test_a_project_setting_without_effect_is_logged_once(bench: Bench) -> None:
    folder = bench.project / ".claude"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"env": {"POSTHOG_HOST": "https://eu.i.posthog.com"}}))
    async with bench.running() as (decisions, _):
        with capture_logs() as lines:
            for unit in bench.units:
                decisions.foresee(unit.name, await decisions.outlook(unit))
        assert [line["event"] for line in lines] == ["project_setting_ignored"]


async def test_a_held_session_keeps_its_restraint_and_has_no_expected_route(bench: Bench) -> None:
    one, two = bench.units
    async with bench.running() as (decisions, store):
        decisions.foresee(one.name, await decisions.outlook(one))
        del bench.catalog.sessions[one.name]
        await decisions.hold([one.name, two.name], Held("a reason", STRICT))
        assert not decisions.foreseen
        assert decisions.restraint(two.name) == STRICT
        assert [row.unit for row in store.held()] == [two.name], "the other one is gone"


async def test_sessions_wait_each_for_a_reason_of_its_own(bench: Bench) -> None:
    garden = bench.root / "garden"
    three = bench.session("three", garden)
    others = {unit.name for unit in bench.units if unit != three}
    for project in (bench.project, garden):
        bench.asks_for("https://eu.i.posthog.com", project)
    async with bench.running() as (decisions, store):
        with capture_logs() as lines:
            for unit in bench.units:
                held = (await decisions.outlook(unit)).held
                assert held is not None
                await decisions.hold([unit.name], held)
        assert [line["project"] for line in lines] == [str(bench.project), str(garden)]
        with capture_logs() as lines:
            assert await decisions.release() == []
        assert lines == [], "nothing has changed"

        env = {"POSTHOG_API_KEY": "phc_of_the_orchard"}
        (bench.project / ".claude" / "settings.local.json").write_text(json.dumps({"env": env}))
        with capture_logs() as lines:
            assert await decisions.release() == []
        assert [line["event"] for line in lines] == ["session_held"], "for another reason now"
        changed = {row.unit for row in store.held() if "sends to https://us." in row.reason}
        assert changed == others

        bench.asks_for(None, garden)
        assert await decisions.release() == [three]
        assert set(decisions.held) == {row.unit for row in store.held()} == others
        await decisions.hold([three.name], Held("a reason"))
        bench.asks_for(None, bench.project)
        assert await decisions.release() == bench.units
        assert not decisions.held
