"""The manifest: what it keeps outlives a run, also at a URL, and each thing wrong with it gets one line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from daemon.archiving.chains import Chain, Part
from daemon.archiving.manifest import Manifest, ManifestError, open_manifest
from daemon.archiving.source import Source, SourceFile
from daemon.archiving.survey import SurveyedSession
from daemon.state.rows import Excerpt

SOURCE = Source(
    url="s3://logs/1.tar",
    kind="archive",
    files=(SourceFile(url="s3://logs/1.tar", name="1.tar", size=9, modified=None, version="first"),),
)
GROWN = Source(
    url=SOURCE.url,
    kind="archive",
    files=(SourceFile(url="s3://logs/1.tar", name="1.tar", size=10, modified=None, version="second"),),
)
CHAIN = Chain(
    parts=(Part(source=SOURCE, units=frozenset({"claude-code/a"}), wanted={}),),
    sessions=(
        SurveyedSession(unit="claude-code/a", roots=frozenset({"root", "17"})),
        SurveyedSession(unit="claude-code/fork", roots=frozenset({"root"})),
    ),
    size=9,
)
SETTLED = msgspec.msgpack.encode(Excerpt(unit="claude-code/a", settled=[(b"0" * 16, None)]))


def settle(manifest: Manifest, *, done: bool = True, since: float | None = None) -> None:
    manifest.settle(CHAIN, {"claude-code/a": SETTLED}, done=done, since=since, now=0)


def test_a_source_is_done_in_one_version_and_for_the_time_that_was_asked_for(tmp_path: Path) -> None:
    with open_manifest(tmp_path / "manifest", None) as kept:
        settle(kept.manifest, done=False)
        assert not kept.manifest.is_done(SOURCE, None)
        settle(kept.manifest, since=100.0)
        assert kept.manifest.is_done(SOURCE, 100.0)
        assert kept.manifest.is_done(SOURCE, 200.0)
        assert not kept.manifest.is_done(SOURCE, 50.0)
        assert not kept.manifest.is_done(SOURCE, None)
        settle(kept.manifest)
        assert kept.manifest.is_done(SOURCE, None)
        assert not kept.manifest.is_done(GROWN, None)


def test_what_was_settled_of_a_session_is_found_by_the_first_line_of_its_fork(tmp_path: Path) -> None:
    with open_manifest(tmp_path / "manifest", None) as kept:
        settle(kept.manifest)
    with open_manifest(tmp_path / "manifest", None) as kept:
        family = kept.manifest.family(["root"])
        assert family == {"root", "17", "claude-code/a", "claude-code/fork"}
        assert kept.manifest.settled(sorted(family)) == [SETTLED]
        assert kept.manifest.settled(kept.manifest.family(["another"])) == []


def test_a_manifest_at_a_url_is_the_same_in_the_next_run(tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs the extra fleet", exc_type=ImportError)
    with open_manifest(tmp_path, "memory://state/manifest") as kept:
        settle(kept.manifest)
    with open_manifest(tmp_path, "memory://state/manifest") as kept:
        assert kept.manifest.is_done(SOURCE, None)
        assert kept.manifest.settled(["claude-code/a"]) == [SETTLED]


def test_a_manifest_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "manifest"
    with open_manifest(folder, None):
        pass
    with sqlite3.connect(folder / "manifest.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()

    with pytest.raises(ManifestError, match="update posthog-llma-daemon"), open_manifest(folder, None):
        pass
