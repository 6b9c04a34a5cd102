"""`doctor` says how the last verification went, and how to run one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from daemon.checks.receiver import check_arrival
from daemon.config import loading
from daemon.state import layout
from daemon.state.store import Store
from daemon.state.verification import Verification, read_sent_again, read_verification, write_verification

FOUND = Verification(
    at="2026-11-20T10:00:00+00:00",
    host="https://eu.posthog.com",
    project="1",
    sessions=3,
    equal=3,
    events=20,
    missing=0,
    extra=0,
    doubled=0,
    not_yet=0,
)


def test_it_names_the_command_once_something_was_sent(tmp_path: Path) -> None:
    def found(**variables: str) -> list[tuple[str, str, str]]:
        environ = {"POSTHOG_LLMA_STATE_DIR": str(tmp_path), **variables}
        settings = loading.load({}, environ, config_file=tmp_path / "config.toml", home=tmp_path)
        return [(each.level, each.message, each.hint) for each in check_arrival(settings)]

    assert found() == []
    with closing(Store(tmp_path)):
        pass
    [(level, message, _)] = found()
    assert (level, "login --personal-key-stdin" in message) == ("ok", True)
    [(level, message, _)] = found(POSTHOG_PERSONAL_API_KEY="phx_mine")
    assert message == "never verified; `posthog-llma-daemon verify` compares what PostHog holds with what was sent"
    write_verification(tmp_path, FOUND, {})
    [(level, message, _)] = found()
    assert (level, message.startswith("nothing was missing in PostHog (2026-11-20T10:00:00")) == ("ok", True)
    write_verification(tmp_path, replace(FOUND, missing=2), {})
    [(level, message, hint)] = found()
    assert (level, message.startswith("2 of 20 events were missing"), "--send-missing" in hint) == (
        "warning",
        True,
        True,
    )


def test_the_last_verification_is_private_and_survives_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / layout.VERIFICATION
    assert (read_verification(tmp_path), read_sent_again(tmp_path)) == (None, {})
    write_verification(tmp_path, FOUND, {"u": 1.5})
    assert (read_verification(tmp_path), read_sent_again(tmp_path)) == (FOUND, {"u": 1.5})
    assert path.stat().st_mode & 0o077 == 0
    for content in (b"", b"[]", b'{"result": {"at": 1}}', b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        assert (read_verification(tmp_path), read_sent_again(tmp_path)) == (None, {})
    path.unlink()
    path.mkdir()
    assert read_verification(tmp_path) is None
