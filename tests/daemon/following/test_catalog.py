"""The catalog: which logs exist, which session each belongs to, and which session began first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.following.catalog import Catalog
from daemon.following.log_roots import roots_at
from daemon.following.log_tree import FoundFile, project_files, project_folders
from daemon.following.opening import Opening, by_first_line, opening
from daemon.following.session_files import SessionFiles
from llma_core.claude_code.agent import CLAUDE_CODE
from tests.support.logs import LogBuilder, text, tool_use, write_files

ORIGINAL = "1f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
FORK = "0f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b"
"""Its id sorts before the original's, so sorting by id alone would put the fork first."""


def with_agent(version: str = "2.1.329", session: str = ORIGINAL) -> LogBuilder:
    log = LogBuilder(session, version=version)
    log.prompt("Count the trees")
    log.answer(tool_use("Task", {"prompt": "count"}, id="toolu_task"))
    agent = log.agent("toolu_task", "count", id="a1")
    agent.answer(text("One."))
    log.agent_result("toolu_task", agent, "One.")
    return log


def log_files(projects: Path) -> Iterator[FoundFile]:
    """Yield every log and meta file below a `projects` folder, with its status."""
    for root in roots_at(projects):
        for project in project_folders(root):
            yield from project_files(root.agent, project)


def catalog_of(projects: Path) -> Catalog:
    catalog = Catalog()
    for path, _ in log_files(projects):
        catalog.add(path)
    return catalog


def found(projects: Path) -> list[str]:
    return sorted(str(Path(path).relative_to(projects)) for path, _ in log_files(projects))


# ---------------------------------------------------------------------- sessions


def test_a_session_consists_of_its_main_log_its_subagents_logs_and_their_meta_files(tmp_path: Path) -> None:
    log = with_agent()
    log.write(tmp_path)
    (files,) = catalog_of(tmp_path).sessions.values()
    folder = tmp_path / Path(log.path).parent
    main, agent, meta = (str(tmp_path / name) for name in (log.path, log.agent_path("a1"), log.meta_path("a1")))
    assert files == SessionFiles(
        name=f"claude-code/{ORIGINAL}",
        folder=str(folder),
        agent=CLAUDE_CODE,
        mains=[main],
        agents={agent: "a1"},
        metas={meta: "a1"},
    )
    assert files.session == ORIGINAL
    assert files.paths == [main, agent]


def test_files_may_be_found_in_any_order(tmp_path: Path) -> None:
    with_agent().write(tmp_path)
    forth, back = Catalog(), Catalog()
    paths = [path for path, _ in log_files(tmp_path)]
    for path in paths:
        forth.add(path)
    for path in reversed(paths):
        back.add(path)
    assert forth.sessions == back.sessions


def test_an_old_subagent_log_beside_the_sessions_belongs_to_the_session_it_names(tmp_path: Path) -> None:
    log = with_agent("2.0.76")
    log.write(tmp_path)
    assert Path(log.agent_path("a1")).parent == Path(log.path).parent
    (files,) = catalog_of(tmp_path).sessions.values()
    assert files.session == ORIGINAL
    assert list(files.agents) == [str(tmp_path / log.agent_path("a1"))]


def test_an_old_subagent_log_is_added_once_it_names_its_session(tmp_path: Path) -> None:
    log = with_agent("2.0.76")
    data = log.files()[log.agent_path("a1")]
    path = tmp_path / log.agent_path("a1")
    path.parent.mkdir(parents=True)
    catalog = Catalog()
    for written in (b"", data[:40], b'{"type":"summary"}\n'):
        path.write_bytes(written)
        assert catalog.add(str(path)) is None
    path.write_bytes(b'{"type":"summary"}\n' + data)
    files = catalog.add(str(path))
    assert files is not None
    assert (files.session, files.main) == (ORIGINAL, None)


@pytest.mark.parametrize("name", ["p/notes.txt", "p/.jsonl", "p/agent-.jsonl", "p/s/subagents/agent-1.txt"])
def test_a_path_that_is_no_log_belongs_to_no_session(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, {name: b"{}\n"})
    assert Catalog().add(str(tmp_path / name)) is None


