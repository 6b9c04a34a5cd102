"""The agent file for launchd."""

from __future__ import annotations

import plistlib
from html import escape

from daemon.installing import templates
from daemon.installing.plan import Plan

__all__ = ["LABEL", "render"]

LABEL = "com.posthog.llma-daemon"


def render(plan: Plan) -> str:
    """Return the text of the agent file: a property list in XML."""
    arguments = [str(plan.program), "run", "--exit-zero-on-config", "--log-file", str(plan.log_file)]
    text = templates.fill(
        templates.AGENT,
        {
            "label": escape(LABEL),
            "program_arguments": "\n".join(f"\t\t<string>{escape(argument)}</string>" for argument in arguments),
            "environment": "\n".join(
                f"\t\t<key>{escape(name)}</key>\n\t\t<string>{escape(value)}</string>"
                for name, value in sorted(plan.environment.items())
            ),
            "error_file": escape(str(plan.log_file.with_suffix(".stderr"))),
        },
    )
    # The values come from outside, so check that launchd will read them as they were meant.
    read = plistlib.loads(text.encode())
    assert read["ProgramArguments"] == arguments
    assert read["EnvironmentVariables"] == dict(plan.environment)
    return text
