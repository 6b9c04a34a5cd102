"""`config check`, `config set` and `config schema`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Workspace
from tests.support.processes import KEY, environment, verb

OTHER_KEY = "phc_another_key_that_no_output_shows"


@pytest.fixture
def config_file(workspace: Workspace) -> Path:
    path = workspace.home / ".config" / "posthog-llma-daemon" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def put(path: Path, content: str) -> None:
    path.write_text(content)


def read(path: Path) -> str:
    return path.read_text()


def written(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text()) if path.exists() else {}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_setting_is_written_and_the_rest_of_the_file_stays(workspace: Workspace, config_file: Path) -> None:
    head, table = '# mine\nhost = "eu.posthog.com" # Frankfurt\n', '[[project]]\npath = "~/a"\ncontent = "full"\n'
    put(config_file, f"{head}\n{table}")
    done = await verb(workspace, "config", "set", "content", "Metadata")
    assert (done.status, done.stderr) == (0, "")
    assert str(config_file) in done.stdout
    assert "POSTHOG_LLMA_CONTENT" in done.stdout
    assert "restart" in done.stdout
    assert written(config_file)["content"] == "Metadata"
    assert written(config_file)["project"] == [{"path": "~/a", "content": "full"}]
    assert read(config_file).startswith(head)
    assert mode(config_file) == 0o600
    shown = json.loads((await verb(workspace, "config", "--json")).stdout)
    assert shown["settings"]["content"] == {
        "variable": "POSTHOG_LLMA_CONTENT",
        "value": "metadata",
        "source": str(config_file),
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("enabled", "true", True),
        ("POSTHOG_LLMA_CC_ENABLED", "projects", "projects"),
        ("session-timeout", "90", 90),
        ("session_timeout", "1.5", 1.5),
        ("exclude", "~/a, /srv/b", ["~/a", "/srv/b"]),
        ("custom_properties", '{"team": "web", "level": 3}', {"team": "web", "level": 3}),
        ("custom_properties", '{"team": null}', '{"team": null}'),
        ("custom_properties", '{"team": {"name": "web"}}', '{"team": {"name": "web"}}'),
        ("distinct_id", "ada@example.com", "ada@example.com"),
    ],
)
async def test_values_are_written_with_their_types(
    workspace: Workspace, config_file: Path, name: str, value: str, expected: object
) -> None:
    done = await verb(workspace, "config", "set", name, value)
    assert done.status == 0, done.stderr
    assert expected in written(config_file).values()


@pytest.mark.parametrize(
    ("name", "value", "status", "words"),
    [
        ("contnt", "full", 2, ("did you mean content",)),
        ("colour", "red", 2, ("posthog-llma-daemon config",)),
        ("content", "some", 78, ("POSTHOG_LLMA_CONTENT", "metadata")),
        ("enabled", "perhaps", 78, ("POSTHOG_LLMA_CC_ENABLED",)),
        ("custom_properties", "{", 78, ("JSON",)),
        ("custom_properties", '{"a":' * 5000 + "1" + "}" * 5000, 78, ("JSON",)),
        ("exclude", '["~/a", "~/b"]', 78, ("POSTHOG_LLMA_EXCLUDE", "quotes")),
        ("host", "https://example.com", 78, ("POSTHOG_LLMA_ALLOW_CUSTOM_HOST",)),
        ("api_key", OTHER_KEY, 2, ("login",)),
        ("distinct_id", OTHER_KEY, 2, ("login",)),
    ],
)
async def test_invalid_names_and_values_are_refused_and_nothing_is_written(
    workspace: Workspace, config_file: Path, name: str, value: str, status: int, words: tuple[str, ...]
) -> None:
    ended = await verb(workspace, "config", "set", name, value)
    assert ended.status == status
    assert len(ended.errors) == 1
    for word in words:
        assert word in ended.errors[0]
    assert str(config_file) not in ended.errors[0], "nothing was written to this file"
    assert OTHER_KEY not in ended.stdout + ended.stderr
    assert not written(config_file)


async def test_a_broken_file_is_not_touched(workspace: Workspace, config_file: Path) -> None:
    put(config_file, "enabled = maybe\n")
    ended = await verb(workspace, "config", "set", "content", "full")
    assert ended.status == 78
    assert str(config_file) in ended.errors[0]
    assert read(config_file) == "enabled = maybe\n"


async def test_it_warns_when_the_environment_overrides_the_file(workspace: Workspace) -> None:
    env = environment(workspace, POSTHOG_LLMA_CONTENT="full")
    done = await verb(workspace, "config", "set", "content", "metadata", env=env)
    assert done.status == 0
    assert "warning: POSTHOG_LLMA_CONTENT (environment) overrides config.toml" in done.stderr


async def test_check_names_every_problem(workspace: Workspace, config_file: Path) -> None:
    put(config_file, 'content = "some"\nno_such = 1\n')
    ended = await verb(workspace, "config", "check", env=environment(workspace, POSTHOG_LLMA_CC_ENABLED="perhaps"))
    assert (ended.status, ended.stdout) == (78, "")
    assert len(ended.errors) == 3


async def test_check_accepts_a_configuration_that_can_send(workspace: Workspace) -> None:
    env = environment(workspace, "https://us.i.posthog.com", POSTHOG_LLMA_CONTNET="full")
    fine = await verb(workspace, "config", "check", env=env)
    assert fine.status == 0
    assert fine.stdout.startswith("no problems")
    assert "did you mean POSTHOG_LLMA_CONTENT?" in fine.stderr
    assert KEY not in fine.stdout + fine.stderr

    nothing = await verb(workspace, "config", "check")
    assert nothing.status == 78
    assert "POSTHOG_API_KEY" in nothing.errors[0]


async def test_the_schema_is_printed(workspace: Workspace) -> None:
    said = await verb(workspace, "config", "schema")
    assert (said.status, said.stderr) == (0, "")
    assert json.loads(said.stdout)["properties"]["content"]["enum"] == ["full", "no_tool_content", "metadata"]
