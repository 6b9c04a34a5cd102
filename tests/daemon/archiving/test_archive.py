"""`archive`: what is sent of archives is what `preview` says of the logs in them, whatever they are packed in."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from daemon.state.layout import remove_state
from tests.support.capture_server import Answer, CaptureServer
from tests.support.client import Workspace
from tests.support.logs import LogBuilder, text
from tests.support.processes import (
    KEY,
    SECRET,
    Ended,
    bodies,
    environment,
    expected,
    many_sessions,
    put_logs,
    session_id,
    tree,
    verb,
)

HOUR_AGO = 1_763_000_000


def tar(files: Mapping[str, bytes], *, above: str = "home/ada/.claude/projects/") -> bytes:
    """Return a tar file of logs by path below `projects`."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(above + name)
            member.size, member.mtime = len(data), HOUR_AGO
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"projects/{name}", data)
    return output.getvalue()


async def archive(
    workspace: Workspace, posthog: CaptureServer | None, *arguments: str | Path, **variables: str
) -> Ended:
    env = environment(workspace, posthog.url if posthog is not None else None, **variables)
    return await verb(workspace, "archive", "--jobs", "1", *arguments, env=env)


def split(files: Mapping[str, bytes], parts: int) -> list[dict[str, bytes]]:
    """Return the logs of whole sessions in several parts."""
    found: list[dict[str, bytes]] = [{} for _ in range(parts)]
    sessions = sorted({name.split("/")[1].removesuffix(".jsonl") for name in files})
    for name, data in files.items():
        found[sessions.index(name.split("/")[1].removesuffix(".jsonl")) % parts][name] = data
    return found


async def test_archives_of_every_kind_give_the_events_that_the_logs_in_them_give(
    workspace: Workspace, posthog: CaptureServer, tmp_path: Path
) -> None:
    """Forks and their originals are in different archives here, and the logs of subagents in others again."""
    files = tree()
    put_logs(workspace, files)
    store = tmp_path / "store"
    store.mkdir()
    parts = split(files, 6)
    (store / "a.tar").write_bytes(tar(parts[0]))
    (store / "b.tar.gz").write_bytes(gzip.compress(tar(parts[1], above="projects/")))
    (store / "c.tar.xz").write_bytes(lzma.compress(tar(parts[2], above="./")))
    (store / "d.zip").write_bytes(zipped(parts[3]))
    for name, data in parts[4].items():
        path = store / "loose" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data))
    for name, data in parts[5].items():
        path = store / "projects" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (store / "README.txt").write_text("no log")

    ended = await archive(workspace, posthog, store, "--json")

    assert ended.status == 0, ended.stderr
    said = json.loads(ended.stdout)
    assert bodies(posthog) == await expected(workspace)
    assert said["events"] == len(posthog.events) == len(bodies(posthog))
    assert (said["errors"], said["others"], said["unchanged"]) == ({}, 1, 0)
    assert KEY not in ended.stdout + ended.stderr
    assert SECRET not in ended.stdout + ended.stderr

    again = await archive(workspace, posthog, store, "--json")

    assert json.loads(again.stdout)["unchanged"] == said["sources"]
    assert json.loads(again.stdout)["events"] == 0
    assert remove_state(workspace.state) == []


async def test_a_second_run_sends_only_what_is_new_and_a_damaged_source_costs_nothing_else(
    workspace: Workspace, posthog: CaptureServer, tmp_path: Path
) -> None:
    files = many_sessions(4, 2)
    put_logs(workspace, files)
    first, second = split(files, 2)
    store = tmp_path / "store"
    store.mkdir()
    begun = {name: b"".join(data.splitlines(keepends=True)[:3]) for name, data in first.items()}
    (store / "monday.tar.gz").write_bytes(gzip.compress(tar(begun)))
    (store / "tuesday.tar.gz").write_bytes(gzip.compress(tar(first)))
    (store / "broken.zip").write_bytes(b"PK no archive")

    ended = await archive(workspace, posthog, store)

    assert ended.status == 1
    assert ended.errors == [f"error: {store}/broken.zip: it is damaged, or no archive of this kind"]
    assert "3 sources: 3 new or changed" in ended.stdout
    # Of a session that is in two archives, the longer log is read: everything is sent once.
    sent = len(posthog.events)
    assert len(bodies(posthog)) == sent

    (store / "broken.zip").write_bytes(zipped(second))
    # A copy of what was sent, in an archive that is new.
    (store / "again.tar").write_bytes(tar(first))
    ended = await archive(workspace, posthog, store, "--json")

    assert ended.status == 0, ended.stderr
    assert json.loads(ended.stdout)["unchanged"] == 2
    assert json.loads(ended.stdout)["events"] == len(posthog.events) - sent
    assert bodies(posthog) == await expected(workspace)
    assert len(posthog.events) == len(bodies(posthog))


