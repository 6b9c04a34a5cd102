from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.installing import unit_file
from daemon.installing.plan import Plan
from tests.support.waiting import PATIENCE

LIMIT = 20
"""Largest exposure that `systemd-analyze security` may report, in tenths; a unit without any limits has 96."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def plan(folder: Path, name: str = "posthog-llma-daemon") -> Plan:
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return Plan(
        program=program,
        state_dir=folder / f"{name} state",
        environment_file=folder / "service.env",
        log_file=folder / "daemon.log",
    )


def analyze(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = folder / unit_file.UNIT
    path.write_text(text)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(
        ["systemd-analyze", "--user", "--no-pager", *arguments, str(path)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(runtime), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def with_status_file(folder: Path) -> Plan:
    return replace(plan(folder), status_files=(folder / "100% claude" / "posthog-llma-status.json",))


@needs_systemd
@pytest.mark.parametrize("namespaces", [True, False])
def test_systemd_verifies_the_unit(tmp_path: Path, namespaces: bool) -> None:
    ended = analyze(tmp_path, unit_file.render(plan(tmp_path), namespaces=namespaces), "verify")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    ended = analyze(tmp_path, unit_file.render(with_status_file(tmp_path), namespaces=namespaces), "verify")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("name", ["with blank", "100%done", "a$HOME", "semi;colon", "a#b", "ünïcode"])
def test_a_program_at_any_path_is_found(tmp_path: Path, name: str) -> None:
    """`verify` checks that the program exists, so it finds a misquoted path."""
    odd = plan(tmp_path, name)
    ended = analyze(tmp_path, unit_file.render(odd), "verify")
    assert (ended.returncode, ended.stderr) == (0, "")
    odd.program.unlink()
    assert analyze(tmp_path, unit_file.render(odd), "verify").returncode != 0


@needs_systemd
def test_its_exposure_is_small(tmp_path: Path) -> None:
    text = unit_file.render(plan(tmp_path))
    ended = analyze(tmp_path, text, "security", "--offline=true", f"--threshold={LIMIT}")
    assert ended.returncode == 0, ended.stdout
    more = unit_file.render(with_status_file(tmp_path))
    ended = analyze(tmp_path, more, "security", "--offline=true", f"--threshold={LIMIT}")
    assert ended.returncode == 0, ended.stdout
    worse = text.replace("PrivateUsers=true\n", "")
    assert analyze(tmp_path, worse, "security", "--offline=true", f"--threshold={LIMIT}").returncode != 0


def test_each_line_has_its_reason(tmp_path: Path) -> None:
    lines = unit_file.render(plan(tmp_path)).splitlines()
    service = lines[lines.index("[Service]") + 1 : lines.index("[Install]")]
    explained = False
    for before, line in zip(["", *service], service, strict=False):
        if line.startswith("#"):
            explained = True
        elif line:
            # Consecutive lines share a reason.
            assert explained, f"{line} has no comment"
            assert before, f"{line} is far from its comment"
        else:
            explained = False


def test_the_unit_uses_nothing_that_depends_on_the_version_of_systemd(tmp_path: Path) -> None:
    text = unit_file.render(plan(tmp_path))
    directives = {line.partition("=")[0] for line in text.splitlines() if re.match(r"[A-Z]\w+=", line)}
    assert "StateDirectory" not in directives
    assert not re.search(r"(?<!%)%[SCLt]", text)
    assert "Environment" not in directives


def test_the_unit_says_when_to_restart_and_what_the_service_may_write(tmp_path: Path) -> None:
    made = plan(tmp_path)
    lines = unit_file.render(made).splitlines()
    assert "Type=notify" in lines
    assert "Restart=on-failure" in lines
    assert "RestartPreventExitStatus=78 217 226" in lines
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert f'ReadWritePaths="{made.state_dir}"' in lines
    assert f'ExecStart="{made.program}" run' in lines


def test_the_service_may_also_write_the_plugins_file_and_nothing_else(tmp_path: Path) -> None:
    """With a dash in front: a missing file must not keep the service from starting."""
    made = with_status_file(tmp_path)
    lines = unit_file.render(made).splitlines()
    file = str(made.status_files[0]).replace("%", "%%")
    assert f'ReadWritePaths="{made.state_dir}" "-{file}"' in lines
    with pytest.raises(ValueError, match="not an absolute path"):
        replace(made, status_files=(Path("relative"),))


def test_without_namespaces_all_other_limits_stay(tmp_path: Path) -> None:
    made = plan(tmp_path)
    full, plain = (unit_file.render(made, namespaces=wanted).splitlines() for wanted in (True, False))
    gone = {line.partition("=")[0] for line in set(full) - set(plain) if not line.startswith("#")}
    assert {"PrivateUsers", "ProtectSystem", "ProtectHome", "ReadWritePaths", "PrivateTmp"} <= gone
    assert {"NoNewPrivileges", "SystemCallFilter", "MemoryDenyWriteExecute", "Restart", "ExecStart"} & gone == set()
    assert plain[-2:] == full[-2:]


@needs_systemd
@pytest.mark.parametrize("name", ['quo"te', "apo'strophe", "back\\slash"])
def test_a_program_that_systemd_would_not_run_is_refused(tmp_path: Path, name: str) -> None:
    odd = plan(tmp_path, name)
    with pytest.raises(ValueError, match="quote or a backslash"):
        unit_file.render(odd)
    quoted = str(odd.program).replace("\\", "\\\\").replace('"', '\\"')
    refused = analyze(tmp_path, f'[Service]\nExecStart="{quoted}"\n', "verify")
    assert "special characters" in refused.stderr


def test_a_state_directory_may_be_called_anything(tmp_path: Path) -> None:
    odd = Plan(
        program=tmp_path / "program",
        state_dir=Path('/srv/a "b\\c%d'),
        environment_file=tmp_path / "100%",
        log_file=tmp_path / "log",
    )
    lines = unit_file.render(odd).splitlines()
    assert 'ReadWritePaths="/srv/a \\"b\\\\c%%d"' in lines
    assert f"EnvironmentFile=-{tmp_path}/100%%" in lines


@pytest.mark.parametrize("name", ["line\nend", "bell\a"])
def test_a_path_that_no_service_file_can_contain_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="use another path"):
        Plan(program=tmp_path / name, state_dir=tmp_path, environment_file=tmp_path, log_file=tmp_path)
    with pytest.raises(ValueError, match="not an absolute path"):
        Plan(program=Path("daemon"), state_dir=tmp_path, environment_file=tmp_path, log_file=tmp_path)


def test_what_the_unit_names_is_read_back(tmp_path: Path) -> None:
    named = plan(tmp_path, "100% ours")
    text = unit_file.render(replace(named, environment_file=tmp_path / "a%b c.env"))
    assert unit_file.environment_file(text) == tmp_path / "a%b c.env"
    assert unit_file.state_dir(text) == named.state_dir
    assert unit_file.state_dir(unit_file.render(named, namespaces=False)) is None
    assert unit_file.environment_file("[Service]\n") is None
