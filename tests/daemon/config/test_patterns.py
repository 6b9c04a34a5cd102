"""Which folders' events may be sent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from daemon.config.patterns import Folders


def test_without_patterns_everything_is_allowed() -> None:
    assert Folders().allow("/anywhere")
    assert Folders().allow(None)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/srv/secret", ["/srv/secret", "/srv/secret/a/b", "/srv/secret/"], ["/srv/secrets", "/srv", "/x/srv/secret"]),
        ("/srv/*/private", ["/srv/a/private", "/srv/a/private/x"], ["/srv/a/b/private", "/srv/private"]),
        ("/srv/**/private", ["/srv/a/b/private", "/srv/private/x"], ["/srv/a", "/srvprivate"]),
        ("private", ["/private", "/a/private/b"], ["/a/privateer", "/a/notprivate"]),
        ("client-?", ["/data/client-a"], ["/data/client-ab", "/data/client-"]),
        ("/srv/a.b", ["/srv/a.b"], ["/srv/axb"]),
        ("/srv/**", ["/srv", "/srv/a/b"], ["/srv2"]),
        ("/srv/a**b", ["/srv/a/x/b", "/srv/ab"], ["/srv/a/x"]),
        ("/srv/a*b*c", ["/srv/abc", "/srv/axbbyc/d"], ["/srv/ab/c", "/srv/acb"]),
        ("/", ["/", "/srv"], []),
        ("**", ["/", "/srv"], []),
    ],
)
def test_a_pattern_names_a_folder_and_everything_below(pattern: str, inside: list[str], outside: list[str]) -> None:
    folders = Folders(exclude=[pattern])
    assert [path for path in inside if folders.allow(path)] == []
    assert [path for path in outside if not folders.allow(path)] == []


def test_exclude_wins_over_include() -> None:
    folders = Folders(include=["/data"], exclude=["/data/secret"])
    assert folders.allow("/data/open")
    assert not folders.allow("/data/secret/x")
    assert not folders.allow("/elsewhere")


def test_a_folder_that_is_not_known_is_not_included() -> None:
    assert not Folders(include=["/data"]).allow(None)
    assert Folders(exclude=["/data"]).allow(None)


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert not Folders(exclude=["~/private"]).allow("/home/somebody/private/x")


def test_the_real_path_is_compared_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert not Folders(exclude=[str(tmp_path / "real")]).allow(str(tmp_path / "link"))


def test_climbing_out_of_a_folder_does_not_escape_it() -> None:
    assert not Folders(exclude=["/srv/secret"]).allow("/srv/open/../secret")


@pytest.mark.parametrize("folder", ["/a\0b", "/a/\ud800", "", "/" + "a" * 10_000])
def test_a_path_that_is_no_folder_is_compared_as_it_is(folder: str) -> None:
    folders = Folders(exclude=["/a*"])
    assert folders.allow(folder) == (folder == "")


@pytest.mark.parametrize("pattern", ["/" + "*a" * 1000 + "b", "**/" * 1000 + "b", "/" + "**a" * 1000 + "/b"])
def test_no_pattern_takes_long_on_any_path(pattern: str) -> None:
    path = "/" + "a" * 100 + "/a" * 100
    before = time.process_time()
    assert Folders(exclude=[pattern]).allow(path)
    assert time.process_time() - before < 5
