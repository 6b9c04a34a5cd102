"""The dashboard: its queries run on a real ClickHouse, and it is brought up to date where it is."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llma_core import hogql
from tests.support.capture_server import CaptureServer
from tests.support.clickhouse import ClickHouseProject, new_project, priced
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, tool_use
from tests.support.processes import environment, put_logs, session_id, verb
from tests.support.terminal import on_terminal

Json = dict[str, Any]


def keys(workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject) -> dict[str, str]:
    return environment(
        workspace,
        posthog.url,
        POSTHOG_API_KEY=project.token,
        POSTHOG_PERSONAL_API_KEY=project.personal,
        POSTHOG_APP_HOST=project.url,
        POSTHOG_LLMA_CUSTOM_PROPERTIES='{"pull_request": "7"}',
    )


def logs() -> dict[str, bytes]:
    """Return the log of a session of yesterday in which something of everything happened."""
    began = datetime.now(UTC) - timedelta(days=1)
    log = LogBuilder(session_id("everything"), cwd="/home/ada/orchard", start=began.isoformat())
    log.prompt("count the trees")
    log.answer(tool_use("Bash", {"command": "ls"}, id="toolu_ok"), id="msg_1")
    log.tool_result("toolu_ok", "ada")
    log.answer(tool_use("Bash", {"command": "false"}, id="toolu_bad"), id="msg_2")
    log.tool_result("toolu_bad", "Exit code 1", error=True)
    log.answer(tool_use("Edit", {"old": "a"}, id="toolu_denied"), id="msg_3")
    log.denied("toolu_denied")
    log.prompt("again")
    log.api_request()
    log.api_error()
    log.answer(text("two"), id="msg_4")
    return log.files()


async def test_every_tile_says_on_clickhouse_what_happened(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject
) -> None:
    put_logs(workspace, logs())
    env = keys(workspace, posthog, project)
    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    await asyncio.to_thread(project.hold, posthog.events)
    # What was sent twice is there twice for a while, and counts once.
    await asyncio.to_thread(project.hold, posthog.events[::2])

    def rows(tile: hogql.Tile) -> list[Json]:
        answer = project.ask("POST", "query/", {"query": {"kind": "HogQLQuery", "query": tile.query}})
        found = [dict(zip(answer["columns"], row, strict=True)) for row in answer["results"]]
        assert {tile.x, *tile.y, tile.series} - {""} <= set(answer["columns"])
        return found

    found = {tile.key: await asyncio.to_thread(rows, tile) for tile in hogql.TILES}
    [spent] = found["cost-by-day-and-model"]
    assert spent["model"].startswith("claude")
    generations = [event for event in posthog.events if event["event"] == "$ai_generation"]
    dollars = sum(priced(event)["properties"].get("$ai_total_cost_usd", 0) for event in generations)
    assert spent["cost_usd"] == pytest.approx(dollars, abs=1e-4)
    [where] = found["cost-by-repository-branch-and-pull-request"]
    assert (where["pull_request"], where["sessions"], where["cost_usd"]) == ("7", 1, spent["cost_usd"])
    assert where["branch"]
    # A failed attempt is no call, as in `usage`.
    assert (where["calls"], len(generations)) == (4, 5)
    tokens = [event["properties"] for event in posthog.events if event["properties"].get("$ai_output_tokens")]
    cached = sum(each.get("$ai_cache_read_input_tokens", 0) for each in tokens)
    written = sum(each.get("$ai_cache_creation_input_tokens", 0) for each in tokens)
    sent = cached + written + sum(each["$ai_input_tokens"] for each in tokens)
    assert [row["hit_rate"] for row in found["cache-hit-rate"]] == [round(100 * cached / sent, 1)]
    assert [(row["tool"], row["calls"], row["failed"], row["denied"]) for row in found["tool-failures"]] == [
        ("Bash", 2, 1, 0),
        ("Edit", 1, 0, 1),
    ]
    assert found["tool-failures"][0]["failed_percent"] == 50
    [slow] = found["slowest-sessions"]
    assert (slow["session"], slow["project"], slow["working_seconds"] > 0) == (
        session_id("everything"),
        "orchard",
        True,
    )
    assert {(row["what"], row["error"], row["errors"]) for row in found["errors-by-type"]} == {
        ("tool", "Bash", 1),
        ("model", "overloaded_error", 1),
    }


async def test_it_is_created_once_and_then_brought_up_to_date_where_it_is(
    workspace: Workspace, posthog: CaptureServer, project: ClickHouseProject, web_app: str
) -> None:
    env = keys(workspace, posthog, project)
    asked = await verb(workspace, "dashboard", env=env)
    assert (asked.status, "--yes" in asked.errors[0]) == (2, True)
    made = await verb(workspace, "dashboard", "--yes", env=env)
    assert made.status == 0, made.stderr
    assert made.stdout.splitlines()[0] == "6 tiles created"
    [board] = (await asyncio.to_thread(project.ask, "GET", "dashboards/"))["results"]
    assert made.stdout.splitlines()[1] == f"{project.url}/project/{project.id}/dashboard/{board['id']}"
    assert (board["name"], board["filters"]) == ("Claude Code", {"date_from": "-30d"})

    # Its reader has renamed it; its plan has no tags; a tile is an older version's, and one was removed.
    change = {"name": "Mine", "tags": []}
    await asyncio.to_thread(project.ask, "PATCH", f"dashboards/{board['id']}/", change)
    tiles = (await asyncio.to_thread(project.ask, "GET", f"dashboards/{board['id']}/"))["tiles"]
    first, second = (tile["insight"] for tile in tiles[:2])
    old = {"name": "My cost", "description": "My words", "query": {"kind": "old"}}
    await asyncio.to_thread(project.ask, "PATCH", f"insights/{first['id']}/", old)
    await asyncio.to_thread(project.ask, "PATCH", f"insights/{second['id']}/", {"dashboards": []})
    # PostHog adds to a query what it likes, and its reader has chosen another drawing.
    third = tiles[2]["insight"]
    drawn = {**third["query"], "display": "ActionsBar", "source": {**third["query"]["source"], "version": 2}}
    await asyncio.to_thread(project.ask, "PATCH", f"insights/{third['id']}/", {"query": drawn})
    answers = [("Write it? [Y/n]:", "")]
    again = await on_terminal(workspace, "dashboard", answers=answers, columns=200, env=env)
    assert again.status == 0, again.stdout
    assert "Bring the dashboard Mine in " in again.stdout
    assert "1 tile created, 1 tile changed, 4 tiles up to date" in again.stdout
    [board] = (await asyncio.to_thread(project.ask, "GET", "dashboards/"))["results"]
    assert board["name"] == "Mine"
    tiles = (await asyncio.to_thread(project.ask, "GET", f"dashboards/{board['id']}/"))["tiles"]
    [mended] = [tile["insight"] for tile in tiles if tile["insight"]["id"] == first["id"]]
    assert (mended["name"], mended["description"], mended["query"]) == ("My cost", "My words", first["query"])
    [kept] = [tile["insight"] for tile in tiles if tile["insight"]["id"] == third["id"]]
    assert kept["query"] == drawn

    narrow = await asyncio.to_thread(new_project, web_app, ["query:read", "project:read", "dashboard:read"])
    refused = await verb(workspace, "dashboard", "--yes", env=keys(workspace, posthog, narrow))
    assert (refused.status, "the scope dashboard:write" in refused.errors[0]) == (1, True)
    # Nothing is written to a project that may be another one.
    blind = await asyncio.to_thread(new_project, web_app, ["dashboard:write", "insight:write"])
    unsure = await verb(workspace, "dashboard", "--yes", env=keys(workspace, posthog, blind))
    assert (unsure.status, "give it the scope project:read" in unsure.errors[0]) == (1, True)
    assert (await asyncio.to_thread(blind.ask, "GET", "dashboards/"))["results"] == []
    for said in (made, again, refused):
        assert project.personal not in said.stdout + said.stderr


async def test_it_can_be_looked_at_without_asking_anybody(workspace: Workspace) -> None:
    said = await verb(workspace, "dashboard", "--print")
    assert said.status == 0, said.stderr
    shown = json.loads(said.stdout)
    assert len(shown["tiles"]) == len(hogql.TILES)
    nodes = [tile["query"] for tile in shown["tiles"]]
    assert {node["kind"] for node in nodes} == {"DataVisualizationNode"}
    assert all("{filters}" in node["source"]["query"] for node in nodes)
    assert len({tile["description"] for tile in shown["tiles"]}) == len(nodes)
