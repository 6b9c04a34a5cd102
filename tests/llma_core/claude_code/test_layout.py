from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llma_core.agent import LogPath
from llma_core.claude_code.layout import classify
from tests.support.logs import LogBuilder, text, tool_use

SESSION = "5f0c3a52-6a0e-4b57-9a35-0c1d2e3f4a5b"
FOLDER = "/home/ada/.claude/projects/-home-ada-orchard"


def test_a_session() -> None:
    path = classify(f"{FOLDER}/{SESSION}.jsonl")

    assert path == LogPath(kind="session", folder=FOLDER, session=SESSION, agent=None)


def test_a_subagent_in_its_sessions_folder() -> None:
    path = classify(f"{FOLDER}/{SESSION}/subagents/agent-a8df2648fee6c2056.jsonl")

    assert path == LogPath(kind="agent", folder=FOLDER, session=SESSION, agent="a8df2648fee6c2056")


def test_a_subagents_meta_file() -> None:
    path = classify(f"{FOLDER}/{SESSION}/subagents/agent-a8df2648fee6c2056.meta.json")

    assert path == LogPath(kind="meta", folder=FOLDER, session=SESSION, agent="a8df2648fee6c2056")


def test_a_subagent_beside_its_session_names_the_session_only_inside() -> None:
    path = classify(f"{FOLDER}/agent-a4b6363.jsonl")

    assert path == LogPath(kind="agent", folder=FOLDER, session=None, agent="a4b6363")


@pytest.mark.parametrize(
    "path",
    [
        "",
        FOLDER,
        f"{FOLDER}/.jsonl",
        f"{FOLDER}/agent-.jsonl",
        f"{FOLDER}/sessions-index.json",
        f"{FOLDER}/{SESSION}.jsonl.tmp",
        f"{FOLDER}/{SESSION}/custom-title.json",
        f"{FOLDER}/{SESSION}/tool-results/toolu_01.txt",
        f"{FOLDER}/{SESSION}/subagents/agent-a8df.meta.json.tmp",
        f"{FOLDER}/{SESSION}/subagents/agent-.meta.json",
        f"{FOLDER}/memory",
    ],
)
def test_what_is_no_log(path: str) -> None:
    assert classify(path) is None


@pytest.mark.parametrize("version", ["2.0.76", "2.1.25", "2.1.72", "2.1.329"])
def test_the_layouts_of_all_versions_are_told_apart(version: str) -> None:
    log = LogBuilder(SESSION, version=version)
    log.prompt("Count the apple trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_1"))
    log.agent("toolu_1", "count", id="a12").answer(text("two"))

    kinds = {path.kind: (path.agent, path.session) for name in log.files() if (path := classify(name))}

    assert kinds["session"] == (None, SESSION)
    assert kinds["agent"] == ("a12", SESSION if version != "2.0.76" else None)
    assert kinds.get("meta") == (("a12", SESSION) if version in ("2.1.72", "2.1.329") else None)


@given(st.text())
def test_no_path_is_too_odd(path: str) -> None:
    found = classify(path)

    assert found is None or found.folder == path[: len(found.folder)]


@pytest.mark.parametrize("suffix", [".jsonl", ".meta.json"])
def test_a_workflows_subagent_is_its_sessions_and_names_the_folders_that_may_be_its_run(suffix: str) -> None:
    path = classify(f"{FOLDER}/{SESSION}/subagents/workflows/wf_1/round-2/agent-a1{suffix}")

    assert path is not None
    assert (path.kind in ("agent", "meta"), path.folder, path.session) == (True, FOLDER, SESSION)
    assert (path.agent, path.runs) == ("a1", ("round-2", "wf_1", "workflows"))


@pytest.mark.parametrize("run", ["", "/workflows/wf_1", "/deeper/subagents/wf_1"])
def test_a_log_below_subagents_that_is_no_subagents_is_no_session(run: str) -> None:
    assert classify(f"/home/ada/.claude/projects/p/{SESSION}/subagents{run}/journal.jsonl") is None


def test_a_folder_above_the_projects_that_is_called_subagents_says_nothing() -> None:
    path = classify(f"/home/subagents/.claude/projects/p/{SESSION}.jsonl")

    assert path == LogPath(kind="session", folder="/home/subagents/.claude/projects/p", session=SESSION, agent=None)
