"""`doctor`: its findings on a healthy machine, and on machines with one problem each."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import Answer
from tests.support.client import Workspace
from tests.support.managers import Managers
from tests.support.processes import KEY, ROOT, environment, following, put_logs, tree, verb
from tests.support.project_server import ProjectServer
from tests.support.terminal import on_terminal, plain
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the service is systemd's here")

Json = dict[str, Any]


@dataclass
class Machine:
    """A healthy machine: configured, with logs, a running service and a client on the PATH."""

    managers: Managers
    server: ProjectServer

    @property
    def workspace(self) -> Workspace:
        return self.managers.workspace

    @property
    def config(self) -> Path:
        return self.workspace.home / ".config" / "posthog-llma-daemon" / "config.toml"

    def env(self, **variables: str) -> dict[str, str]:
        path = self.managers.environment()["PATH"]
        own = environment(self.workspace) | {"PATH": path}
        return own | variables

    async def doctor(self, **variables: str) -> tuple[int, dict[str, Json]]:
        """Return the exit code and the worst finding for each name."""
        ended = await verb(self.workspace, "doctor", "--json", env=self.env(**variables))
        assert ended.stderr == ""
        assert KEY not in ended.stdout
        document = json.loads(ended.stdout)
        order = ["ok", "warning", "fail"]
        findings: dict[str, Json] = {}
        for finding in document["checks"]:
            known = findings.get(finding["name"])
            if known is None or order.index(finding["level"]) > order.index(known["level"]):
                findings[finding["name"]] = finding
            assert finding["level"] == "ok" or finding["hint"], finding
        assert document["ok"] == (ended.status == 0) == all(each["level"] != "fail" for each in findings.values())
        return ended.status, findings

    def tell_client(self, document: Json) -> None:
        """Write Claude Code's settings."""
        (self.workspace.config / "settings.json").write_text(json.dumps(document))