async def test_identities_and_since_hold_for_archives_and_project_tables_too(
    workspace: Workspace, posthog: CaptureServer, tmp_path: Path
) -> None:
    for person in ("ada", "bob", "carl"):
        log = many_sessions_of(person)
        (tmp_path / "store" / person).mkdir(parents=True)
        (tmp_path / "store" / person / "logs.tar").write_bytes(tar(log))
    identities = tmp_path / "identities.toml"
    identities.write_text(f'"{tmp_path}/store/ada" = "ada@example.org"\n"{tmp_path}/store/b*/**" = "bob@example.org"\n')
    config = workspace.home / ".config" / "posthog-llma-daemon"
    config.mkdir(parents=True)
    (config / "config.toml").write_text(
        '[[project]]\npath = "/home/bob/**"\ncontent = "metadata"\n'
        '[[project]]\npath = "/home/carl/**"\nenabled = false\n'
    )

    dry = await archive(workspace, None, tmp_path / "store", "--dry-run")

    assert (dry.status, dry.errors) == (0, []), dry.stderr
    assert "would send 3 sessions" in dry.stdout
    late = await archive(workspace, posthog, tmp_path / "store", "--since", "1h", "--json")
    assert (late.status, json.loads(late.stdout)["events"]) == (0, 0), late.stderr

    ended = await archive(
        workspace, posthog, tmp_path / "store", "--identities", identities, POSTHOG_LLMA_DISTINCT_ID=""
    )

    assert ended.status == 0, ended.stderr
    assert {event["distinct_id"] for event in posthog.events} == {"ada@example.org", "bob@example.org"}
    said = {event["distinct_id"]: SECRET in json.dumps(event) for event in posthog.events if "input" in str(event)}
    assert said["bob@example.org"] is False


def many_sessions_of(person: str) -> dict[str, bytes]:
    log = LogBuilder(session_id(person), cwd=f"/home/{person}/orchard")
    log.prompt(f"{SECRET} plant")
    log.answer(text(f"{SECRET} done"), id=f"msg_{person}")
    return log.files()


async def test_a_receiver_that_asks_to_wait_is_waited_for_and_one_that_accepts_nothing_ends_the_run(
    workspace: Workspace, posthog: CaptureServer, tmp_path: Path
) -> None:
    files = many_sessions(2, 1)
    put_logs(workspace, files)
    one, other = split(files, 2)
    (tmp_path / "one.tar").write_bytes(tar(one))
    (tmp_path / "other.tar").write_bytes(tar(other))
    posthog.script(Answer(status=401))

    ended = await archive(workspace, posthog, tmp_path / "one.tar", tmp_path / "other.tar")

    assert ended.status == 1
    assert ended.errors
    assert all("check POSTHOG_API_KEY" in line for line in ended.errors)
    assert len(posthog.requests) == 1

    posthog.script(Answer(status=429, headers=(("Retry-After", "1"),)))
    ended = await archive(workspace, posthog, tmp_path / "one.tar", tmp_path / "other.tar")

    assert ended.status == 0, ended.stderr
    assert bodies(posthog) == await expected(workspace)


async def test_bad_input_gets_one_clear_line(workspace: Workspace, posthog: CaptureServer, tmp_path: Path) -> None:
    (tmp_path / "people.toml").write_text('"a" = 3\n')
    (tmp_path / "some.tar").write_bytes(tar(many_sessions(1, 1)))
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "manifest.db").write_bytes(b"no database" * 99)
    (tmp_path / "manifest").chmod(0o700)
    for arguments, words in (
        ([tmp_path / "missing"], "missing: no such file or directory"),
        ([tmp_path / "some.tar", "--identities", tmp_path / "people.toml"], "needs an id in quotes"),
        ([tmp_path / "some.tar", "--identities", tmp_path / "nobody.toml"], "give a TOML file"),
        ([tmp_path / "some.tar", "--manifest", tmp_path / "manifest"], "move it away to send everything again"),
    ):
        ended = await archive(workspace, posthog, *arguments)
        assert ended.status == 1, arguments
        [line] = ended.errors
        assert words in line
    ended = await archive(workspace, None, tmp_path / "some.tar")
    assert ended.status == 78
    assert posthog.requests == []
