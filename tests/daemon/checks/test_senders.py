"""Who else sends the same sessions to PostHog: its plugin, OpenTelemetry, its gateway, its wrapper of the SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.checks import Finding
from daemon.checks.senders import check_senders

SENDING = {"POSTHOG_LLMA_CC_ENABLED": "true", "POSTHOG_API_KEY": "phc_a_key"}
TELEMETRY = {"CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_TRACES_EXPORTER": "otlp"}
OTEL = "https://us.i.posthog.com/i/v0/ai/otel"


class Machine:
    """Claude Code's folder, and a project."""

    def __init__(self, root: Path) -> None:
        self.config = root / "claude"
        self.project = root / "orchard"
        for folder in (self.config / "plugins", self.project / ".claude"):
            folder.mkdir(parents=True)

    def check(self, **variables: str) -> dict[str, Finding]:
        """Return the findings by name."""
        found = check_senders([self.config], [str(self.project)], variables, ["https://posthog.example.com"])
        return {finding.name: finding for finding in found}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_usually_nobody_else_sends(machine: Machine) -> None:
    found = machine.check(ANTHROPIC_BASE_URL="https://gateway.example.com", **SENDING)
    assert {name: each.level for name, each in found.items()} == {"PostHog plugin": "ok"}


@pytest.mark.parametrize("name", ["settings.json", "settings.local.json"])
def test_a_plugin_that_a_project_enables(machine: Machine, name: str) -> None:
    document = {"enabledPlugins": {"posthog@x": True}, "env": SENDING}
    (machine.project / ".claude" / name).write_text(json.dumps(document))
    finding = machine.check()["PostHog plugin"]
    assert finding.level == "warning"
    assert str(machine.project) in finding.message
    (machine.project / ".claude" / "settings.local.json").write_text('{"enabledPlugins": {"posthog@x": false}}')
    assert machine.check()["PostHog plugin"].level == "ok"


def test_a_plugin_that_is_installed_and_named_in_no_settings_file(machine: Machine) -> None:
    listed = {"version": 2, "plugins": {"posthog-telemetry@official": [{"scope": "user"}]}}
    (machine.config / "plugins" / "installed_plugins.json").write_text(json.dumps(listed))
    assert machine.check(**SENDING)["PostHog plugin"].level == "warning"
    (machine.config / "settings.json").write_text('{"enabledPlugins": {"posthog-telemetry@official": false}}')
    assert machine.check(**SENDING)["PostHog plugin"].level == "ok"


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": OTEL}, True),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://posthog.example.com/i/v0/ai/otel"}, True),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "eu.i.posthog.com:4318"}, True),
        (TELEMETRY | {"OTEL_TRACES_EXPORTER": "console, otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": OTEL}, True),
        (
            {
                "CLAUDE_CODE_ENABLE_TELEMETRY": "true",
                "OTEL_LOGS_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": OTEL,
            },
            True,
        ),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example.com"}, False),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://notposthog.com"}, False),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://["}, False),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": OTEL}, False),
        (
            TELEMETRY
            | {"OTEL_EXPORTER_OTLP_ENDPOINT": OTEL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://otel.example.com"},
            False,
        ),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": OTEL, "OTEL_TRACES_EXPORTER": "none"}, False),
        (TELEMETRY | {"OTEL_EXPORTER_OTLP_ENDPOINT": OTEL, "CLAUDE_CODE_ENABLE_TELEMETRY": "0"}, False),
    ],
)
def test_an_export_of_traces_or_logs_to_posthog(machine: Machine, variables: dict[str, str], warned: bool) -> None:
    assert ("OpenTelemetry" in machine.check(**variables)) == warned
    (machine.config / "settings.json").write_text(json.dumps({"env": variables}))
    found = machine.check()
    assert ("OpenTelemetry" in found) == warned
    assert not warned or found["OpenTelemetry"].level == "warning"


def test_requests_through_posthogs_gateway(machine: Machine) -> None:
    finding = machine.check(ANTHROPIC_BASE_URL="https://gateway.us.posthog.com/llm")["gateway"]
    assert (finding.level, "counted twice" in finding.message) == ("warning", True)


@pytest.mark.parametrize("folder", [".venv", "venv", None])
def test_posthogs_wrapper_of_the_agent_sdk(machine: Machine, tmp_path: Path, folder: str | None) -> None:
    prefix = tmp_path / "environment" if folder is None else machine.project / folder
    variables = {"VIRTUAL_ENV": str(prefix)} if folder is None else {}
    packages = prefix / "lib" / "python3.12" / "site-packages"
    (packages / "posthog" / "ai" / "claude_agent_sdk").mkdir(parents=True)
    assert "SDK wrapper" not in machine.check(**variables), "the wrapper without the SDK does nothing"
    (packages / "claude_agent_sdk").mkdir()
    finding = machine.check(**variables)["SDK wrapper"]
    assert (finding.level, str(prefix) in finding.message) == ("warning", True)
