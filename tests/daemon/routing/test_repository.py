from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.routing.repository import Repositories, Repository, origin_name, tracking
from tests.support.waiting import PATIENCE

ADDRESS = r"printf 'user.email\na@example.com\0'"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the git configuration of the test run's user out of the tests."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "work tree"
    folder.mkdir()
    git(folder, "init")
    git(folder, "config", "user.email", "dev@example.com")
    git(folder, "remote", "add", "origin", "https://user:token@github.com/owner/name.git")
    return folder


def fake_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called git first in PATH."""
    folder.mkdir()
    program = folder / "git"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@needs_git
def test_a_repository_gives_its_user_and_origin(repository: Path) -> None:
    assert Repositories().of(str(repository)) == Repository(user_email="dev@example.com", origin="owner/name")


@needs_git
def test_a_folder_below_belongs_to_the_repository(repository: Path) -> None:
    below = repository / "src" / "deep"
    below.mkdir(parents=True)

    assert Repositories().of(str(below)) == Repository(user_email="dev@example.com", origin="owner/name")


@needs_git
def test_outside_a_repository_the_users_own_configuration_holds(tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\temail = me@example.com\n")

    assert Repositories().of(str(tmp_path)) == Repository(user_email="me@example.com", origin=None)


@needs_git
def test_the_last_of_several_addresses_and_the_first_of_several_urls_count(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\n\temail = me@example.com\n")
    git(repository, "remote", "set-url", "--add", "origin", "https://github.com/mirror/copy.git")

    assert Repositories().of(str(repository)) == Repository(user_email="dev@example.com", origin="owner/name")


@needs_git
def test_a_beginning_that_stands_for_another_is_replaced(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text('[url "https://git.example/team/"]\n\tinsteadOf = work:\n')
    git(repository, "remote", "set-url", "origin", "work:name.git")

    assert Repositories().of(str(repository)).origin == "team/name"


@needs_git
@pytest.mark.parametrize("cwd", ["/no/such/folder", "", "relative", "C:\\work", "/a\0b", "/\udcff\ud800", "--version"])
def test_a_folder_that_is_none_gives_nothing(cwd: str) -> None:
    assert Repositories().of(cwd) == Repository(user_email=None, origin=None)


@needs_git
def test_variables_of_another_repository_do_not_count(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is started from a git hook has these variables."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    git(other, "config", "user.email", "other@example.com")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))

    assert Repositories().of(str(repository)).user_email == "dev@example.com"


@needs_git
def test_no_program_a_repository_names_is_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    for name in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "credential.helper", "alias.remote"):
        git(repository, "config", name, str(program))

    assert Repositories().of(str(repository)).origin == "owner/name"
    assert not ran.exists()


@needs_git
def test_git_knows_whether_a_file_is_tracked(repository: Path, tmp_path: Path) -> None:
    (repository / ".claude").mkdir()
    settings = repository / ".claude" / "settings.local.json"
    settings.touch()
    name = ".claude/settings.local.json"

    assert tracking(str(repository), name) == "untracked"
    assert tracking(str(tmp_path), name) == "outside"
    assert tracking(str(repository / ".git"), name) == "outside"
    assert tracking("/no/such/folder", name) == "outside"
    git(repository, "add", "-f", str(settings))
    assert tracking(str(repository), name) == "tracked"
    settings.unlink()
    assert tracking(str(repository), name) == "tracked"


@needs_git
def test_a_file_tracked_in_another_case_or_by_a_repository_in_between_is_tracked(repository: Path) -> None:
    folder = repository / "project"
    (folder / ".claude").mkdir(parents=True)
    (folder / ".claude" / "Settings.Local.json").touch()
    git(repository, "add", "-f", str(folder / ".claude" / "Settings.Local.json"))
    assert tracking(str(folder), ".claude/settings.local.json") == "tracked"

    git(repository, "rm", "--quiet", "--cached", "-r", ".")
    assert tracking(str(folder), ".claude/settings.local.json") == "untracked"
    git(folder / ".claude", "init")
    git(folder / ".claude", "add", "-f", "Settings.Local.json")
    assert tracking(str(folder), ".claude/settings.local.json") == "tracked"


@needs_git
def test_an_index_that_git_cannot_read_tells_nothing(repository: Path) -> None:
    (repository / ".claude").mkdir()
    (repository / ".git" / "index").write_bytes(b"no index")

    assert tracking(str(repository), ".claude/settings.local.json") == "unknown"


def test_git_is_run_without_hooks_monitor_locks_terminal_and_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake_git(tmp_path / "bin", f'{{ echo "$@"; env; pwd; tty; }} >>{seen}; cat; {ADDRESS}', monkeypatch)
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))

    assert Repositories().of("/some folder").user_email == "a@example.com"

    said = seen.read_text().splitlines()
    command = "-c core.fsmonitor=false -c core.hooksPath=/dev/null -C /some folder config -z --get-regexp "
    assert any(line.startswith(command) for line in said)
    assert "GIT_OPTIONAL_LOCKS=0" in said
    assert "GIT_TERMINAL_PROMPT=0" in said
    assert "GIT_ALLOW_PROTOCOL=none" in said
    assert "GIT_NO_LAZY_FETCH=1" in said
    assert not any(line.startswith("GIT_TRACE") for line in said)
    assert "/" in said
    assert "not a tty" in said


def test_a_git_that_hangs_is_ended_and_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = tmp_path / "hangs"
    hangs.touch()
    fake_git(tmp_path / "bin", f"test -e {hangs} && exec sleep 60; {ADDRESS}", monkeypatch)
    known = Repositories(timeout=0.2)

    began = time.monotonic()
    assert known.of("/") == Repository(user_email=None, origin=None)
    assert time.monotonic() - began < 30

    hangs.unlink()
    # On a busy machine this git may take longer than the timeout, too.
    deadline = time.monotonic() + PATIENCE
    while known.of("/").user_email != "a@example.com":
        assert time.monotonic() < deadline


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert Repositories().of("/") == Repository(user_email=None, origin=None)


def test_a_git_named_by_a_relative_path_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_git(tmp_path / "bin", ADDRESS, monkeypatch)
    monkeypatch.chdir(tmp_path / "bin")
    monkeypatch.setenv("PATH", ".")

    assert Repositories().of("/").user_email is None


@pytest.mark.parametrize("answer", ["\\377", "", " ", "a\\nb", "a" * 300])
def test_an_answer_that_is_no_address_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    fake_git(tmp_path / "bin", f"printf 'remote.origin.url\\nhost:owner/name\\0user.email\\n{answer}\\0'", monkeypatch)

    assert Repositories().of("/") == Repository(user_email=None, origin="owner/name")


@pytest.mark.parametrize("answer", ["exit 1", "true", "printf 'user.email'", "printf '\\n\\0\\n'"])
def test_an_answer_that_says_nothing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    fake_git(tmp_path / "bin", answer, monkeypatch)

    assert Repositories().of("/").user_email is None


def test_answers_are_remembered_for_the_folders_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    fake_git(tmp_path / "bin", f'echo "$6 $7" >>{asked}', monkeypatch)
    known = Repositories(capacity=2)

    for cwd in ("/a", "/b", "/a", "/c", "/a", "/b"):
        known.of(cwd)

    folders = [line.split()[0] for line in asked.read_text().splitlines() if line.endswith("config")]
    assert folders == ["/a", "/b", "/c", "/b"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/owner/name.git", "owner/name"),
        ("https://github.com/owner/name", "owner/name"),
        ("https://github.com/owner/name/", "owner/name"),
        ("https://github.com/owner/name.git/", "owner/name"),
        ("https://user:token@github.com/owner/name.git", "owner/name"),
        ("https://github.com/owner/name.git?token=secret#x", "owner/name"),
        ("HTTPS://github.com/owner/name", "owner/name"),
        ("ssh://git@host.example:2222/owner/name.git", "owner/name"),
        ("git://host/owner/name.git", "owner/name"),
        ("git@github.com:owner/name.git", "owner/name"),
        ("github.com:owner/name", "owner/name"),
        ("git@[::1]:owner/name.git", "owner/name"),
        ("git@host:/owner/name.git", "owner/name"),
        ("git@gitlab.com:group/sub/name.git", "group/sub/name"),
        ("https://gitlab.com/group/sub/name.git", "group/sub/name"),
        ("https://host/owner/my.name-1_x.git", "owner/my.name-1_x"),
        ("https://host/owner/naïve", "owner/naïve"),
        ("git@host:name.git", None),
        ("https://host/name", None),
        ("https://host/", None),
        ("/home/user/owner/name.git", None),
        ("../owner/name", None),
        ("./a:b/name", None),
        ("file:///home/user/name.git", None),
        ("C:\\work\\name", None),
        ("C:/code/name", None),
        ("ext::sh -c 'x' a/b", None),
        ("https://[::1/owner/name", None),
        ("https://proxy/user:token@github.com/owner/name", None),
        ("https://host/owner/../name", None),
        ("https://host//owner//name", None),
        ("https://host/owner/" + "n" * 300, None),
        ("", None),
    ],
)
def test_the_name_of_an_origin(url: str, name: str | None) -> None:
    assert origin_name(url) == name


@given(st.text())
def test_any_text_is_a_name_or_none(url: str) -> None:
    name = origin_name(url)

    assert name is None or ("/" in name and "@" not in name and ":" not in name)
