"""`install`, `start`, `restart`, `stop`, `logs` and `uninstall` with a stand-in for systemd."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from daemon.state.layout import local_folder
from daemon.state.lock import StateLock, prepare_state_dir
from tests.support.client import Workspace
from tests.support.managers import Managers
from tests.support.processes import KEY, Ended, verb

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is Linux's")

SET_UP = {"POSTHOG_API_KEY": KEY, "POSTHOG_LLMA_CC_ENABLED": "true"}


@pytest.fixture
def managers(workspace: Workspace) -> Managers:
    return Managers(workspace)


def config_folder(managers: Managers) -> Path:
    return managers.workspace.home / ".config" / "posthog-llma-daemon"


def configure(managers: Managers, more: str = "") -> Path:
    """Write a config.toml with everything that is needed; return its path."""
    path = config_folder(managers) / "config.toml"
    path.parent.mkdir(parents=True)
    claude = managers.workspace.config
    path.write_text(f'api_key = "{KEY}"\nenabled = true\nclaude_config_dir = "{claude}"\n{more}')
    path.chmod(0o600)
    return path


async def install(managers: Managers, *arguments: str, **variables: str) -> Ended:
    env = managers.environment(**variables)
    ended = await verb(managers.workspace, "install", "--program", managers.program, *arguments, env=env)
    assert KEY not in ended.stdout + ended.stderr
    assert all(KEY not in call for call in managers.calls)
    if managers.unit.exists():
        assert KEY not in managers.unit.read_text()
    return ended


async def test_the_service_is_written_started_and_awaited(managers: Managers) -> None:
    configure(managers)
    ended = await install(managers)
    assert (ended.status, ended.stderr) == (0, "")
    assert managers.calls == [
        "systemctl --user daemon-reload",
        "systemctl --user enable posthog-llma-daemon.service",
        "systemctl --user restart posthog-llma-daemon.service",
    ]
    assert f"written: {managers.unit}" in ended.stdout
    assert "running: following 3 sessions (pid 4711)" in ended.stdout
    assert "--linger" in ended.stdout
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    assert f'ReadWritePaths="{state}"' in managers.unit.read_text().splitlines()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700, "the state folder has to exist before the service starts"


async def test_a_program_that_cannot_be_run_is_not_installed(managers: Managers) -> None:
    configure(managers)
    managers.program.chmod(0o644)
    ended = await install(managers)
    assert ended.status == 2
    assert f"'{managers.program}' is not executable" in ended.stderr
    assert not managers.unit.exists()


async def test_the_plugins_status_file_is_created_and_the_service_may_write_to_it(managers: Managers) -> None:
    configure(managers, "plugin_status_file = true\n")
    path = managers.workspace.config / "posthog-llma-status.json"
    ended = await install(managers)
    assert ended.status == 0
    assert ended.stderr.startswith(f"warning: {path} will not be updated: {path.parent} does not exist: ")
    path.parent.mkdir()
    ended = await install(managers)
    assert (ended.status, ended.stderr) == (0, "")
    assert f"written: {path}, for the status command of PostHog's plugin" in ended.stdout
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("{}\n", 0o600)
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    assert f'ReadWritePaths="{state}" "-{path}"' in managers.unit.read_text().splitlines()
    path.unlink()
    path.symlink_to(managers.workspace.home / "elsewhere")
    ended = await install(managers)
    assert (ended.status, "not a regular file" in ended.stderr) == (0, True)
    assert f'ReadWritePaths="{state}"' in managers.unit.read_text().splitlines()
    assert not (managers.workspace.home / "elsewhere").exists()


async def test_purge_removes_the_plugins_status_file(managers: Managers) -> None:
    configure(managers, "plugin_status_file = true\n")
    path = managers.workspace.config / "posthog-llma-status.json"
    path.parent.mkdir()
    await install(managers)
    ended = await verb(managers.workspace, "uninstall", env=managers.environment())
    assert f"left: {path}\n" in ended.stdout
    ended = await verb(managers.workspace, "uninstall", "--purge", "--yes", env=managers.environment())
    assert f"removed: {path}" in ended.stdout
    assert not path.exists()


async def test_installing_again_changes_nothing(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    before = managers.unit.read_bytes()
    ended = await install(managers)
    assert ended.status == 0
    assert f"unchanged: {managers.unit}" in ended.stdout
    assert managers.unit.read_bytes() == before


async def test_the_file_can_be_printed_first(managers: Managers) -> None:
    configure(managers)
    printed = await install(managers, "--print")
    assert (printed.status, printed.stderr) == (0, "")
    assert not managers.unit.exists()
    assert managers.calls == []
    await install(managers)
    assert managers.unit.read_text() == printed.stdout


async def test_lingering_is_enabled_only_when_asked_for(managers: Managers) -> None:
    configure(managers)
    ended = await install(managers, "--linger")
    assert ended.status == 0
    assert [call for call in managers.calls if call.startswith("loginctl enable-linger ")]
    assert "lingering is enabled" in ended.stdout
    assert "--linger" not in ended.stdout


async def test_refused_lingering_is_reported(managers: Managers) -> None:
    configure(managers)
    managers.say("no-linger")
    ended = await install(managers, "--linger")
    assert ended.status == 1
    assert "Access denied" in ended.errors[0]
    assert "ask an administrator" in ended.errors[0]


async def test_lingering_that_is_on_already_needs_no_permission(managers: Managers) -> None:
    configure(managers)
    managers.say("lingers")
    managers.say("no-linger")
    ended = await install(managers, "--linger")
    assert (ended.status, ended.stderr) == (0, "")
    assert "lingering is already enabled" in ended.stdout


async def test_a_folder_that_the_sandbox_hides_is_refused_and_nothing_is_left(managers: Managers) -> None:
    configure(managers)
    managers.say("sandbox", f"InaccessiblePaths=-{managers.workspace.home}/.ssh -{managers.workspace.config}\n")
    ended = await install(managers)
    assert ended.status == 78
    [error] = ended.errors
    assert f"would not see {managers.workspace.config}" in error
    assert not managers.unit.exists()
    assert managers.calls == ["systemctl --user daemon-reload"] * 2, "it is neither enabled nor started"


async def test_doctor_sees_what_the_sandbox_hides(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    managers.say("sandbox", f"InaccessiblePaths=-{managers.workspace.config}\n")
    checked = await verb(managers.workspace, "doctor", env=managers.environment())
    assert f"its sandbox hides {managers.workspace.config}" in checked.stdout


async def test_an_installed_service_stays_as_it_was_if_it_would_no_longer_see_a_folder(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    before = managers.unit.read_text()
    config = config_folder(managers) / "config.toml"
    settings = config.read_text()
    managers.say("sandbox", f"InaccessiblePaths=-{managers.workspace.root / 'hidden'}\n")
    state = {"POSTHOG_LLMA_STATE_DIR": str(managers.workspace.root / "hidden" / "state")}
    ended = await install(managers, "--yes", **state)
    assert (ended.status, f"would not see {state['POSTHOG_LLMA_STATE_DIR']}" in ended.stderr) == (78, True)
    assert (managers.unit.read_text(), config.read_text()) == (before, settings)


@pytest.mark.parametrize("status", ["217", "226"])
async def test_a_machine_without_user_namespaces_gets_a_unit_that_works_there(managers: Managers, status: str) -> None:
    configure(managers)
    managers.say("no-namespaces", status)
    for _ in range(2):
        ended = await install(managers)
        assert ended.status == 0, ended.stderr
        assert "does not allow user namespaces" in ended.stdout
        text = managers.unit.read_text()
        assert "PrivateUsers" not in text
        assert "NoNewPrivileges=true" in text


@pytest.mark.parametrize(
    ("code", "exit_status", "word"), [("78", 78, "posthog-llma-daemon login"), ("1", 1, "posthog-llma-daemon logs")]
)
async def test_a_service_that_does_not_start_is_an_error_with_the_end_of_its_log(
    managers: Managers, code: str, exit_status: int, word: str
) -> None:
    configure(managers)
    managers.say("fails", code)
    managers.say("journal", "error: what it said last\n")
    ended = await install(managers)
    assert ended.status == exit_status
    assert word in ended.stderr
    assert "  error: what it said last" in ended.stderr.splitlines()
    assert "Traceback" not in ended.stderr


async def test_without_a_user_manager_it_says_what_to_do(managers: Managers) -> None:
    configure(managers)
    managers.say("no-bus")
    ended = await install(managers)
    assert ended.status == 1
    [error] = ended.errors
    assert "No medium found" in error
    assert "su or sudo" in error
    assert not managers.unit.exists()


async def test_installing_with_sudo_is_refused(managers: Managers) -> None:
    if os.getuid() != 0:
        pytest.skip("only root is root")
    configure(managers)
    ended = await install(managers, SUDO_USER="ada")
    assert (ended.status, len(ended.errors)) == (1, 1)
    assert "run it as ada" in ended.errors[0]


async def test_an_unconfigured_daemon_is_not_installed(managers: Managers) -> None:
    ended = await install(managers, CLAUDE_CONFIG_DIR="")
    assert ended.status == 78
    assert "posthog-llma-daemon login" in ended.errors[0]
    assert not managers.unit.exists()


# ---------------------------------------------------------------------- this shell and the service


async def test_variables_that_only_this_shell_has_are_named_and_not_written_without_consent(managers: Managers) -> None:
    ended = await install(managers, HTTPS_PROXY="http://u:secret@proxy:3128", **SET_UP)
    assert ended.status == 78
    named = [line for line in ended.stderr.splitlines() if line.startswith("the service does not see")]
    assert len(named) == 2, "one line for each file to write"
    for word in ("POSTHOG_API_KEY", "POSTHOG_LLMA_CC_ENABLED", "CLAUDE_CONFIG_DIR", "HTTPS_PROXY"):
        assert word in ended.stderr
    assert "--yes" in ended.stderr
    assert "secret" not in ended.stderr
    assert not config_folder(managers).exists()


async def test_with_yes_such_variables_are_written_where_they_belong(managers: Managers) -> None:
    ended = await install(managers, "--yes", HTTPS_PROXY="http://u:secret@proxy:3128", **SET_UP)
    assert ended.status == 0, ended.stderr
    config, variables = (config_folder(managers) / name for name in ("config.toml", "service.env"))
    assert f'api_key = "{KEY}"' in config.read_text()
    assert "HTTPS_PROXY='http://u:secret@proxy:3128'" in variables.read_text()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (config, variables)} == {0o600}
    assert f"EnvironmentFile=-{variables}" in managers.unit.read_text().splitlines()
    assert "secret" not in managers.unit.read_text() + ended.stdout + ended.stderr
    again = await install(managers, HTTPS_PROXY="http://u:secret@proxy:3128", **SET_UP)
    assert (again.status, again.stderr) == (0, "")


async def test_install_brings_the_services_variables_up_to_date(managers: Managers) -> None:
    path = configure(managers).with_name("service.env")
    await install(managers, "--yes", HTTPS_PROXY="http://old:3128", NO_PROXY="intern")
    ended = await install(managers, "--yes", HTTPS_PROXY="http://new:3128")
    assert ended.status == 0, ended.stderr
    assert path.read_text().splitlines()[1:] == ["HTTPS_PROXY='http://new:3128'"]
    ended = await install(managers)
    assert "HTTPS_PROXY" in ended.stderr, "a shell without it may be another one, so nothing is removed unasked"
    assert "--yes" in ended.stderr
    assert path.exists()
    ended = await install(managers, "--yes")
    assert f"removed from {path}: HTTPS_PROXY" in ended.stdout
    assert not path.exists()


async def test_a_folder_that_this_shell_no_longer_moves_is_removed_from_the_services_variables(
    managers: Managers,
) -> None:
    path = configure(managers).with_name("service.env")
    path.write_text("XDG_STATE_HOME='/srv/old'\nCUSTOM='kept'\n")
    ended = await install(managers)
    assert ended.status == 0, ended.stderr
    assert path.read_text().splitlines()[1:] == ["CUSTOM='kept'"]
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    assert f'ReadWritePaths="{state}"' in managers.unit.read_text().splitlines()


async def test_variables_that_the_user_manager_has_need_no_file(managers: Managers) -> None:
    variables = SET_UP | {"CLAUDE_CONFIG_DIR": str(managers.workspace.config), "NO_PROXY": "a b"}
    managers.say("environment", "".join(f"{name}={value}\n" for name, value in SET_UP.items()))
    with (managers.folder / "environment").open("a") as file:
        file.write(f"CLAUDE_CONFIG_DIR={managers.workspace.config}\nNO_PROXY=$'a b'\n")
    ended = await install(managers, **variables)
    assert (ended.status, ended.stderr) == (0, "")
    assert not config_folder(managers).exists()


async def test_the_service_finds_config_and_state_where_this_shell_does(managers: Managers) -> None:
    folders = {name: str(managers.workspace.root / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    ended = await install(managers, "--yes", **SET_UP, **folders)
    assert ended.status == 0, ended.stderr
    own = Path(folders["XDG_CONFIG_HOME"]) / "posthog-llma-daemon"
    for name, value in folders.items():
        assert f"{name}='{value}'" in (own / "service.env").read_text()
    # The user manager does not know that folder.
    text = managers.unit.read_text()
    assert f"EnvironmentFile=-{own / 'service.env'}" in text
    assert f'ReadWritePaths="{folders["XDG_STATE_HOME"]}/posthog-llma-daemon"' in text


async def test_a_key_that_others_can_read_is_refused_with_what_to_run(managers: Managers) -> None:
    path = configure(managers)
    path.chmod(0o644)
    ended = await install(managers)
    assert ended.status == 78
    assert f"chmod 600 {path}" in ended.errors[0]
    assert not managers.unit.exists()


async def test_the_service_is_not_started_next_to_a_daemon_in_a_terminal(managers: Managers) -> None:
    configure(managers)
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    prepare_state_dir(state)
    with StateLock(state):
        ended = await install(managers)
    assert ended.status == 1
    assert f"pid {os.getpid()}" in ended.errors[0]
    assert not managers.unit.exists()


# ---------------------------------------------------------------------- restart, logs, uninstall


async def test_restart_waits_until_it_is_ready(managers: Managers) -> None:
    env = managers.environment()
    ended = await verb(managers.workspace, "restart", env=env)
    assert (ended.status, "posthog-llma-daemon install" in ended.errors[0]) == (1, True)
    configure(managers)
    await install(managers)
    ended = await verb(managers.workspace, "restart", env=env)
    assert (ended.status, ended.stdout) == (0, "running: following 3 sessions (pid 4711)\n")


async def test_restart_refuses_a_bad_configuration_at_once_and_the_service_goes_on(managers: Managers) -> None:
    path = configure(managers)
    await install(managers)
    before = managers.calls
    path.write_text("nonsense")
    for word in ("restart", "start"):
        ended = await verb(managers.workspace, word, env=managers.environment())
        assert ended.status == 78
        assert str(path) in ended.errors[0]
        assert "posthog-llma-daemon config" in ended.stderr
    path.write_text("enabled = false\n")
    ended = await verb(managers.workspace, "restart", env=managers.environment())
    assert (ended.status, len(ended.errors)) == (78, 1)
    assert managers.calls == before


async def test_restart_reads_the_configuration_that_the_service_was_installed_with(managers: Managers) -> None:
    folders = {name: str(managers.workspace.root / name) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    await install(managers, "--yes", **SET_UP, **folders)
    state = Path(folders["XDG_STATE_HOME"]) / "posthog-llma-daemon"
    shutil.rmtree(state)
    ended = await verb(managers.workspace, "restart", env=managers.environment())
    assert (ended.status, ended.stderr) == (0, "")
    assert state.is_dir()


async def test_restart_and_start_make_a_removed_state_folder_again(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    for word in ("restart", "start"):
        shutil.rmtree(state)
        ended = await verb(managers.workspace, word, env=managers.environment())
        assert (ended.status, ended.stderr) == (0, "")
        assert stat.S_IMODE(state.stat().st_mode) == 0o700


@pytest.mark.parametrize("status", ["217", "226"])
async def test_a_sandbox_that_cannot_be_made_any_more_is_mended_by_install(managers: Managers, status: str) -> None:
    configure(managers)
    await install(managers)
    managers.say("no-namespaces", status)
    ended = await verb(managers.workspace, "restart", env=managers.environment())
    assert ended.status == 1
    assert f"exit status {status}" in ended.errors[0]
    assert "`posthog-llma-daemon install` mends both" in ended.errors[0]
    checked = await verb(managers.workspace, "doctor", env=managers.environment())
    assert "`posthog-llma-daemon install` mends both" in checked.stdout
    assert (await install(managers)).status == 0


async def test_restart_starts_a_service_that_systemd_has_given_up(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    managers.say("start-limit")
    ended = await verb(managers.workspace, "restart", env=managers.environment())
    assert (ended.status, ended.stderr) == (0, "")
    assert "systemctl --user reset-failed posthog-llma-daemon.service" in managers.calls


async def test_stop_and_start(managers: Managers) -> None:
    env = managers.environment()
    ended = await verb(managers.workspace, "stop", env=env)
    assert (ended.status, "no service is installed" in ended.errors[0]) == (1, True)
    configure(managers)
    await install(managers)
    ended = await verb(managers.workspace, "start", env=env)
    assert (ended.status, ended.stdout) == (0, "already running (pid 4711)\n")
    ended = await verb(managers.workspace, "stop", env=env)
    assert (ended.status, ended.stderr) == (0, "")
    assert "`posthog-llma-daemon start`" in ended.stdout
    assert managers.calls[-1] == "systemctl --user stop posthog-llma-daemon.service"
    ended = await verb(managers.workspace, "stop", env=env)
    assert (ended.status, ended.stdout) == (0, "the service does not run\n")
    ended = await verb(managers.workspace, "start", env=env)
    assert (ended.status, ended.stdout) == (0, "running: following 3 sessions (pid 4711)\n")


def journaled(message: object) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1793966400000000", "MESSAGE": message}) + "\n"


async def test_logs_show_the_journal_as_a_terminal_shows_the_daemons_log(managers: Managers) -> None:
    line = '{"event": "delivery_stopped", "host": "h", "reason": "401 no", "hint": "login", "level": "error"}'
    lines = [journaled(line), journaled("Started it."), journaled([104, 0xC3, 0xBC]), "one\n"]
    managers.say("journal", "".join(lines))
    env = managers.environment(TZ="UTC")
    ended = await verb(managers.workspace, "logs", "-f", "-n", "7", env=env)
    assert ended.status == 0
    assert [each.split() for each in ended.stdout.splitlines()] == [
        ["2026-11-06", "12:00:00", "[error", "]", "delivery_stopped", "reason='401", "no'", "host=h", "hint=login"],
        ["2026-11-06", "12:00:00", "Started", "it."],
        ["2026-11-06", "12:00:00", "hü"],
        ["one"],
    ]
    called = (managers.folder / "calls").read_text().splitlines()[-1]
    unit = "posthog-llma-daemon.service"
    assert called == f"journalctl --user --user-unit {unit} --lines 7 --follow --output json"
    ended = await verb(managers.workspace, "logs", "--json", env=env)
    assert ended.stdout.splitlines()[0] == line


async def test_logs_without_a_service_say_so_first(managers: Managers) -> None:
    """The journal of a removed service may still be useful."""
    managers.say("journal", "one\n")
    ended = await verb(managers.workspace, "logs", env=managers.environment())
    assert (ended.status, ended.stdout) == (0, "one\n")
    [line] = ended.stderr.splitlines()
    assert line.startswith("note: no service is installed")
    assert "posthog-llma-daemon install" in line
    configure(managers)
    await install(managers)
    ended = await verb(managers.workspace, "logs", env=managers.environment())
    assert ended.stderr == ""


def everything(managers: Managers) -> set[str]:
    home = managers.workspace.home
    return {str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()}


async def test_uninstall_leaves_the_state_and_the_users_config(managers: Managers) -> None:
    configure(managers)
    await install(managers, "--yes", HTTPS_PROXY="http://proxy:3128")
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    (state / "state.db").touch()
    ended = await verb(managers.workspace, "uninstall", env=managers.environment())
    assert (ended.status, ended.stderr) == (0, "")
    assert managers.calls[-3:] == [
        "systemctl --user disable --now posthog-llma-daemon.service",
        "systemctl --user daemon-reload",
        "systemctl --user reset-failed posthog-llma-daemon.service",
    ]
    assert everything(managers) == {
        ".config/posthog-llma-daemon/config.toml",
        ".local/state/posthog-llma-daemon/state.db",
    }
    assert f"left: {state}\n" in ended.stdout
    assert ended.stdout.endswith("`posthog-llma-daemon uninstall --purge` removes these files too\n")


async def test_purge_leaves_nothing(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    (managers.workspace.home / ".local" / "state" / "posthog-llma-daemon" / "state.db").touch()
    asked = await verb(managers.workspace, "uninstall", "--purge", env=managers.environment())
    assert (asked.status, "--yes" in asked.errors[0]) == (2, True)
    assert managers.unit.exists(), "the user has not agreed"
    ended = await verb(managers.workspace, "uninstall", "--purge", "--yes", env=managers.environment())
    assert (ended.status, ended.stderr) == (0, "")
    assert everything(managers) == set()
    assert not config_folder(managers).exists()


async def test_uninstall_without_a_service_is_not_an_error_and_says_so(managers: Managers) -> None:
    ended = await verb(managers.workspace, "uninstall", env=managers.environment())
    assert (ended.status, ended.stdout) == (0, "no service is installed\n")
    managers.say("no-bus")
    ended = await verb(managers.workspace, "uninstall", "--purge", "--yes", env=managers.environment())
    assert (ended.status, ended.stdout, ended.stderr) == (0, "no service is installed\n", "")


async def test_uninstall_works_without_a_user_manager(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    wanted = managers.unit.parent / "default.target.wants" / managers.unit.name
    wanted.parent.mkdir()
    wanted.symlink_to(managers.unit)
    managers.say("no-bus")
    ended = await verb(managers.workspace, "uninstall", env=managers.environment())
    assert ended.status == 0
    assert "not stopped, because systemd's user manager does not answer" in ended.stdout
    assert not managers.unit.exists()
    assert not wanted.is_symlink()


async def test_a_drop_in_of_the_user_is_kept_and_named(managers: Managers) -> None:
    configure(managers)
    await install(managers)
    own = managers.unit.with_name(f"{managers.unit.name}.d")
    own.mkdir()
    (own / "override.conf").touch()
    ended = await verb(managers.workspace, "uninstall", env=managers.environment())
    assert str(own) in ended.stdout
    assert own.exists()


async def test_purge_refuses_while_a_daemon_runs(managers: Managers) -> None:
    configure(managers)
    state = managers.workspace.home / ".local" / "state" / "posthog-llma-daemon"
    prepare_state_dir(state)
    with StateLock(state):
        ended = await verb(managers.workspace, "uninstall", "--purge", "--yes", env=managers.environment())
    assert ended.status == 1
    assert f"pid {os.getpid()}" in ended.errors[0]
    assert state.exists()
    prepare_state_dir(local_folder(state))
    with StateLock(local_folder(state), verb="view"):
        ended = await verb(managers.workspace, "uninstall", "--purge", "--yes", env=managers.environment())
    assert f"`view` (pid {os.getpid()}) is running on {local_folder(state)}" in ended.errors[0]
    assert state.exists()
