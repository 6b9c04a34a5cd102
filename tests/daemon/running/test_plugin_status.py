"""The plugin's status file: its content, and what is never overwritten."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from daemon.config.loading import load
from daemon.delivering.delivery import EventOutcome
from daemon.delivering.route import Route
from daemon.running.plugin_status import (
    STATUS_FILE,
    PluginStatus,
    PluginStatusError,
    Sender,
    create,
    status_files,
    write,
)
from daemon.system.secret import Secret
from llma_core.events import CaptureEvent
from tests.support import sample_events
from tests.support.capture_server import Answer, CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text, tool_use, write_files
from tests.support.machine import Logged
from tests.support.processes import KEY, environment, following, now, session_id, until, verb
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]
FIELDS = [
    "session_id",
    "events_sent",
    "generations",
    "tool_uses",
    "traces",
    "status",
    "error",
    "host",
    "distinct_id",
    "project_name",
    "timestamp",
]
ROUTE = Route(host="https://eu.i.posthog.com", key=Secret("phc_a_key_that_no_file_shows"))
OTHER = Route(host="https://us.i.posthog.com", key=Secret("phc_another_one"))


def sender(folder: Path, session: str = "one", *, route: Route = ROUTE, project: str = "orchard") -> Sender:
    return Sender(
        unit=f"-p/{session}",
        session=session,
        folder=str(folder / "projects" / "-p"),
        route=route,
        distinct_id="ada@example.com",
        project=project,
    )


def event(identity: str) -> CaptureEvent:
    return msgspec.structs.replace(sample_events.generation(identity), identity=identity)


def accepted(identity: str) -> EventOutcome:
    return EventOutcome(event=event(identity), outcome="delivered")


def refused(identity: str, reason: str) -> EventOutcome:
    return EventOutcome(event=event(identity), outcome="rejected", reason=reason)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def said(folder: Path) -> dict[str, object]:
    found = json.loads((folder / STATUS_FILE).read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def claude(tmp_path: Path) -> Path:
    folder = tmp_path / "claude"
    (folder / "projects" / "-p").mkdir(parents=True)
    return folder


# ---------------------------------------------------------------------- its content


async def test_it_has_the_plugins_fields_in_its_order(claude: Path) -> None:
    status = PluginStatus([claude], wall=lambda: 1_800_000_000.25)
    kinds = ["gen|1", "call|1", "call|2", "error|1", "compaction|1", "cc-trace-session|one|1"]
    status.hand_over(sender(claude), [event(kind) for kind in kinds], 3)
    for kind in kinds:
        status.settle("-p/one", accepted(kind))
    await status.tell()
    assert (claude / STATUS_FILE).read_text() == json.dumps(
        {
            "session_id": "one",
            "events_sent": 6,
            "generations": 2,
            "tool_uses": 2,
            "traces": 3,
            "status": "ok",
            "error": None,
            "host": "https://eu.i.posthog.com",
            "distinct_id": "ada@example.com",
            "project_name": "orchard",
            "timestamp": "2027-01-15T08:00:00.250000+00:00",
        },
        indent=2,
    )
    assert list(said(claude)) == FIELDS
    assert stat.S_IMODE((claude / STATUS_FILE).stat().st_mode) == 0o600
    assert names(claude) == [STATUS_FILE, "projects"]


async def test_an_unchanged_status_is_not_written_again(claude: Path) -> None:
    status = PluginStatus([claude])
    await status.tell()
    assert not (claude / STATUS_FILE).exists()
    status.hand_over(sender(claude), [event("gen|1")], 1)
    await status.tell()
    assert not (claude / STATUS_FILE).exists(), "nothing was accepted yet"
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    before = (claude / STATUS_FILE).stat().st_ino
    await status.tell()
    assert (claude / STATUS_FILE).stat().st_ino == before


async def test_a_refusal_stays_until_an_event_is_accepted(claude: Path) -> None:
    status = PluginStatus([claude])
    status.hand_over(sender(claude), [event("gen|1"), event("gen|2")], 1)
    status.settle("-p/one", refused("gen|1", "400 too many trees"))
    await status.tell()
    assert {name: said(claude)[name] for name in ("status", "error", "events_sent")} == {
        "status": "error",
        "error": "HTTP 400: too many trees",
        "events_sent": 0,
    }
    status.settle("-p/one", accepted("gen|2"))
    # Neither sent nor refused: a later body was.
    status.settle("-p/one", EventOutcome(event=event("trace|1"), outcome="superseded"))
    await status.tell()
    assert (said(claude)["status"], said(claude)["error"], said(claude)["events_sent"]) == ("ok", None, 1)


async def test_a_failing_route_is_reported_in_the_session_that_waits_for_it(claude: Path) -> None:
    status = PluginStatus([claude])
    status.hand_over(sender(claude, "waits"), [event("gen|1")], 1)
    status.hand_over(sender(claude, "elsewhere", route=OTHER), [event("gen|2")], 1)
    status.hand_over(sender(claude, "done"), [event("gen|3")], 1)
    status.settle("-p/done", accepted("gen|3"))
    status.fail(ROUTE, "no connection in time")
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["error"]) == ("waits", "no connection in time")
    (claude / STATUS_FILE).unlink()
    status.fail(ROUTE, "no connection in time")
    await status.tell()
    assert not (claude / STATUS_FILE).exists(), "it was said"


async def test_a_failing_route_is_reported_in_the_most_recent_session_that_waits_for_it(claude: Path) -> None:
    status = PluginStatus([claude])
    for name in ("one", "two", "one", "three", "one"):
        status.hand_over(sender(claude, name), [event(f"gen|{name}")] * 2, 1)
    status.settle("-p/three", accepted("gen|three"))
    status.fail(ROUTE, "no connection in time")
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["error"]) == ("one", "no connection in time")
    assert said(claude)["traces"] == 3
    for _ in range(6):
        status.settle("-p/one", accepted("gen|one"))
    status.fail(ROUTE, "no connection in time")
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["error"]) == ("three", "no connection in time")


async def test_the_session_that_changed_last_is_written(claude: Path) -> None:
    status = PluginStatus([claude])
    for name in ("one", "two"):
        status.hand_over(sender(claude, name), [event(f"gen|{name}")] * 2, 1)
    for name in ("one", "two", "one"):
        status.settle(f"-p/{name}", accepted(f"gen|{name}"))
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["events_sent"]) == ("one", 2)


async def test_the_current_route_of_a_session_is_written(claude: Path) -> None:
    status = PluginStatus([claude])
    status.hand_over(sender(claude), [event("gen|1")], 1)
    status.hand_over(sender(claude, route=OTHER), [event("gen|2")], 1)
    status.settle("-p/one", refused("gen|1", ""))
    await status.tell()
    assert (said(claude)["host"], said(claude)["error"]) == (OTHER.host, "refused")


async def test_the_status_holds_no_key(claude: Path) -> None:
    status = PluginStatus([claude])
    status.hand_over(sender(claude, project=ROUTE.key.reveal()), [event("gen|1")], 0)
    status.settle("-p/one", refused("gen|1", f"401 no project\nhas {ROUTE.key.reveal()}"))
    await status.tell()
    assert "phc_" not in (claude / STATUS_FILE).read_text()
    assert list(said(claude)) == FIELDS


async def test_each_config_folder_has_its_own_status(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "projects" / "-p").mkdir(parents=True)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (two / "projects" / "-moved").symlink_to(moved)
    status = PluginStatus([one, two])
    for folder, name in ((one, "first"), (one, "second"), (two, "third")):
        status.hand_over(sender(folder, name), [event(f"gen|{name}")], 0)
        status.settle(f"-p/{name}", accepted(f"gen|{name}"))
    await status.tell()
    assert [said(folder)["session_id"] for folder in (one, two)] == ["second", "third"]
    linked = replace(sender(two, "linked"), folder=str(moved))
    status.hand_over(linked, [event("gen|linked")], 0)
    status.settle("-p/linked", accepted("gen|linked"))
    await status.tell()
    assert [said(folder)["session_id"] for folder in (one, two)] == ["second", "linked"]


async def test_the_number_of_sessions_kept_is_bounded(claude: Path) -> None:
    status = PluginStatus([claude], sessions=2)
    for number in range(4):
        status.hand_over(sender(claude, str(number)), [event(f"gen|{number}")], 1)
        status.settle(f"-p/{number}", accepted(f"gen|{number}"))
        await status.tell()
    (claude / STATUS_FILE).unlink()
    status.settle("-p/0", accepted("gen|0"))
    await status.tell()
    assert not (claude / STATUS_FILE).exists(), "it was forgotten"
    status.settle("-p/3", accepted("gen|3"))
    await status.tell()
    assert said(claude)["events_sent"] == 2


async def test_a_session_that_waits_or_is_not_written_yet_is_not_forgotten(claude: Path) -> None:
    status = PluginStatus([claude], sessions=2)
    status.hand_over(sender(claude, "waits"), [event("gen|1"), event("gen|2")], 1)
    status.settle("-p/waits", accepted("gen|1"))
    await status.tell()
    status.hand_over(sender(claude, "untold"), [event("gen|3")], 1)
    status.settle("-p/untold", accepted("gen|3"))
    status.hand_over(sender(claude, "new"), [event("gen|4")], 1)
    await status.tell()
    assert said(claude)["session_id"] == "untold"
    status.settle("-p/waits", accepted("gen|2"))
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["events_sent"]) == ("waits", 2)


async def test_as_many_sessions_as_allowed_are_kept(claude: Path) -> None:
    status = PluginStatus([claude], sessions=2)
    for name in ("one", "two"):
        status.hand_over(sender(claude, name), [event("gen|1")], 1)
        status.settle(f"-p/{name}", accepted("gen|1"))
        await status.tell()
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    assert (said(claude)["session_id"], said(claude)["events_sent"]) == ("one", 2)


async def test_a_session_outside_of_all_config_folders_is_not_written(tmp_path: Path, claude: Path) -> None:
    status = PluginStatus([tmp_path / "without projects", claude])
    status.hand_over(sender(tmp_path / "elsewhere"), [event("gen|1")], 1)
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    assert not (claude / STATUS_FILE).exists()


async def test_the_projects_folder_may_be_a_link(tmp_path: Path) -> None:
    moved, claude = tmp_path / "moved", tmp_path / "claude"
    (moved / "-p").mkdir(parents=True)
    claude.mkdir()
    (claude / "projects").symlink_to(moved)
    status = PluginStatus([claude])
    status.hand_over(replace(sender(claude), folder=str(moved / "-p")), [event("gen|1")], 1)
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    assert said(claude)["session_id"] == "one"


async def test_a_status_that_cannot_be_written_is_logged_once(claude: Path, logged: Logged) -> None:
    (claude / STATUS_FILE).mkdir()
    status = PluginStatus([claude])
    status.hand_over(sender(claude), [event("gen|1")] * 3, 1)
    for _ in range(2):
        status.settle("-p/one", accepted("gen|1"))
        await status.tell()
    (warning,) = logged
    assert (warning["event"], warning["path"]) == ("plugin_status_unwritable", str(claude / STATUS_FILE))
    assert warning["reason"] == "what is there is not a regular file; move it away"
    (claude / STATUS_FILE).rmdir()
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    assert said(claude)["events_sent"] == 3
    (claude / STATUS_FILE).unlink()
    (claude / STATUS_FILE).mkdir()
    status.settle("-p/one", accepted("gen|1"))
    await status.tell()
    assert len(logged) == 2, "it could be written in between"


# ---------------------------------------------------------------------- what is never overwritten


def kinds(folder: Path) -> Iterator[tuple[str, Path]]:
    target = folder / "target"
    target.write_text("somebody's")
    for name in ("link", "dangling", "folder", "fifo"):
        place = folder / name
        place.mkdir()
        path = place / STATUS_FILE
        match name:
            case "link":
                path.symlink_to(target)
            case "dangling":
                path.symlink_to(folder / "nowhere")
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
        yield name, place


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    for name, place in kinds(tmp_path):
        before = (place / STATUS_FILE).lstat()
        with pytest.raises(PluginStatusError, match="not a regular file"):
            write(place, b"{}")
        with pytest.raises(PluginStatusError, match="not a regular file"):
            create(place / STATUS_FILE)
        after = (place / STATUS_FILE).lstat()
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode), name
        assert [path.name for path in place.iterdir()] == [STATUS_FILE]
        settings = load(
            {},
            {"CLAUDE_CONFIG_DIR": str(place), "POSTHOG_LLMA_PLUGIN_STATUS_FILE": "true"},
            config_file=tmp_path / "none.toml",
            home=tmp_path,
        )
        assert status_files(settings) == ()
    assert (tmp_path / "target").read_text() == "somebody's"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_stays(claude: Path) -> None:
    path = claude / STATUS_FILE
    path.write_text("theirs")
    os.chown(path, 12345, -1)
    with pytest.raises(PluginStatusError, match="belongs to another user"):
        write(claude, b"{}")
    assert path.read_text() == "theirs"


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(PluginStatusError, match="no such file"):
        write(tmp_path / "none", b"{}")
    with pytest.raises(PluginStatusError, match="install"):
        create(tmp_path / "none" / STATUS_FILE)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_attempt_leaves_nothing_behind(claude: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(PluginStatusError, match="no space left"):
        write(claude, b"{}")
    assert [path.name for path in claude.iterdir()] == ["projects"]


def test_the_file_is_made_once(claude: Path) -> None:
    path = claude / STATUS_FILE
    assert create(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("{}\n", 0o600)
    path.write_text("more")
    assert not create(path)
    assert path.read_text() == "more"


def test_no_status_is_kept_unless_enabled(tmp_path: Path) -> None:
    environ = {"CLAUDE_CONFIG_DIR": str(tmp_path)}
    settings = load({}, environ, config_file=tmp_path / "none.toml", home=tmp_path)
    assert status_files(settings) == ()
    environ["POSTHOG_LLMA_PLUGIN_STATUS_FILE"] = "true"
    settings = load({}, environ, config_file=tmp_path / "none.toml", home=tmp_path)
    assert status_files(settings) == (tmp_path / STATUS_FILE,)


# ---------------------------------------------------------------------- if no file may be created next to it

_CHILD = """
import sys
from pathlib import Path
from daemon.running.plugin_status import PluginStatusError, write
for text in sys.argv[2:]:
    try:
        write(Path(sys.argv[1]), text.encode())
    except PluginStatusError as error:
        print(error)
    else:
        print((Path(sys.argv[1]) / "posthog-llma-status.json").read_text())
