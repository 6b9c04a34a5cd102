from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daemon.installing.program import ProgramError, find_program, other_owners


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_program_next_to_the_interpreter_is_found_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = executable(tmp_path / "versions" / "bin" / "python")
    program = executable(tmp_path / "venv" / "bin" / "posthog-llma-daemon")
    (program.parent / "python").symlink_to(python)
    monkeypatch.setattr(sys, "executable", str(program.parent / "python"))
    assert find_program() == program


@pytest.mark.parametrize("folder", [".cache/uv/archive-v0/abc/bin", ".local/pipx/.cache/1f/bin"])
def test_a_program_in_a_temporary_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    program = executable(tmp_path / folder / "posthog-llma-daemon")
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    with pytest.raises(ProgramError, match="uv tool install"):
        find_program()


def test_other_packages_with_the_same_import_name_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "python-daemon" not in other_owners()
    info = tmp_path / "python_daemon-3.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: python-daemon\nVersion: 3.1.2\n")
    (info / "top_level.txt").write_text("daemon\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "python-daemon" in other_owners()
