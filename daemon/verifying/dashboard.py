"""The dashboard: some questions about the events that everybody has, as tiles that PostHog shows.

It is found again by a mark that stands in its description, and in its tags where the plan has tags, and so is each
tile. A user may rename it, move its tiles, describe them and draw them in other ways; what is brought up to date is the
question of each tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.config.table import APP_NAME
from daemon.verifying.app import App, AppError, Project
from llma_core import hogql
from llma_core.hogql import Tile

__all__ = ["NAME", "Dashboard", "Outcome", "definition"]

NAME = "Claude Code"
_TAG = f"{APP_NAME}:starter"
_READ = "dashboard:read"
_WRITE = "dashboard:write"
_TILES = "insight:write"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the dashboard.

    Attributes:
        url: where it is.
        created: tiles that were created.
        updated: tiles that were changed.
        unchanged: tiles that were up to date.
    """

    url: str
    created: int
    updated: int
    unchanged: int


def definition() -> dict[str, Any]:
    """Return what is written to PostHog: the dashboard, and its tiles in their order."""
    return {"dashboard": _dashboard(), "tiles": [_tile(tile) for tile in hogql.TILES]}


class Dashboard:
    """The dashboard in one project.

    Args:
        app: PostHog's private API.
        project: the project.
    """

    def __init__(self, app: App, project: Project) -> None:
        self._app = app
        self._project = project
        self._path = f"/api/projects/{project.id}"

    def find(self) -> dict[str, Any] | None:
        """Return the dashboard as PostHog has it; None if there is none yet.

        Raises:
            AppError: PostHog does not answer.
        """
        for each in self._app.list(f"{self._path}/dashboards/", scope=_READ):
            if not each.get("deleted") and _is_marked(each, _TAG):
                return each
        return None

    def write(self, existing: Mapping[str, Any] | None) -> Outcome:
        """Create the dashboard, or bring the tiles of the *existing* one up to date.

        Raises:
            AppError: PostHog does not answer. What was written stays; run again, it goes on from there.
        """
        if existing is None:
            existing = self._app.write("POST", f"{self._path}/dashboards/", _dashboard(), scope=_WRITE)
        identity = existing.get("id")
        if identity is None:
            raise AppError(f"{self._app.host} answers with a dashboard that has no number")
        there = self._app.read(f"{self._path}/dashboards/{identity}/", scope=_READ)
        known = [tile["insight"] for tile in _list(there, "tiles") if isinstance(tile.get("insight"), dict)]
        created = updated = unchanged = 0
        for tile in hogql.TILES:
            wanted = _tile(tile)
            mine = next((each for each in known if _is_marked(each, _mark(tile))), None)
            if mine is None:
                body = {**wanted, "dashboards": [identity]}
                self._app.write("POST", f"{self._path}/insights/", body, scope=_TILES)
                created += 1
            elif _question(mine) == _question(wanted):
                unchanged += 1
            else:
                change = {"query": wanted["query"]}
                self._app.write("PATCH", f"{self._path}/insights/{mine['id']}/", change, scope=_TILES)
                updated += 1
        place = "" if self._project.id == "@current" else f"/project/{self._project.id}"
        return Outcome(
            url=f"{self._app.host}{place}/dashboard/{identity}", created=created, updated=updated, unchanged=unchanged
        )


def _dashboard() -> dict[str, Any]:
    return {
        "name": NAME,
        "description": f"What Claude Code does and costs, by {APP_NAME}. ({_TAG})",
        "tags": [_TAG],
        "filters": {"date_from": "-30d"},
    }


def _tile(tile: Tile) -> dict[str, Any]:
    source = {"kind": "HogQLQuery", "query": tile.query.strip()}
    query: dict[str, Any] = {"kind": "DataVisualizationNode", "source": source, "display": tile.display}
    if tile.x:
        query["chartSettings"] = {
            "xAxis": {"column": tile.x},
            "yAxis": [{"column": column} for column in tile.y],
            **({"seriesBreakdownColumn": tile.series} if tile.series else {}),
        }
    return {
        "name": tile.name,
        "description": f"{tile.description} ({_mark(tile)})",
        "tags": [_TAG, _mark(tile)],
        "saved": True,
        "query": query,
    }


def _question(insight: Mapping[str, Any]) -> object:
    """Return the text of a tile's question. What PostHog and a user add to a query is their own."""
    query = insight.get("query")
    source = query.get("source") if isinstance(query, dict) else None
    return source.get("query") if isinstance(source, dict) else None


def _mark(tile: Tile) -> str:
    return f"{_TAG}/{tile.key}"


def _is_marked(thing: Mapping[str, Any], mark: str) -> bool:
    return f"({mark})" in str(thing.get("description") or "") or mark in _list(thing, "tags")


def _list(thing: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = thing.get(name)
    return found if isinstance(found, list) else ()