def documented(heading: str) -> set[str]:
    """Return the fields in the first table below *heading* in docs/json.md."""
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    section = re.split("^#", page.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` ", section, re.MULTILINE))


@pytest.fixture
async def machine(workspace: Workspace) -> AsyncIterator[Machine]:
    async with ProjectServer(KEY) as server:
        machine = Machine(Managers(workspace), server)
        put_logs(workspace, tree())
        machine.config.parent.mkdir(parents=True)
        machine.config.write_text(
            f'api_key = "{KEY}"\nenabled = true\nhost = "{server.url}"\nclaude_config_dir = "{workspace.config}"\n'
            f'state_dir = "{workspace.state}"\ndistinct_id = "ada@example.com"\n'
        )
        machine.config.chmod(0o600)
        claude = machine.managers.programs / "claude"
        claude.write_text("#!/bin/sh\necho '2.1.329 (Claude Code)'\n")
        claude.chmod(0o755)
        machine.managers.install()
        workspace.state.mkdir(mode=0o700)
        yield machine
        assert server.events == []
        assert server.violations == []


async def test_a_healthy_machine_passes_every_check(machine: Machine) -> None:
    status, findings = await machine.doctor()
    assert {name: each["message"] for name, each in findings.items() if each["level"] == "fail"} == {}
    assert status == 0
    assert {
        "config",
        "key",
        "capture",
        "clock",
        "key accepted",
        "permissions",
        "state folder",
        "disk space",
        "Claude Code",
        "logs",
        "watches",
        "patterns",
        "session persistence",
        "PostHog plugin",
        "service",
        "environment",
    } <= findings.keys()
    assert "2.1.329" in findings["Claude Code"]["message"]
    assert findings["key accepted"]["message"].endswith("knows phc_a_**********")


async def test_the_text_output_has_a_line_for_each_check_by_group_and_ends_with_the_verdict(machine: Machine) -> None:
    shown = await verb(machine.workspace, "doctor", env=machine.env())
    ended = await verb(machine.workspace, "doctor", "--json", env=machine.env())
    document = json.loads(ended.stdout)
    *groups, verdict = shown.stdout.rstrip("\n").split("\n\n")
    titles = {"Sending": "sending", "This machine": "machine", "Claude Code": "client", "Service": "service"}
    assert [group.splitlines()[0] for group in groups] == list(titles)
    lines = [(titles[group.splitlines()[0]], line) for group in groups for line in group.splitlines()[1:]]
    assert [(group, line[:9].rstrip(), line[9:].partition(":")[0]) for group, line in lines] == [
        (each["group"], each["level"], each["name"]) for each in document["checks"]
    ]
    assert verdict == document["verdict"] == "Everything works, with 1 warning (service)."
    assert KEY not in shown.stdout
    assert set(document["checks"][0]) == documented("Check")
    assert set(document) == documented("doctor --json")


async def test_the_verdict_counts_problems_and_names_the_first_thing_to_do(machine: Machine) -> None:
    machine.server.keys.clear()
    machine.workspace.state.chmod(0o755)
    (machine.managers.programs / "claude").write_text("#!/bin/sh\nexit 1\n")
    shown = await verb(machine.workspace, "doctor", env=machine.env())
    verdict = shown.stdout.splitlines()[-1]
    assert verdict.startswith(
        "2 problems to fix, and 2 warnings (Claude Code, service). Start with key accepted: copy the"
    )


async def test_colors_are_for_terminals_whose_user_wants_them(machine: Machine) -> None:
    shown = await on_terminal(machine.workspace, "doctor", env=machine.env(), columns=120)
    assert "\x1b[33mEverything works, with 1 warning (service).\x1b[0m" in shown.stdout
    lines = [line for line in plain(shown.stdout).splitlines() if str(machine.workspace.root) not in line]
    assert max(map(len, lines)) < 120
    without = await on_terminal(machine.workspace, "doctor", env=machine.env(NO_COLOR="1"), columns=120)
    assert "\x1b" not in without.stdout
    assert re.sub(r"[\d,]+ MB", "", plain(shown.stdout)) == re.sub(r"[\d,]+ MB", "", without.stdout)


async def test_nothing_is_set_up(workspace: Workspace) -> None:
    managers = Managers(workspace)
    ended = await verb(workspace, "doctor", env=managers.environment())
    assert ended.status == 1
    sending = ended.stdout.partition("\n\n")[0].splitlines()
    assert len(sending) == 2, "one cause, one line"
    assert sending[1].startswith("fail     config: sending is not set up -> run `posthog-llma-daemon login`")
    assert ended.stdout.splitlines()[-1].startswith("1 problem to fix, and ")
    assert not workspace.state.exists()
    assert not list(workspace.home.rglob("*"))


async def test_a_wrong_option_exits_with_2(workspace: Workspace) -> None:
    assert (await verb(workspace, "doctor", "--everything")).status == 2


async def test_only_local_is_a_way_of_life(machine: Machine) -> None:
    machine.config.write_text(f'claude_config_dir = "{machine.workspace.config}"\n')
    machine.managers.unit.unlink()
    env = machine.env()
    assert (await verb(machine.workspace, "run", "--local", "--once", env=env)).status == 0
    status, findings = await machine.doctor()
    assert status == 0
    assert {name: each["level"] for name, each in findings.items() if each["level"] != "ok"} == {}
    assert "stay on this machine" in findings["config"]["message"]
    assert "run --local" in findings["service"]["message"]


async def test_sending_that_was_set_up_once_is_not_only_local(machine: Machine) -> None:
    machine.config.write_text(f'claude_config_dir = "{machine.workspace.config}"\n')
    assert (await verb(machine.workspace, "run", "--local", "--once", env=machine.env())).status == 0
    sending = machine.env(POSTHOG_API_KEY=KEY, POSTHOG_LLMA_CC_ENABLED="true", POSTHOG_LLMA_EXCLUDE="/**")
    assert (await verb(machine.workspace, "run", "--once", env=sending)).status == 0
    status, findings = await machine.doctor()
    assert (status, findings["config"]["level"]) == (1, "fail")
    with machine.config.open("a") as file:
        file.write("enabled = false\n")
    _, findings = await machine.doctor()
    assert findings["config"]["level"] == "ok", "it was turned off"


async def test_the_daemons_own_problems_are_reported(machine: Machine) -> None:
    async with following(machine.workspace, env=machine.env()) as daemon:
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            await check(machine, "daemon", "fail", f"pid {daemon.pid}) is suspended")
        finally:
            os.kill(daemon.pid, signal.SIGCONT)


async def test_settings_that_cannot_be_read(machine: Machine) -> None:
    machine.config.chmod(0o644)
    status, findings = await machine.doctor(POSTHOG_LLMA_CONTENT="some")
    assert (status, list(findings)) == (1, ["config"])
    shown = await verb(machine.workspace, "doctor", env=machine.env(POSTHOG_LLMA_CONTENT="some"))
    assert f"chmod 600 {machine.config}" in shown.stdout
    assert "POSTHOG_LLMA_CONTENT" in shown.stdout


async def check(machine: Machine, name: str, level: str, *words: str, **variables: str) -> None:
    """Check one finding, and that no other check fails because of it."""
    status, findings = await machine.doctor(**variables)
    assert findings[name]["level"] == level, findings[name]
    for word in words:
        assert word in findings[name]["message"] + " -> " + findings[name]["hint"]
    others = {other for other, each in findings.items() if each["level"] == "fail"} - {name}
    assert others == set()
    assert status == (1 if level == "fail" else 0)


# ---------------------------------------------------------------------- PostHog


async def test_a_key_that_belongs_to_no_project(machine: Machine) -> None:
    machine.server.keys.clear()
    await check(machine, "key accepted", "fail", machine.server.url, "phc_a_", "login")


async def test_a_host_that_does_not_tell_about_keys(machine: Machine) -> None:
    machine.server.fault = lambda request: Answer(status=404) if request.path.startswith("/flags") else None
    await check(machine, "key accepted", "warning", "404")


async def test_an_older_installation_without_the_ai_path(machine: Machine) -> None:
    machine.server.ai_path = False
    await check(machine, "capture", "ok", "/batch/")


@pytest.mark.parametrize(
    ("status", "word"), [(401, "POSTHOG_API_KEY"), (403, "POSTHOG_HOST"), (302, "POSTHOG_HOST"), (200, "POSTHOG_HOST")]
)
async def test_a_host_that_is_not_posthog(machine: Machine, status: int, word: str) -> None:
    answer = Answer(status=status, body=b"<html>")
    machine.server.fault = lambda request: None if request.path.startswith("/flags") else answer
    await check(machine, "capture", "fail", str(status), word)


async def test_a_host_that_cannot_be_reached(machine: Machine) -> None:
    _, findings = await machine.doctor(POSTHOG_HOST="http://127.0.0.1:9")
    assert findings["capture"]["level"] == "fail"
    assert "127.0.0.1:9" in findings["capture"]["message"]
    assert not {"clock", "key accepted"} & findings.keys(), "one cause, one finding"


async def test_a_host_that_cannot_be_reached_is_reported_once_while_the_daemon_fails_there(machine: Machine) -> None:
    env = machine.env(POSTHOG_HOST="http://127.0.0.1:9")
    async with following(machine.workspace, "--from-start", env=env) as daemon:
        report = machine.workspace.state / "status.json"
        await daemon.until(lambda: report.exists() and '"backing_off"' in report.read_text())
        _, findings = await machine.doctor(POSTHOG_HOST="http://127.0.0.1:9")
    assert findings["capture"]["level"] == "fail"
    assert "daemon" not in findings


async def test_a_proxy_is_named_without_its_password(machine: Machine) -> None:
    proxy = "http://user:secret@127.0.0.1:9"
    _, findings = await machine.doctor(http_proxy=proxy, POSTHOG_HOST=machine.server.url)
    assert findings["capture"]["level"] == "fail"
    assert "through the proxy http://127.0.0.1:9" in findings["capture"]["message"]
    assert "secret" not in json.dumps(findings)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A folder with a certificate for this machine that is not trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *name],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return tmp_path


async def test_a_certificate_that_is_not_trusted(machine: Machine, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    async with ProjectServer(KEY, tls=context) as server:
        address = {"POSTHOG_HOST": server.url}
        _, findings = await machine.doctor(**address)
        assert findings["capture"]["level"] == "fail"
        assert "trust store" in findings["capture"]["hint"]
        _, findings = await machine.doctor(SSL_CERT_FILE=str(certificate / "cert.pem"), **address)
        assert "TLS verified" in findings["capture"]["message"]
        assert findings["key accepted"]["level"] == "ok"


@pytest.mark.parametrize(("minutes", "level"), [(5, "warning"), (-5, "warning"), (120, "fail")])
async def test_a_wrong_clock(machine: Machine, minutes: int, level: str) -> None:
    machine.server.ahead = timedelta(minutes=minutes)
    await check(machine, "clock", level, "behind" if minutes > 0 else "ahead")


async def test_every_project_in_the_configuration_is_checked(machine: Machine) -> None:
    async with ProjectServer() as other:
        key = "phc_a_key_of_another_project"
        with machine.config.open("a") as file:
            file.write(f'[[project]]\npath = "~/elsewhere"\napi_key = "{key}"\nhost = "{other.url}"\n')
        await check(machine, "key accepted", "fail", other.url)
        other.keys.add(key)
        await check(machine, "key accepted", "ok", machine.server.url)
        await check(machine, "patterns", "warning", "path '~/elsewhere'", f"{machine.config}, [[project]] 1")
    assert other.events == []


async def test_no_key_is_needed_if_projects_have_their_own(machine: Machine) -> None:
    lines = machine.config.read_text().splitlines()
    kept = [line for line in lines if line.partition(" ")[0] not in ("api_key", "enabled", "host")]
    machine.config.write_text("\n".join(['enabled = "projects"', *kept]))
    _, findings = await machine.doctor()
    assert findings["key"]["message"].startswith("no key of your own")
    assert "capture" not in findings
    assert {each["level"] for name, each in findings.items() if name != "service"} == {"ok"}


# ---------------------------------------------------------------------- the machine


async def test_a_state_folder_that_others_can_read(machine: Machine) -> None:
    machine.workspace.state.chmod(0o755)
    await check(machine, "permissions", "fail", f"chmod 700 {machine.workspace.state}")


async def test_logs_that_cannot_be_read(machine: Machine) -> None:
    if os.getuid() == 0:
        pytest.skip("root can read everything")
    projects = machine.workspace.config / "projects"
    projects.chmod(0)
    _, findings = await machine.doctor()
    projects.chmod(0o700)
    assert findings["permissions"]["level"] == "fail"


async def test_a_pattern_that_matches_nothing(machine: Machine) -> None:
    with machine.config.open("a") as file:
        file.write('include = ["/home/ada-path-marker/**"]\nexclude = ["~/secert"]\n')
    await check(machine, "patterns", "warning", "exclude pattern '~/secert'", str(machine.config))
    machine.config.write_text(machine.config.read_text().replace("~/secert", "orchard"))
    await check(machine, "patterns", "ok", "7 of the 8 folders")


# ---------------------------------------------------------------------- Claude Code


async def test_no_client(machine: Machine) -> None:
    (machine.managers.programs / "claude").unlink()
    await check(machine, "Claude Code", "warning", "PATH", PATH=f"{machine.managers.programs}:/usr/bin:/bin")


async def test_a_client_that_fails(machine: Machine) -> None:
    (machine.managers.programs / "claude").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    await check(machine, "Claude Code", "warning", "broken")


async def test_no_logs(machine: Machine) -> None:
    shutil.rmtree(machine.workspace.config / "projects")
    await check(machine, "logs", "warning", str(machine.workspace.config / "projects"))


@pytest.mark.parametrize(
    ("document", "level", "word"),
    [
        ({"env": {"CLAUDE_CODE_SKIP_PROMPT_HISTORY": "1"}}, "fail", "CLAUDE_CODE_SKIP_PROMPT_HISTORY"),
        ({"cleanupPeriodDays": 0}, "fail", "cleanupPeriodDays"),
        ({"cleanupPeriodDays": 2}, "warning", "cleanupPeriodDays"),
        ({"cleanupPeriodDays": 7}, "ok", "--no-session-persistence"),
        ({"cleanupPeriodDays": True}, "ok", "on"),
        ({"cleanupPeriodDays": "0"}, "ok", "on"),
        ({"cleanupPeriodDays": -1}, "ok", "on"),
    ],
    ids=str,
)
async def test_sessions_whose_logs_are_not_kept(machine: Machine, document: Json, level: str, word: str) -> None:
    machine.tell_client(document)
    await check(machine, "session persistence", level, word)


async def test_sessions_of_one_of_several_config_folders_whose_logs_are_not_kept(machine: Machine) -> None:
    folders = [machine.workspace.config, machine.workspace.root / "one", machine.workspace.root / "two"]
    for folder, days in zip(folders, (30, 2, 0), strict=True):
        (folder / "projects").mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text(json.dumps({"cleanupPeriodDays": days}))
    place = str(folders[2] / "settings.json")
    variable = os.pathsep.join(map(str, folders))
    await check(machine, "session persistence", "fail", place, "remove it", CLAUDE_CONFIG_DIR=variable)


async def test_sessions_of_this_shell_whose_logs_are_not_kept(machine: Machine) -> None:
    await check(machine, "session persistence", "fail", "environment", CLAUDE_CODE_SKIP_PROMPT_HISTORY="true")


async def test_posthogs_plugin_is_enabled_too(machine: Machine) -> None:
    plugins = {"enabledPlugins": {"other@x": True, "posthog@posthog": True}}
    machine.tell_client(plugins | {"env": {"POSTHOG_LLMA_CC_ENABLED": "True", "POSTHOG_API_KEY": KEY}})
    await check(machine, "PostHog plugin", "warning", "claude plugin disable posthog@posthog", "uploaded", "30 days")


@pytest.mark.parametrize(
    ("enabled", "variables", "word"),
    [
        (True, {}, "not set up to send"),
        # The plugin does not accept this as true.
        (True, {"POSTHOG_LLMA_CC_ENABLED": "1", "POSTHOG_API_KEY": KEY}, "not set up to send"),
        (False, {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": KEY}, "not enabled"),
    ],
)
async def test_a_plugin_that_sends_nothing(
    machine: Machine, enabled: bool, variables: dict[str, str], word: str
) -> None:
    machine.tell_client({"enabledPlugins": {"posthog@claude-plugins-official": enabled}, "env": variables})
    await check(machine, "PostHog plugin", "ok", word)


# ---------------------------------------------------------------------- the service


async def test_a_service_that_does_not_run(machine: Machine) -> None:
    (machine.managers.folder / "active").unlink()
    await check(machine, "service", "fail", "failed", "posthog-llma-daemon restart")


async def test_no_service(machine: Machine) -> None:
    machine.managers.unit.unlink()
    await check(machine, "service", "warning", "not installed", "posthog-llma-daemon install")


async def test_a_daemon_in_a_terminal(machine: Machine) -> None:
    machine.managers.unit.unlink()
    async with following(machine.workspace, env=machine.env()) as daemon:
        await check(machine, "service", "warning", f"outside of a service (pid {daemon.pid})")
        machine.managers.say("no-bus")
        await check(machine, "service", "ok", f"outside of a service (pid {daemon.pid})")


async def test_no_user_manager(machine: Machine) -> None:
    machine.managers.say("no-bus")
    await check(machine, "service", "warning", "No medium found")


async def test_variables_that_only_this_shell_has(machine: Machine) -> None:
    variables = {"POSTHOG_LLMA_CONTENT": "metadata", "HTTPS_PROXY": "http://127.0.0.1:9"}
    await check(machine, "environment", "warning", *variables, "install --yes", **variables)