@pytest.mark.parametrize("order", ["begun first", "continued first"])
def test_a_subagents_log_that_goes_on_in_another_sessions_folder_is_the_first_ones(tmp_path: Path, order: str) -> None:
    log = with_agent()
    begun = log.agent_path("a1")
    other = LogBuilder(FORK)
    other.prompt("Something else")
    continued = other.agent_path("a1")
    lines = log.files()[begun].splitlines(keepends=True)
    write_files(tmp_path, {**log.files(), **other.files(), begun: lines[0], continued: b"".join(lines[1:])})
    catalog = Catalog()
    paths = [str(tmp_path / name) for name in (log.path, other.path, begun, continued)]
    for path in paths if order == "begun first" else [paths[1], paths[3], paths[0], paths[2]]:
        catalog.add(path)

    assert catalog.sessions[f"claude-code/{ORIGINAL}"].paths == [paths[0], paths[2], paths[3]]
    assert catalog.sessions[f"claude-code/{FORK}"].paths == [paths[1]]

    catalog.remove(paths[3])
    assert catalog.sessions[f"claude-code/{ORIGINAL}"].paths == [paths[0], paths[2]]


def test_a_subagents_log_that_may_go_on_belongs_to_nobody_before_it_has_a_line(tmp_path: Path) -> None:
    log = with_agent()
    continued = log.agent_path("a1").replace(ORIGINAL, FORK)
    write_files(tmp_path, {**log.files(), continued: b"{"})
    catalog = Catalog()
    for name in (log.path, log.agent_path("a1")):
        catalog.add(str(tmp_path / name))

    assert catalog.add(str(tmp_path / continued)) is None
    assert list(catalog.sessions) == [f"claude-code/{ORIGINAL}"]


def test_a_session_lasts_as_long_as_one_of_its_logs(tmp_path: Path) -> None:
    log = with_agent()
    log.write(tmp_path)
    catalog = catalog_of(tmp_path)
    (files,) = catalog.sessions.values()
    main, agent = files.paths
    assert catalog.has_main(CLAUDE_CODE, ORIGINAL)
    assert catalog.remove(main) is files
    assert not catalog.has_main(CLAUDE_CODE, ORIGINAL)
    assert files.paths == [agent]
    assert catalog.remove(agent) is files
    assert catalog.sessions == {}
    assert catalog.remove(agent) is None
    again = catalog.add(main)
    assert again is not None
    assert again is not files


def test_a_meta_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    log = with_agent()
    log.write(tmp_path)
    catalog = catalog_of(tmp_path)
    (files,) = catalog.sessions.values()
    assert catalog.remove(str(tmp_path / log.meta_path("a1"))) is files
    assert files.metas == {}
    assert len(files.paths) == 2


def test_one_session_in_two_projects_is_one_read_from_the_log_that_began_first(tmp_path: Path) -> None:
    later, first = (f'{{"timestamp":"2026-03-02T09:00:0{second}.000Z"}}\n'.encode() for second in (2, 1))
    write_files(tmp_path, {f"p/{ORIGINAL}.jsonl": later, f"q/{ORIGINAL}.jsonl": first})
    catalog = catalog_of(tmp_path)
    (files,) = catalog.sessions.values()
    assert files.mains == [str(tmp_path / name / f"{ORIGINAL}.jsonl") for name in "qp"]
    catalog.remove(files.mains[0])
    assert catalog.has_main(CLAUDE_CODE, ORIGINAL)


def test_a_log_that_a_person_has_named_belongs_to_the_session_it_names(tmp_path: Path) -> None:
    log = with_agent()
    write_files(tmp_path, {"p/before the change.jsonl": log.files()[log.path], "p/empty.jsonl": b""})
    assert sorted(catalog_of(tmp_path).sessions) == [f"claude-code/{ORIGINAL}", "claude-code/empty"]


