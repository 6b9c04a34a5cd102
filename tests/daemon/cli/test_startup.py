"""How a command takes the lock of the local file."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from daemon.cli.startup import open_local
from daemon.state.layout import local_folder
from daemon.state.lock import StateLock, look, prepare_state_dir


def test_a_daemon_waits_for_a_verb_that_ends_and_not_for_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    folder = local_folder(state)
    prepare_state_dir(state)
    prepare_state_dir(folder)
    verb = StateLock(folder, stage="ends", verb="usage")
    verb.acquire()
    told: list[str] = []

    def say(words: str, *, err: bool) -> None:
        assert err
        told.append(words)
        verb.release()

    with monkeypatch.context() as patched:
        patched.setattr("daemon.cli.startup.say", say)
        with open_local(StateLock(folder, patience=0, stage="starts", verb="run --local"), waits=True):
            found = look(folder)
            assert found is not None
            assert (found.stage, found.verb) == ("starts", "run --local")
    assert look(folder) is None
    [line] = told
    assert line.startswith("waiting for `usage` (pid ")

    with (
        StateLock(folder, verb="view"),
        pytest.raises(click.exceptions.Exit),
        open_local(StateLock(folder, patience=0, verb="run --local"), waits=True),
    ):
        pytest.fail("took a lock that is held")
    assert "`view` (pid" in capsys.readouterr().err
