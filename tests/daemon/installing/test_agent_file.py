from __future__ import annotations

import plistlib
from pathlib import Path

import pytest

from daemon.installing import agent_file
from daemon.installing.plan import Plan


def agent(folder: Path, environment: dict[str, str] | None = None) -> dict[str, object]:
    plan = Plan(
        program=folder / "posthog-llma-daemon",
        state_dir=folder / "state",
        environment_file=folder / "service.env",
        environment=environment or {},
        log_file=folder / "daemon.log",
    )
    read = plistlib.loads(agent_file.render(plan).encode())
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("name", ["plain", "with blank", "a&b", "<tag>", "ünïcode", "]]>", "@{label}"])
def test_it_runs_the_program_by_its_absolute_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    read = agent(folder)
    assert read["ProgramArguments"] == [
        str(folder / "posthog-llma-daemon"),
        "run",
        "--exit-zero-on-config",
        "--log-file",
        str(folder / "daemon.log"),
    ]
    assert read["Label"] == "com.posthog.llma-daemon"


def test_it_starts_at_login_and_again_after_a_failure_and_stays_in_the_background(tmp_path: Path) -> None:
    read = agent(tmp_path)
    assert read["RunAtLoad"] is True
    assert read["KeepAlive"] == {"SuccessfulExit": False}
    assert (read["ProcessType"], read["LowPriorityIO"], read["Umask"]) == ("Background", True, 0o077)
    assert read["StandardOutPath"] == "/dev/null"


def test_variables_without_a_setting_are_in_the_agent(tmp_path: Path) -> None:
    variables = {"HTTPS_PROXY": "http://u:p&<>@proxy:3128", "NO_PROXY": "localhost"}
    assert agent(tmp_path, variables)["EnvironmentVariables"] == variables
    assert agent(tmp_path)["EnvironmentVariables"] == {}
