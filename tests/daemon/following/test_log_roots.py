"""Log roots of two agents: one keeps a folder for each project, the other keeps all its logs in the root."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.following.catalog import Catalog
from daemon.following.log_roots import LogRoot, config_folder, log_roots, recognize, root_of, roots_at, roots_below
from daemon.following.log_tree import project_folders, root_logs
from daemon.following.sweep import Sweep
from llma_core import agents
from llma_core.agent import Agent, LogPath
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.journal import SCRIBE, Scribe
from tests.support.logs import write_files

SESSION = "projects/p/s.jsonl"
SUBAGENT = "projects/p/s/subagents/agent-a.jsonl"
META = "projects/p/s/subagents/agent-a.meta.json"
JOURNAL = "journals/first.ndjson"
OTHERS = (
    "projects/p/notes.ndjson",
    "projects/p/s/subagents/notes.ndjson",
    "projects/top.ndjson",
    "journals/s.jsonl",
    "journals/p/s.jsonl",
    "journals/p/second.ndjson",
    "elsewhere/first.ndjson",
)


class Greedy(Scribe):
    """Recognizes any file by its name as its own."""

    name = "greedy"
    root_folders = ("greed",)
    log_suffix = ".jsonl"


@pytest.fixture(autouse=True)
def scribe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "AGENTS", (CLAUDE_CODE, SCRIBE))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_files(tmp_path, dict.fromkeys((SESSION, SUBAGENT, META, JOURNAL, *OTHERS), b"{}\n"))
    return tmp_path


def test_a_configuration_has_the_roots_of_every_agent(config: Path) -> None:
    expected = [LogRoot(CLAUDE_CODE, config / "projects"), LogRoot(SCRIBE, config / "journals")]

    assert list(roots_below(config)) == expected
    link = config / "link"
    link.symlink_to(config)
    assert log_roots([link, config, link]) == expected


def test_a_sweep_finds_each_agents_logs_in_its_own_root_only(config: Path) -> None:
    sweep = Sweep(log_roots([config]))

    changed, gone = sweep.full()

    assert sorted(changed) == sorted(str(config / name) for name in (SESSION, SUBAGENT, META, JOURNAL))
    assert gone == []
    assert not [name for name in OTHERS if sweep.is_log(str(config / name))]


def test_hints_are_followed_for_every_agent(config: Path) -> None:
    sweep = Sweep(log_roots([config]))

    changed, gone = sweep.hinted(str(config / "projects/p"))
    assert (sorted(changed), gone) == (sorted(str(config / name) for name in (SESSION, SUBAGENT, META)), [])
    assert sweep.hinted(str(config / "journals")) == ([str(config / JOURNAL)], [])
    late = config / "journals/late.ndjson"
    late.write_bytes(b"{}\n")
    assert sweep.hinted(str(late)) == ([str(late)], [])
    assert [sweep.hinted(str(config / name))[0] for name in OTHERS] == [[]] * len(OTHERS)
    late.unlink()
    assert sweep.hot(0.0) == ([], [str(late)])


def test_a_session_keeps_its_agent(config: Path) -> None:
    catalog = Catalog(log_roots([config]))

    sessions = [catalog.add(str(config / name)) for name in (SESSION, SUBAGENT, META, JOURNAL)]

    assert [(files.name, files.agent) for files in sessions if files is not None] == [
        ("claude-code/s", CLAUDE_CODE),
        ("claude-code/s", CLAUDE_CODE),
        ("claude-code/s", CLAUDE_CODE),
        ("scribe/first", SCRIBE),
    ]
    assert sessions[0] is sessions[1] is sessions[2]


def test_below_a_root_a_log_belongs_to_that_roots_agent(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    greedy: Agent = Greedy()
    monkeypatch.setattr(agents, "AGENTS", (greedy, CLAUDE_CODE))
    path = str(config / SESSION)

    assert recognize(path) == (
        greedy,
        LogPath(kind="session", folder=str(config / "projects/p"), session="s", agent=None),
    )
    found = recognize(path, log_roots([config]))
    assert found is not None
    assert found[0] is CLAUDE_CODE


def test_a_file_that_no_agent_writes_is_no_log(config: Path) -> None:
    assert recognize(str(config / "notes.txt")) is None
    assert recognize(str(config / "journals/notes.jsonl"), log_roots([config])) is None


@pytest.mark.parametrize("name", [SESSION, SUBAGENT, JOURNAL])
def test_a_logs_path_tells_its_root(config: Path, name: str) -> None:
    recognized = recognize(str(config / name))

    assert recognized is not None
    assert root_of(*recognized).path == config / name.partition("/")[0]


def test_a_root_without_project_folders_is_its_only_project(config: Path) -> None:
    root = LogRoot(SCRIBE, config / "journals")

    assert list(project_folders(root)) == [str(root.path)]
    assert [path for path, _ in root_logs(root)] == [str(config / JOURNAL)]


def test_meta_files_are_no_logs(config: Path) -> None:
    root = LogRoot(CLAUDE_CODE, config / "projects")

    assert {path for path, _ in root_logs(root)} == {str(config / SESSION), str(config / SUBAGENT)}


def test_a_folder_may_be_a_root_of_any_agent(tmp_path: Path) -> None:
    assert roots_at(tmp_path) == [LogRoot(CLAUDE_CODE, tmp_path), LogRoot(SCRIBE, tmp_path)]


def test_of_a_folder_of_logs_the_config_folder_above_it_is_meant(tmp_path: Path) -> None:
    logs = tmp_path / "one" / "projects"
    (logs / "-orchard").mkdir(parents=True)
    (logs / "-orchard" / "session.jsonl").touch()
    assert config_folder(logs) == tmp_path / "one"
    assert logs.resolve() in [root.path for root in log_roots([logs])]


@pytest.mark.parametrize("made", ["projects/projects/-orchard/session.jsonl", "projects/settings.json", "projects/a/b"])
def test_a_config_folder_may_be_called_projects(tmp_path: Path, made: str) -> None:
    (tmp_path / made).parent.mkdir(parents=True)
    (tmp_path / made).touch()
    assert config_folder(tmp_path / "projects") == tmp_path / "projects"