def test_a_workflows_subagents_are_its_sessions(tmp_path: Path) -> None:
    write_files(tmp_path, {f"p/{ORIGINAL}/subagents/workflows/run-1/agent-{name}.jsonl": b"{}\n" for name in "ab"})
    (files,) = catalog_of(tmp_path).sessions.values()
    assert files.session == ORIGINAL
    assert sorted(files.agents.values()) == ["a", "b"]


# ---------------------------------------------------------------------- which session began first


def ordered(projects: Path) -> list[str]:
    return [files.session for files in by_first_line(catalog_of(projects).sessions.values())]


@pytest.mark.parametrize("version", ["2.0.1", "2.0.76", "2.1.25", "2.1.72", "2.1.329"])
@pytest.mark.parametrize("branch", [False, True])
def test_an_original_comes_before_its_forks(tmp_path: Path, version: str, *, branch: bool) -> None:
    log = LogBuilder(ORIGINAL, version=version)
    log.prompt("Count the trees")
    log.answer(text("One."))
    fork = log.fork(FORK, branch=branch)
    fork.prompt("Again")
    fork.answer(text("Still one."))
    log.write(tmp_path)
    fork.write(tmp_path)
    assert ordered(tmp_path) == [ORIGINAL, FORK]


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


EARLY, LATE = "2026-03-02T09:00:00.000Z", "2026-03-02T10:00:00.000Z"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            [{"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"timestamp": LATE, "sessionId": FORK}, {"timestamp": EARLY, "sessionId": FORK}],
            id="the first time in the file counts, not the smallest",
        ),
        pytest.param(
            [{"type": "summary"}, {"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"timestamp": LATE, "sessionId": FORK}],
            id="lines without a time are skipped",
        ),
        pytest.param(
            [{"type": None, "uuid": "half a line"}, {"timestamp": EARLY, "sessionId": ORIGINAL, "uuid": "first"}],
            [{"timestamp": LATE, "sessionId": FORK, "uuid": "second"}],
            id="a damaged line that has only an id is skipped, too",
        ),
        pytest.param(
            [{"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"timestamp": EARLY, "sessionId": FORK, "requestSessionId": ORIGINAL}],
            id="at the same time, the session without a mark",
        ),
        pytest.param(
            [{"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"timestamp": EARLY, "sessionId": FORK}, {"timestamp": EARLY, "forkedFrom": {"sessionId": ORIGINAL}}],
            id="a mark counts on any line",
        ),
        pytest.param(
            [{"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"timestamp": EARLY, "sessionId": ORIGINAL}, {"timestamp": LATE, "sessionId": FORK}],
            id="without marks, the session that begins with its own lines",
        ),
        pytest.param(
            [{"timestamp": EARLY, "sessionId": ORIGINAL}],
            [{"type": "summary"}],
            id="a session without any time comes last",
        ),
    ],
)
def test_the_session_that_began_first_comes_first(
    tmp_path: Path, first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> None:
    write_files(tmp_path, {f"p/{ORIGINAL}.jsonl": lines(*first), f"p/{FORK}.jsonl": lines(*second)})
    assert ordered(tmp_path) == [ORIGINAL, FORK]


def test_a_session_with_only_a_subagent_log_is_sorted_by_that_log(tmp_path: Path) -> None:
    agent = lines({"timestamp": LATE, "sessionId": FORK})
    write_files(
        tmp_path,
        {
            f"p/{FORK}/subagents/agent-a1.jsonl": agent,
            f"p/{ORIGINAL}.jsonl": lines({"timestamp": EARLY, "sessionId": ORIGINAL}),
        },
    )
    assert ordered(tmp_path) == [ORIGINAL, FORK]


def test_a_session_whose_log_has_vanished_is_sorted_last(tmp_path: Path) -> None:
    write_files(tmp_path, {f"p/{ORIGINAL}.jsonl": lines({"timestamp": EARLY}), f"p/{FORK}.jsonl": lines({})})
    sessions = list(catalog_of(tmp_path).sessions.values())
    (tmp_path / f"p/{FORK}.jsonl").unlink()
    assert [files.session for files in by_first_line(sessions)] == [ORIGINAL, FORK]


# ---------------------------------------------------------------------- files and links


def test_logs_are_in_a_project_folder_or_a_sessions_own_folder_and_nowhere_else(tmp_path: Path) -> None:
    logs = [
        "p/s.jsonl",
        "p/agent-a.jsonl",
        "p/s/subagents/agent-b.jsonl",
        "p/s/subagents/agent-b.meta.json",
        "p/s/subagents/workflows/run-1/agent-c.jsonl",
        "p/s/subagents/workflows/run-1/agent-c.meta.json",
        "q/t.jsonl",
    ]
    others = [
        "top.jsonl",
        "p/notes.txt",
        "p/memory/notes.jsonl",
        "p/s/note.jsonl",
        "p/s/tool-results/out.txt",
        "p/s/subagents/workflows/run-1/journal.jsonl",
        "p/s/elsewhere/agent-d.jsonl",
    ]
    write_files(tmp_path, dict.fromkeys([*logs, *others], b"{}\n"))
    assert found(tmp_path) == sorted(logs)
    assert sorted(path for path, _ in project_files(CLAUDE_CODE, str(tmp_path / "p"))) == sorted(
        str(tmp_path / name) for name in logs if name.startswith("p/")
    )


def test_a_linked_project_is_listed_once_and_by_its_real_path(tmp_path: Path) -> None:
    projects, elsewhere = tmp_path / "projects", tmp_path / "elsewhere"
    write_files(projects, {"p/s.jsonl": b"{}\n"})
    write_files(elsewhere, {"t.jsonl": b"{}\n"})
    (projects / "link").symlink_to(elsewhere)
    (projects / "same").symlink_to(elsewhere)
    (projects / "own").symlink_to(projects / "p")
    (projects / "dangling").symlink_to(tmp_path / "nowhere")
    assert sorted(path for path, _ in log_files(projects)) == [str(elsewhere / "t.jsonl"), str(projects / "p/s.jsonl")]


def test_links_deeper_down_are_not_followed(tmp_path: Path) -> None:
    projects, elsewhere = tmp_path / "projects", tmp_path / "elsewhere"
    write_files(projects, {"p/s.jsonl": b"{}\n"})
    write_files(elsewhere, {"secret.jsonl": b"{}\n", "subagents/agent-a.jsonl": b"{}\n"})
    (projects / "p/link.jsonl").symlink_to(elsewhere / "secret.jsonl")
    (projects / "p/t").symlink_to(elsewhere)
    assert found(projects) == ["p/s.jsonl"]


def test_a_folder_named_like_a_log_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "p/folder.jsonl").mkdir(parents=True)
    assert found(tmp_path) == []


def test_a_missing_root_holds_no_logs(tmp_path: Path) -> None:
    assert list(log_files(tmp_path / "missing")) == []


# ---------------------------------------------------------------------- how a session began


def test_the_first_lines_tell_how_a_session_began(tmp_path: Path) -> None:
    log = LogBuilder(start="2026-01-02T03:04:05.678Z", cwd="/home/ada/orchard")
    log.prompt("one")
    log.write(tmp_path)
    catalog = Catalog()
    files = catalog.add(str(tmp_path / log.path))
    assert files is not None
    began = opening(files)
    assert (began.session, began.cwd) == (log.session, "/home/ada/orchard")
    first = json.loads(log.files()[log.path].splitlines()[0])
    assert began.at == int(datetime.fromisoformat(first["timestamp"]).timestamp() * 1000)


@pytest.mark.parametrize("content", [b"", b"{}\n", b"no line", b"[[[\n", b'{"type":"summary"}\n'])
def test_a_log_without_that_information_gives_an_empty_opening(tmp_path: Path, content: bytes) -> None:
    log = LogBuilder()
    path = tmp_path / log.path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    files = Catalog().add(str(path))
    assert files is not None
    assert opening(files) == Opening(agent="claude-code", session=log.session)
