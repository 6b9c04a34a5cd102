"""`login` checks the key and writes it to config.toml."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.support.capture_server import Answer, CaptureServer
from tests.support.client import Workspace
from tests.support.processes import KEY, Ended, environment, verb
from tests.support.project_server import ProjectServer
from tests.support.terminal import on_terminal


async def login(workspace: Workspace, *arguments: str, key: str = KEY, **variables: str) -> Ended:
    ended = await verb(
        workspace,
        "login",
        "--key-stdin",
        *arguments,
        env=environment(workspace, **variables),
        given=f"{key}\n".encode(),
    )
    assert KEY not in ended.stdout + ended.stderr
    return ended


def config(workspace: Workspace) -> Path:
    return workspace.home / ".config" / "posthog-llma-daemon" / "config.toml"


async def test_a_known_key_is_written_readable_by_the_user_alone(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        ended = await login(workspace, "--host", server.url, "--enable")
    assert ended.status == 0, ended.stderr
    assert f"{server.url} knows the key phc_a_**********" in ended.stdout
    assert "posthog-llma-daemon install" in ended.stdout
    path = config(workspace)
    assert path.read_text() == f'api_key = "{KEY}"\nhost = "{server.url}"\nenabled = true\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_run_uses_what_login_has_written(workspace: Workspace, posthog: CaptureServer) -> None:
    assert (await login(workspace, "--host", posthog.url, "--enable", "--no-check")).status == 0
    assert (await verb(workspace, "run", "--once")).status == 0


async def test_without_consent_sending_stays_off(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        ended = await login(workspace, "--host", server.url)
    assert "nothing is sent yet" in ended.stdout
    assert "enabled" not in config(workspace).read_text()
    [words] = re.findall(r"`posthog-llma-daemon (config [^`]+)`", ended.stdout)
    assert (await verb(workspace, *words.split())).status == 0
    assert config(workspace).read_text().endswith("enabled = true\n")


async def test_an_unknown_key_is_not_written(workspace: Workspace) -> None:
    async with ProjectServer() as server:
        ended = await login(workspace, "--host", server.url, "--enable")
    assert ended.status == 1
    [error] = ended.errors
    assert f"{server.url} knows no project with the key phc_a_" in error
    assert "https://eu.i.posthog.com" in error
    assert not config(workspace).exists()


async def test_an_unreachable_host_is_an_error_and_nothing_is_written(workspace: Workspace) -> None:
    async with ProjectServer() as server:
        pass
    ended = await login(workspace, "--host", server.url)
    assert ended.status == 1
    assert "cannot be reached" in ended.errors[0]
    assert "--no-check" in ended.errors[0]
    assert not config(workspace).exists()


async def test_a_host_that_cannot_check_keys_is_a_warning(workspace: Workspace) -> None:
    async with ProjectServer() as server:
        server.fault = lambda _request: Answer(status=404)
        ended = await login(workspace, "--host", server.url)
    assert ended.status == 0
    assert "warning" in ended.stderr
    assert "404" in ended.stderr
    assert config(workspace).exists()


@pytest.mark.parametrize(
    ("key", "host", "word"),
    [
        ("phx_personal", "https://us.i.posthog.com", "personal API key"),
        (KEY, "https://example.com", "POSTHOG_LLMA_ALLOW_CUSTOM_HOST"),
        (KEY, "http://us.i.posthog.com", "https://"),
    ],
)
async def test_invalid_keys_and_hosts_are_refused_unchecked(
    workspace: Workspace, key: str, host: str, word: str
) -> None:
    ended = await login(workspace, "--host", host, key=key)
    assert ended.status == 78
    assert word in ended.errors[0]
    assert str(config(workspace)) not in ended.errors[0], "nothing was written to this file"
    assert ("--allow-custom-host" in ended.stderr) == (host == "https://example.com")
    assert not config(workspace).exists()


async def test_without_a_key_it_is_bad_usage(workspace: Workspace) -> None:
    assert (await login(workspace, key="")).status == 2
    ended = await verb(workspace, "login")
    assert (ended.status, "--key-stdin" in ended.errors[0]) == (2, True)


async def test_it_warns_when_the_shell_overrides_the_file(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        ended = await login(workspace, "--host", server.url, POSTHOG_API_KEY="phc_another_key_altogether")
    assert ended.status == 0
    assert "POSTHOG_API_KEY in this shell's environment overrides config.toml" in ended.stderr


REGION = "Region: us, eu, or the address of your own PostHog [us]:"
KEY_QUESTION = "Project API key (phc_...):"
SEND = "Send this machine's Claude Code sessions to that project? [Y/n]:"
TEST = "Send one test event now, to see it arrive? [y/N]:"


async def test_on_a_terminal_it_asks_and_shows_no_key(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        ended = await on_terminal(
            workspace, "login", answers=[(REGION, server.url), (KEY_QUESTION, KEY), (SEND, ""), (TEST, "")]
        )
        assert server.events == []
    assert ended.status == 0, ended.stdout
    words = " ".join(ended.stdout.split())
    assert f"the project's API key is at {server.url}/settings/project#variables" in words
    assert KEY not in ended.stdout
    assert config(workspace).read_text() == f'api_key = "{KEY}"\nhost = "{server.url}"\nenabled = true\n'


async def test_each_wrong_answer_is_refused_at_once_and_asked_again(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server, ProjectServer() as other:
        answers = [
            (REGION, "mars"),
            (REGION, "https://two words.example.com"),
            (REGION, "https://posthog.example.com"),
            ("https://posthog.example.com is not PostHog's own. Is it yours? [y/N]:", "n"),
            (REGION, other.url),
            (KEY_QUESTION, "phx_personal"),
            (KEY_QUESTION, "two words"),
            (KEY_QUESTION, KEY),
            (REGION, server.url),
            (KEY_QUESTION, KEY),
            (SEND, "n"),
            (TEST, "n"),
        ]
        ended = await on_terminal(workspace, "login", answers=answers, columns=200)
    assert ended.status == 0, ended.stdout
    errors = [line for line in ended.stdout.splitlines() if line.startswith("error: ")]
    assert [
        word in error
        for word, error in zip(
            ("'mars' is neither us, nor eu", "not a host name", "personal API key", "does not look like", "no project"),
            errors,
            strict=True,
        )
    ] == [True] * 5, errors
    assert not [error for error in errors if str(config(workspace)) in error], "nothing was in the file yet"
    assert KEY not in ended.stdout
    assert f'host = "{server.url}"' in config(workspace).read_text()


@pytest.mark.parametrize(("answer", "url"), [("", "us"), ("EU", "eu")])
async def test_a_region_is_enough(workspace: Workspace, answer: str, url: str) -> None:
    answers = [(REGION, answer), (KEY_QUESTION, KEY), (SEND, ""), (TEST, "")]
    ended = await on_terminal(workspace, "login", "--no-check", answers=answers)
    assert f"https://{url}.posthog.com/settings/project#variables" in " ".join(ended.stdout.split())
    assert f'host = "https://{url}.i.posthog.com"' in config(workspace).read_text()


async def test_a_key_of_another_kind_in_the_file_can_be_replaced(workspace: Workspace) -> None:
    config(workspace).parent.mkdir(parents=True)
    config(workspace).write_text('api_key = "phx_personal"\n')
    config(workspace).chmod(0o600)
    answers = [(REGION, ""), (KEY_QUESTION, KEY), (SEND, ""), (TEST, "")]
    ended = await on_terminal(workspace, "login", "--no-check", answers=answers)
    assert (ended.status, KEY in config(workspace).read_text()) == (0, True)


async def test_a_file_that_no_answer_corrects_is_reported_before_anything_is_asked(workspace: Workspace) -> None:
    config(workspace).parent.mkdir(parents=True)
    config(workspace).write_text('content = "some"\n')
    ended = await on_terminal(workspace, "login")
    assert ended.status == 78
    assert "Region" not in ended.stdout


async def test_a_test_event_is_sent_on_request(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        ended = await login(workspace, "--host", server.url, "--enable", "--test-event")
        [event] = server.events
        assert server.violations == []
    assert ended.status == 0, ended.stderr
    properties = event["properties"]
    assert (event["event"], properties["$process_person_profile"]) == ("$ai_trace", False)
    assert f"{server.url}/llm-analytics/traces/{properties['$ai_trace_id']}" in ended.stdout
    assert not {"$ai_session_id", "$ai_input", "$ai_project_name"} & properties.keys()


async def test_a_test_event_that_is_refused_is_an_error(workspace: Workspace) -> None:
    async with ProjectServer(KEY) as server:
        server.fault = lambda request: None if request.path.startswith("/flags") else Answer(status=503)
        ended = await login(workspace, "--host", server.url, "--enable", "--test-event")
    assert ended.status == 1
    assert "did not accept the test event" in ended.errors[0]
    assert "503" in ended.errors[0]
    assert config(workspace).exists()


# ---------------------------------------------------------------------- the personal key

PERSONAL = "phx_a_personal_key_that_no_output_shows"


async def personal(workspace: Workspace, *arguments: str, key: str = PERSONAL, **variables: str) -> Ended:
    ended = await verb(
        workspace,
        "login",
        "--personal-key-stdin",
        *arguments,
        env=environment(workspace, **variables),
        given=f"{key}\n".encode(),
    )
    assert PERSONAL not in ended.stdout + ended.stderr
    return ended


async def test_a_personal_key_is_checked_and_written_beside_the_rest(workspace: Workspace) -> None:
    config(workspace).parent.mkdir(parents=True)
    config(workspace).write_text(f'api_key = "{KEY}" # mine\n')
    config(workspace).chmod(0o600)
    async with CaptureServer() as server:
        server.fault = lambda _: Answer(status=403, body=b'{"detail": "missing scope project:read"}')
        ended = await personal(workspace, POSTHOG_APP_HOST=server.url)
        assert ended.status == 0, ended.stderr
        [request] = server.requests
        assert request.headers["authorization"] == f"Bearer {PERSONAL}"
        assert config(workspace).read_text() == f'api_key = "{KEY}" # mine\npersonal_api_key = "{PERSONAL}"\n'
        assert stat.S_IMODE(config(workspace).stat().st_mode) == 0o600
        server.fault = lambda _: Answer(status=401, body=b'{"detail": "invalid"}')
        refused = await personal(workspace, key="phx_unknown_to_anybody", POSTHOG_APP_HOST=server.url)
        assert (refused.status, "does not know the personal key phx_un" in refused.errors[0]) == (1, True)
    assert (await personal(workspace, key="phc_project")).status == 78
    assert (await personal(workspace, "--enable")).status == 2
    assert PERSONAL in config(workspace).read_text()
    shown = await verb(workspace, "config")
    assert (shown.status, PERSONAL in shown.stdout) == (0, False)
    # A file with this key alone is private, too.
    config(workspace).write_text(f'personal_api_key = "{PERSONAL}"\n')
    config(workspace).chmod(0o644)
    assert "chmod 600" in (await verb(workspace, "config")).errors[0]
