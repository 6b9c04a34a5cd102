from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.routing.repository import Repositories, Repository, origin_name, tracking
from tests.support.waiting import PATIENCE

ADDRESS = r"printf 'global\0file:/x\0user.email\na@example.com\0'"

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


# ---------------------------------------------------------------------- whose repository it is

LOCAL_SETTINGS = ".claude/settings.local.json"
EVIL = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n{more}[user]\n\temail = evil@example.com\n"


@pytest.fixture
def clone(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a clone with a first commit, of a user who has an address of their own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "gitconfig").write_text("[user]\n\temail = me@example.com\n\tname = me\n")
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "first")
    return repository


def repository_files(folder: Path, more: str = "") -> Path:
    """Make a folder that git takes for a repository, of files that a clone or an archive can bring."""
    for name in ("objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text(EVIL.format(more=more))
    return folder


def bring_settings(folder: Path) -> None:
    (folder / ".claude").mkdir(parents=True, exist_ok=True)
    (folder / LOCAL_SETTINGS).write_text("{}")


def bare(clone: Path) -> Path:
    return repository_files(clone / "pkg")


def bare_with_a_work_tree(clone: Path) -> Path:
    return repository_files(clone / "pkg", "\tworktree = .\n")


def bare_with_the_work_tree_above(clone: Path) -> Path:
    return repository_files(clone / "pkg", "\tworktree = ..\n")


def inside_of_a_bare(clone: Path) -> Path:
    inner = repository_files(clone / "pkg", "\tworktree = .\n") / "src"
    inner.mkdir()
    return inner


def archive(clone: Path) -> Path:
    repository_files(clone / "pkg" / ".git")
    return clone / "pkg"


def archive_with_another_work_tree(clone: Path) -> Path:
    repository_files(clone / "pkg" / ".git", f"\tworktree = {clone}\n")
    return clone / "pkg"


def gitfile(clone: Path) -> Path:
    repository_files(clone / "vendor")
    (clone / "pkg").mkdir()
    (clone / "pkg" / ".git").write_text("gitdir: ../vendor\n")
    return clone / "pkg"


def gitfile_with_a_work_tree(clone: Path) -> Path:
    repository_files(clone / "vendor", "\tworktree = ../pkg\n")
    (clone / "pkg").mkdir()
    (clone / "pkg" / ".git").write_text("gitdir: ../vendor\n")
    return clone / "pkg"


def gitfile_to_another_repository(clone: Path) -> Path:
    other = clone.parent / "other"
    other.mkdir()
    git(other, "init")
    git(other, "config", "user.email", "evil@example.com")
    (clone / "pkg").mkdir()
    (clone / "pkg" / ".git").write_text(f"gitdir: {other}/.git\n")
    return clone / "pkg"


def gitfile_as_of_a_linked_work_tree(clone: Path) -> Path:
    common = repository_files(clone / "vendor")
    record = common / "worktrees" / "pkg"
    record.mkdir(parents=True)
    (clone / "pkg").mkdir()
    (clone / "pkg" / ".git").write_text(f"gitdir: {record}\n")
    (record / "HEAD").write_text("ref: refs/heads/main\n")
    (record / "commondir").write_text("../..\n")
    (record / "gitdir").write_text(f"{clone}/pkg/.git\n")
    return clone / "pkg"


def gitfile_as_of_a_submodule(clone: Path) -> Path:
    repository_files(clone / "vendor" / ".git")
    repository_files(clone / "vendor" / ".git" / "modules" / "pkg", "\tworktree = ../../../pkg\n")
    (clone / "vendor" / "pkg").mkdir()
    (clone / "vendor" / "pkg" / ".git").write_text("gitdir: ../.git/modules/pkg\n")
    return clone / "vendor" / "pkg"


def link(clone: Path) -> Path:
    repository_files(clone / "vendor")
    (clone / "pkg").mkdir()
    (clone / "pkg" / ".git").symlink_to("../vendor")
    return clone / "pkg"


def archive_in_a_folder_below(clone: Path) -> Path:
    repository_files(clone / "a" / "b" / "pkg" / ".git")
    return clone / "a" / "b" / "pkg"


POSING = [
    *(bare, bare_with_a_work_tree, bare_with_the_work_tree_above, inside_of_a_bare, archive),
    *(archive_with_another_work_tree, gitfile, gitfile_with_a_work_tree, gitfile_to_another_repository),
    *(gitfile_as_of_a_linked_work_tree, gitfile_as_of_a_submodule, link, archive_in_a_folder_below),
]


@needs_git
@pytest.mark.parametrize("pose", POSING, ids=lambda pose: pose.__name__)
def test_a_repository_that_a_clone_brings_does_not_speak_for_the_user(
    clone: Path, pose: Callable[[Path], Path]
) -> None:
    folder = pose(clone)
    bring_settings(folder)
    git(clone, "config", "--unset", "user.email")

    assert Repositories().of(str(folder)).user_email in ("me@example.com", None)
    assert tracking(str(folder), LOCAL_SETTINGS) != "untracked"


@needs_git
def test_a_configuration_that_includes_a_committed_file_does_not_take_the_address_from_it(clone: Path) -> None:
    (clone / ".gitconfig").write_text("[user]\n\temail = evil@example.com\n")
    git(clone, "config", "--unset", "user.email")
    for path in ("../.gitconfig", str(clone / ".gitconfig")):
        git(clone, "config", "include.path", path)

        assert Repositories().of(str(clone)).user_email == "me@example.com"


@needs_git
@pytest.mark.parametrize("name", ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"])
def test_a_variable_that_names_a_file_of_the_work_tree_does_not_count(
    clone: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone / "src").mkdir()
    (clone / "evil").write_text("[user]\n\temail = evil@example.com\n")
    git(clone, "config", "--unset", "user.email")
    monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")
    monkeypatch.setenv(name, str(clone / "evil"))

    for folder in (clone, clone / "src"):
        assert Repositories().of(str(folder)).user_email in ("me@example.com", None)


@needs_git
@pytest.mark.parametrize(
    "variables",
    [
        {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.email", "GIT_CONFIG_VALUE_0": "evil@example.com"},
        {"GIT_CONFIG_PARAMETERS": "'user.email'='evil@example.com'"},
        {"GIT_CONFIG": "evil"},
        {"GIT_COMMON_DIR": "evil"},
        {"GIT_DIR": "evil", "GIT_WORK_TREE": "."},
        {"GIT_INDEX_FILE": "/dev/null"},
        {"GIT_NAMESPACE": "evil", "GIT_OBJECT_DIRECTORY": "evil", "GIT_DISCOVERY_ACROSS_FILESYSTEM": "1"},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_variables_of_git_do_not_make_another_user(
    clone: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_settings(clone)
    git(clone, "add", "-f", LOCAL_SETTINGS)
    repository_files(clone.parent / "evil")
    for name, value in variables.items():
        monkeypatch.setenv(name, str(clone.parent / "evil") if value == "evil" else value)

    assert Repositories().of(str(clone)).user_email == "dev@example.com"
    assert tracking(str(clone), LOCAL_SETTINGS) == "tracked"


@needs_git
def test_linked_work_trees_and_submodules_are_the_users_own(clone: Path) -> None:
    git(clone, "worktree", "add", "--quiet", str(clone.parent / "beside"))
    git(clone, "worktree", "add", "--quiet", str(clone / ".claude" / "worktrees" / "inside"))
    other = clone.parent / "library"
    git(clone, "clone", "--quiet", str(clone), str(other))
    git(clone, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "library")
    git(clone / "library", "config", "user.email", "library@example.com")
    (clone / "src").mkdir()

    for folder, address in (
        (clone.parent / "beside", "dev@example.com"),
        (clone / ".claude" / "worktrees" / "inside", "dev@example.com"),
        (clone / "src", "dev@example.com"),
        (clone / "library", "library@example.com"),
    ):
        bring_settings(folder)
        assert Repositories().of(str(folder)).user_email == address
        assert tracking(str(folder), LOCAL_SETTINGS) == "untracked"


@needs_git
def test_work_trees_beside_a_bare_repository_are_the_users_own(clone: Path) -> None:
    project = clone.parent / "project"
    project.mkdir()
    git(project, "clone", "--quiet", "--bare", str(clone), ".bare")
    (project / ".git").write_text("gitdir: ./.bare\n")
    git(project, "config", "user.email", "dev@example.com")
    git(project, "worktree", "add", "--quiet", "feature")
    bring_settings(project / "feature")

    assert Repositories().of(str(project / "feature")).user_email == "dev@example.com"
    assert tracking(str(project / "feature"), LOCAL_SETTINGS) == "untracked"


@needs_git
def test_a_home_folder_in_a_repository_makes_no_project_a_guest(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some keep the settings of their home folder in git."""
    monkeypatch.setenv("HOME", str(clone.parent))
    git(clone.parent, "init")
    bring_settings(clone)

    assert Repositories().of(str(clone)).user_email == "dev@example.com"
    assert tracking(str(clone), LOCAL_SETTINGS) == "untracked"


@needs_git
def test_a_repository_of_somebody_else_does_not_count(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_settings(clone)
    (clone.parent / "gitconfig").write_text("[user]\n\temail = me@example.com\n[safe]\n\tdirectory = *\n")
    monkeypatch.setattr("daemon.routing.repository.os.geteuid", lambda: os.getuid() + 1)

    assert Repositories().of(str(clone)).user_email == "me@example.com"
    assert tracking(str(clone), LOCAL_SETTINGS) == "outside"


def test_git_is_run_without_hooks_monitor_locks_terminal_and_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    fake_git(tmp_path / "bin", f'{{ echo "$@"; env; pwd; tty; }} >>{seen}; cat; {ADDRESS}', monkeypatch)
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))

    folder = tmp_path / "some folder"
    folder.mkdir()

    assert Repositories().of(str(folder)).user_email == "a@example.com"

    said = seen.read_text().splitlines()
    safe = "-c core.fsmonitor=false -c core.hooksPath=/dev/null -c safe.bareRepository=explicit"
    command = f"{safe} -C {folder} config -z --show-scope --show-origin --get-regexp "
    assert any(line.startswith(command) for line in said)
    assert "GIT_OPTIONAL_LOCKS=0" in said
    assert "GIT_TERMINAL_PROMPT=0" in said
    assert "GIT_ALLOW_PROTOCOL=none" in said
    assert "GIT_NO_LAZY_FETCH=1" in said
    assert not any(line.startswith("GIT_TRACE") for line in said)
    assert "/" in said
    assert "not a tty" in said


def test_git_is_not_started_for_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    fake_git(tmp_path / "bin", f"echo >>{started}; {ADDRESS}", monkeypatch)
    gone = Repositories().of(str(tmp_path / "gone"))

    assert gone == Repository(user_email=None, origin=None)
    assert not started.exists()


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
    origin = r"global\0file:/x\0remote.origin.url\nhost:owner/name\0"
    fake_git(tmp_path / "bin", rf"printf '{origin}global\0file:/x\0user.email\n{answer}\0'", monkeypatch)

    assert Repositories().of("/") == Repository(user_email=None, origin="owner/name")


@pytest.mark.parametrize("answer", ["exit 1", "true", "printf 'user.email'", "printf '\\n\\0\\n'"])
def test_an_answer_that_says_nothing_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    fake_git(tmp_path / "bin", answer, monkeypatch)

    assert Repositories().of("/").user_email is None


def test_answers_are_remembered_for_the_folders_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    fake_git(tmp_path / "bin", f'echo "$8 $9" >>{asked}', monkeypatch)
    known = Repositories(capacity=2)

    for name in "abc":
        (tmp_path / name).mkdir()

    for name in "abacab":
        known.of(str(tmp_path / name))

    folders = [line.split()[0] for line in asked.read_text().splitlines() if line.endswith("config")]
    assert [Path(folder).name for folder in folders] == ["a", "b", "c", "b"]


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
