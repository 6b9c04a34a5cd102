"""What `--project` chooses: by path, by name, by the end of a path, and by the name that the user has given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from daemon.cli.traces import traces
from daemon.cli.usage import usage
from tests.support.each import for_each
from tests.support.logs import LogBuilder, text

FOLDERS = ("/home/ada/orchard", "/home/ada/orchard/api", "/srv/api", "/srv/Meadow-2", "/srv/meadow-3", "/srv/tree")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A machine with a session in each folder: the first of one call, the second of two, and so on."""
    root = tmp_path_factory.mktemp("machine")
    for number, folder in enumerate(FOLDERS):
        log = LogBuilder(session=f"{number}f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", cwd=folder)
        log.prompt("Count")
        for _ in range(2**number):
            log.answer(text("Done."))
        log.write(root / "claude" / "projects")
    config = root / "home" / ".config" / "posthog-llma-daemon" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[[project]]\npath = "/srv/tree"\ncustom_properties = { "$ai_project_name" = "The Forest" }\n')
    return {
        "HOME": str(root / "home"),
        "CLAUDE_CONFIG_DIR": str(root / "claude"),
        "POSTHOG_LLMA_STATE_DIR": str(root / "state"),
        "XDG_CONFIG_HOME": str(root / "home" / ".config"),
    }


def shown(machine: dict[str, str], project: str) -> Result:
    arguments = ["--json", "--since", "2026-01-01", "--project", project]
    return CliRunner().invoke(usage, arguments, env=machine, catch_exceptions=False)


@for_each(
    "project, folders",
    [
        ("/home/ada/orchard", (0, 1)),
        ("/home/ada/orchard/", (0, 1)),
        ("/home/ada/meadow/../orchard/api", (1,)),
        ("/srv/api", (2,)),
        ("orchard", (0, 1)),
        ("Orchard", (0, 1)),
        ("api", (1, 2)),
        ("orchard/api", (1,)),
        ("srv/*", (2, 3, 4, 5)),
        ("meadow-2", (3,)),
        ("dow-3", (4,)),
        ("tree", (5,)),
        ("the forest", (5,)),
    ],
)
def test_a_project_is_a_path_a_name_or_a_part_of_one(
    machine: dict[str, str], project: str, folders: tuple[int, ...]
) -> None:
    found = shown(machine, project)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["total"]["calls"] == sum(2**number for number in folders)


def test_a_name_of_several_folders_is_told_and_so_is_one_that_fits_nothing(machine: dict[str, str]) -> None:
    assert "2 folders fit 'api': /home/ada/orchard/api, /srv/api" in shown(machine, "api").stderr
    assert "note" not in shown(machine, "orchard").stderr
    several = shown(machine, "meadow")
    assert several.exit_code == 1
    assert "2 projects fit 'meadow': Meadow-2, meadow-3" in several.stderr
    nothing = shown(machine, "field")
    assert nothing.exit_code == 1
    assert "no project fits 'field'; there are" in nothing.stderr


def test_a_relative_path_is_meant_from_here(
    machine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LogBuilder(session="9f4d1c52-6a0e-4b57-9a35-0c1d2e3f4a5b", cwd=str(tmp_path / "work"))
    log.prompt("Count")
    log.answer(text("Done."))
    config = tmp_path / "claude"
    log.write(config / "projects")
    (tmp_path / "work" / "below").mkdir(parents=True)
    here = {**machine, "CLAUDE_CONFIG_DIR": str(config), "POSTHOG_LLMA_STATE_DIR": str(tmp_path / "state")}
    monkeypatch.chdir(tmp_path / "work")
    assert json.loads(shown(here, ".").stdout)["total"]["calls"] == 1
    monkeypatch.chdir(tmp_path / "work" / "below")
    assert json.loads(shown(here, "..").stdout)["total"]["calls"] == 1
    assert json.loads(shown(here, ".").stdout)["total"]["calls"] == 0
    # Of a session whose log is gone, the name of its folder is known.
    (config / "projects" / log.path).unlink()
    assert json.loads(shown(here, "..").stdout)["total"]["calls"] == 1


def test_traces_are_chosen_in_the_same_way(machine: dict[str, str]) -> None:
    found = CliRunner().invoke(traces, ["--json", "--project", "orchard"], env=machine, catch_exceptions=False)
    assert [json.loads(line)["generations"] for line in found.stdout.splitlines()] == [2, 1]
