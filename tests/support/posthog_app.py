"""PostHog's web app on loopback, with a real ClickHouse: `python -m tests.support.posthog_app FOLDER` prints its port.

The ClickHouse is chdb, embedded in this process, with tables shaped as PostHog's: `events` drops what is there twice
when it merges, `ai_events` never does. The server speaks as much of the private API as `verify` and `dashboard` use.

HogQL is ClickHouse's SQL with a few words of its own. They are translated as PostHog does it:

    {name}                    the value of that name, as a literal
    {filters}                 the last thirty days
    properties.name           the property, as text without quotes, or NULL
    toInt(x), toFloat(x)      a cast that gives NULL for what is no number
    toDateTime(x, 'UTC')      a time read from text
    FROM events               only the rows of the project that is asked
    posthog.ai_events         the same

Tests make a project each by `POST /test/projects`, and put what capture took into it by `POST /test/events`.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["hogql_to_sql"]

Json = dict[str, Any]

_HEAVY = ("$ai_input", "$ai_output", "$ai_output_choices", "$ai_input_state", "$ai_output_state", "$ai_tools")
"""Kept out of `events` by PostHog's ingestion."""
_MAX_ROWS = 10_000

_TABLES = """
CREATE TABLE all_events (team_id Int64, uuid UUID, event String, distinct_id String, timestamp DateTime64(6, 'UTC'),
    properties String, _timestamp DateTime64(6, 'UTC') DEFAULT now64(6))
ENGINE = ReplacingMergeTree(_timestamp) PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid));
CREATE TABLE all_ai_events (team_id Int64, uuid UUID, event String, distinct_id String, timestamp DateTime64(6, 'UTC'),
    properties String, trace_id String, session_id Nullable(String))
ENGINE = MergeTree PARTITION BY toYYYYMM(timestamp) ORDER BY (team_id, trace_id, timestamp);
SYSTEM STOP MERGES all_events;
"""


def literal(value: object) -> str:
    """Return a value as PostHog puts it into a query."""
    if isinstance(value, str):
        # By hex digits, so that nothing in it can end the literal.
        return f"unhex('{value.encode('utf-8', 'surrogatepass').hex()}')"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]" if value else "['']"
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"no value for a query: {value!r}")


def hogql_to_sql(text: str, values: Mapping[str, object], team: int) -> str:
    """Return what ClickHouse is to run for a HogQL query."""
    sql = re.sub(
        r"properties\.(\$?\w+)",
        lambda found: (
            f"replaceRegexpAll(nullIf(nullIf(JSONExtractRaw(properties, '{found[1]}'), ''), 'null'), '^\"|\"$', '')"
        ),
        text,
    )
    sql = sql.replace("toInt(", "accurateCastOrNull_Int64(").replace("toFloat(", "accurateCastOrNull_Float64(")
    sql = re.sub(r"toDateTime\(([^,()]+), 'UTC'\)", r"parseDateTime64BestEffort(\1, 6, 'UTC')", sql)
    sql = sql.replace("posthog.ai_events AS ai_events", f"(SELECT * FROM all_ai_events WHERE team_id = {team:d})")
    sql = re.sub(r"\bFROM events\b", f"FROM (SELECT * FROM all_events WHERE team_id = {team:d})", sql)

    def value(found: re.Match[str]) -> str:
        if found[1] == "filters":
            return "timestamp >= now() - INTERVAL 30 DAY"
        return literal(values[found[1]])

    sql = re.sub(r"\{(\w+)\}", value, sql)
    # ClickHouse's function takes the type as a second argument; only the first closing parenthesis is that of the cast.
    return re.sub(r"accurateCastOrNull_(\w+)\(", r"cast_\1(", sql)