"""
_READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"'
_BOUND = (
    f'mount --bind "$1" "$1" && mount --bind "$1/{STATUS_FILE}" "$1/{STATUS_FILE}" && mount -o remount,bind,ro "$1"'
)


def in_namespace(folder: Path, mounts: str, *texts: str) -> list[str]:
    """Write *texts* to the file in *folder*, below *mounts*, and return the outcome of each."""
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode
    ):
        pytest.skip("needs user namespaces with mounts")
    script = f'{mounts} && shift && exec "$@"'
    python = [sys.executable, "-c", _CHILD, str(folder), *texts]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    done = subprocess.run(
        [unshare, "-rm", "sh", "-ec", script, "sh", str(folder), *python],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_that_can_only_be_overwritten_is_overwritten(claude: Path) -> None:
    path = claude / STATUS_FILE
    path.write_text("{}")
    before = path.stat().st_ino
    assert in_namespace(claude, _BOUND, '"short"', '"a longer text"', '"less"') == [
        '"short"',
        '"a longer text"',
        '"less"',
    ]
    assert (path.stat().st_ino, path.read_text()) == (before, '"less"')
    assert sorted(each.name for each in claude.iterdir()) == [STATUS_FILE, "projects"]


def test_an_error_says_what_to_do_if_nothing_may_be_written(claude: Path) -> None:
    assert in_namespace(claude, _READ_ONLY, "1") == [
        "no file may be created in its folder: `posthog-llma-daemon install` creates it"
    ]
    create(claude / STATUS_FILE)
    assert in_namespace(claude, _READ_ONLY, "1") == [
        "read-only file system: `posthog-llma-daemon install` lets the service write it"
    ]
    assert (claude / STATUS_FILE).read_text() == "{}\n"


def test_a_file_with_a_second_hard_link_and_a_huge_one_stay_as_they_are(claude: Path) -> None:
    path = claude / STATUS_FILE
    path.write_text("twice")
    (claude / "second").hardlink_to(path)
    assert in_namespace(claude, _BOUND, "1") == ["the file there has a second hard link; move it away"]
    (claude / "second").unlink()
    path.write_bytes(b"x" * 70_000)
    assert in_namespace(claude, _BOUND, "1") == ["the file there is too large to be the plugin's; move it away"]
    assert path.stat().st_size == 70_000


def test_a_file_replaced_since_the_service_started_is_an_error(claude: Path) -> None:
    """The service still sees the old file, which has no name any more."""
    create(claude / STATUS_FILE)
    keep = (
        f'mkdir "$1.kept" && mount -t tmpfs none "$1.kept" && echo "{{}}" > "$1.kept/file" && '
        f'mount --bind "$1.kept/file" "$1/{STATUS_FILE}" && rm "$1.kept/file"'
    )
    assert in_namespace(claude, keep, "1") == [
        "the file was replaced: after `posthog-llma-daemon restart` the service sees the new one"
    ]


# ---------------------------------------------------------------------- the daemon


def a_session(name: str) -> LogBuilder:
    log = LogBuilder(session_id(name), start=now(), cwd="/home/ada/orchard")
    log.prompt("Count the trees, content-marker")
    log.answer(text("I will."), tool_use("Bash", {"command": "ls"}, id=f"toolu_{name}"), id=f"msg_{name}_1")
    log.tool_result(f"toolu_{name}", "seven, content-marker")
    log.answer(text("Seven."), id=f"msg_{name}_2")
    log.prompt("Thanks")
    return log


async def test_a_daemon_keeps_the_status_only_if_enabled(workspace: Workspace, posthog: CaptureServer) -> None:
    path = workspace.config / STATUS_FILE
    log = a_session("sent")
    write_files(workspace.config / "projects", log.files())
    env = environment(workspace, posthog.url)
    assert (await verb(workspace, "run", "--once", env=env)).status == 0
    assert posthog.events
    assert not path.exists()
    asked = env | {"POSTHOG_LLMA_PLUGIN_STATUS_FILE": "true"}
    async with following(workspace, env=asked) as daemon:
        more = a_session("live")
        write_files(workspace.config / "projects", more.files())
        await until(path.exists, "the file")
        await until(lambda: said(workspace.config)["generations"] == 2, "all of it")
        assert KEY not in daemon.stderr
    found = said(workspace.config)
    assert list(found) == FIELDS
    assert datetime.fromisoformat(str(found.pop("timestamp"))).tzinfo is not None
    assert found == {
        "session_id": more.session,
        "events_sent": 4,
        "generations": 2,
        "tool_uses": 1,
        "traces": 2,
        "status": "ok",
        "error": None,
        "host": posthog.url,
        "distinct_id": "ada@example.com",
        "project_name": "orchard",
    }
    assert KEY not in path.read_text()
    assert "content-marker" not in path.read_text()


async def test_a_refused_key_is_reported_in_the_plugins_form(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url, POSTHOG_LLMA_PLUGIN_STATUS_FILE="true")
    posthog.fault = lambda _request: Answer(status=401, body=b"API key is not valid")
    write_files(workspace.config / "projects", a_session("refused").files())
    assert (await verb(workspace, "run", "--once", env=env)).status == 1
    found = said(workspace.config)
    assert (found["status"], found["events_sent"]) == ("error", 0)
    assert str(found["error"]).startswith("HTTP 401: ")


async def test_local_and_backfill_leave_the_status_alone(workspace: Workspace, posthog: CaptureServer) -> None:
    env = environment(workspace, posthog.url, POSTHOG_LLMA_PLUGIN_STATUS_FILE="true")
    write_files(workspace.config / "projects", a_session("old").files())
    assert (await verb(workspace, "run", "--once", "--local", env=env)).status == 0
    assert (await verb(workspace, "backfill", "--yes", env=env)).status == 0
    assert posthog.events
    assert not (workspace.config / STATUS_FILE).exists()