class App:
    """The projects, their events, and what was asked."""

    def __init__(self, folder: str) -> None:
        # A child process of the tests imports it, so that they stay light. It has no types, and is an extra.
        session: Any = importlib.import_module("chdb.session")

        self._lock = threading.Lock()
        self._session = session.Session(folder)
        for statement in _TABLES.split(";"):
            if statement.strip():
                self._session.query(statement)
        self._session.query("CREATE FUNCTION cast_Int64 AS (x) -> accurateCastOrNull(x, 'Int64')")
        self._session.query("CREATE FUNCTION cast_Float64 AS (x) -> accurateCastOrNull(x, 'Float64')")
        self.projects: dict[int, Json] = {}
        self.asked: dict[int, list[Json]] = {}
        self.things: dict[int, dict[str, dict[int, Json]]] = {}

    def new_project(self, token: str, personal: str, scopes: Sequence[str]) -> int:
        """Make a project with keys of its own."""
        with self._lock:
            team = len(self.projects) + 1
            self.projects[team] = {
                "id": team,
                "name": f"Project {team}",
                "api_token": token,
                "personal": personal,
                "scopes": list(scopes),
            }
            self.asked[team] = []
            self.things[team] = {"dashboards": {}, "insights": {}}
            return team

    def ingest(self, team: int, events: Sequence[Json], tables: Sequence[str]) -> None:
        """Put events into the tables, as PostHog's ingestion does."""
        rows: dict[str, list[Json]] = {"all_events": [], "all_ai_events": []}
        for event in events:
            properties = event["properties"]
            light = {name: value for name, value in properties.items() if name not in _HEAVY}
            at = datetime.fromisoformat(event["timestamp"]).strftime("%Y-%m-%d %H:%M:%S.%f")
            row = {
                "team_id": team,
                "uuid": event["uuid"],
                "event": event["event"],
                "distinct_id": event["distinct_id"],
                "timestamp": at,
            }
            rows["all_events"].append({**row, "properties": json.dumps(light)})
            rows["all_ai_events"].append(
                {
                    **row,
                    "properties": json.dumps(light),
                    "trace_id": properties.get("$ai_trace_id", ""),
                    "session_id": properties.get("$ai_session_id"),
                }
            )
        with self._lock:
            for table, found in rows.items():
                if table.removeprefix("all_") in tables and found:
                    lines = "\n".join(map(json.dumps, found))
                    self._session.query(f"INSERT INTO {table} FORMAT JSONEachRow {lines}")

    def query(self, team: int, asked: Json) -> Json:
        """Answer a query."""
        sql = hogql_to_sql(asked["query"], asked.get("values") or {}, team)
        with self._lock:
            answer = json.loads(
                str(self._session.query(f"{sql} SETTINGS output_format_json_quote_64bit_integers=0", "JSONCompact"))
            )
            rows = answer["data"][:_MAX_ROWS] if "LIMIT" in asked["query"] else answer["data"][:100]
            self.asked[team].append({**asked, "rows": len(rows)})
        return {"results": rows, "columns": [column["name"] for column in answer["meta"]]}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    app: App
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        del format, args

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            status, answer = self._answer(json.loads(body) if body else {})
        except Exception as error:  # noqa: BLE001 - what ClickHouse refuses is an answer
            status, answer = 400, {"type": "validation_error", "detail": str(error)}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: Json) -> tuple[int, object]:
        path = self.path.partition("?")[0]
        if path == "/test/projects":
            return 200, {"id": self.app.new_project(body["token"], body["personal"], body["scopes"])}
        if path == "/test/events":
            self.app.ingest(body["project"], body["events"], body["tables"])
            return 200, {}
        if found := re.fullmatch(r"/test/asked/(\d+)", path):
            return 200, self.app.asked[int(found[1])]
        personal = self.headers.get("Authorization", "").removeprefix("Bearer ")
        mine = [project for project in self.app.projects.values() if project["personal"] == personal]
        if not mine:
            return 401, {"type": "authentication_error", "detail": "Invalid personal API key."}
        return self._private(mine[0], path, body)

    def _private(self, project: Json, path: str, body: Json) -> tuple[int, object]:
        def needs(scope: str) -> tuple[int, object] | None:
            if scope in project["scopes"] or scope.replace(":read", ":write") in project["scopes"]:
                return None
            return 403, {"detail": f"API key missing required scope '{scope}'"}

        shown = {name: project[name] for name in ("id", "name", "api_token")}
        found = re.fullmatch(r"/api/projects/(?:(@current|\d+)/(?:(\w+)/(?:(\d+)/)?)?)?", path)
        if found is None or found[1] not in (None, "@current", str(project["id"])):
            return 404, {"detail": "Not found."}
        _, what, number = found.groups()
        if what is None:
            answer = shown if found[1] else {"results": [shown]}
            return needs("project:read") or (200, answer)
        if what == "query":
            return needs("query:read") or (200, self.app.query(project["id"], body["query"]))
        kind = {"dashboards": "dashboard", "insights": "insight"}[what]
        refused = needs(f"{kind}:{'read' if self.command == 'GET' else 'write'}")
        return refused or (200, self._thing(project, what, None if number is None else int(number), body))

    def _thing(self, project: Json, what: str, number: int | None, body: Json) -> object:
        """Read, create or change a dashboard or an insight."""
        things = self.app.things[project["id"]]
        if self.command == "GET" and number is None:
            return {"results": list(things[what].values())}
        if self.command == "POST":
            number = 1 + sum(len(each) for each in things.values())
            things[what][number] = {"id": number}
        assert number is not None
        things[what][number] |= body
        thing = things[what][number]
        if what == "insights":
            return thing
        insights = [each for each in things["insights"].values() if thing["id"] in each.get("dashboards", ())]
        return {**thing, "tiles": [{"id": each["id"], "insight": each} for each in insights]}


def main() -> None:
    Handler.app = App(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


def _end_with_parent() -> None:
    """Exit when stdin ends: then the tests have ended, in whatever way. ClickHouse has nothing to save."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
