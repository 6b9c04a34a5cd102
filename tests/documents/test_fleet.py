"""The example of a Kubernetes job is one: it parses, and the command in it exists with its options."""

from __future__ import annotations

import re

import yaml

from daemon.cli.archive import archive
from tests.support.documents import DOCS

EXAMPLE = re.search(r"^```yaml\n(.*?)^```", (DOCS / "fleet.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


def test_the_job_on_kubernetes_runs_a_command_that_there_is() -> None:
    assert EXAMPLE is not None
    job = yaml.safe_load(EXAMPLE[1])
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] in ("Never", "OnFailure")
    [container] = pod["containers"]
    assert container["command"] == ["posthog-llma-daemon"]
    verb, *arguments = container["args"]
    assert verb == "archive"
    # Raises for an option that there is not, or a value that it does not take.
    context = archive.make_context("archive", arguments)
    assert context.params["urls"] == ("s3://claude-logs",)
    assert context.params["jobs"] == int(container["resources"]["requests"]["cpu"])
    assert context.params["manifest"] == "s3://claude-logs-state/manifest"
    assert {each["name"] for each in container["env"]} >= {"POSTHOG_API_KEY", "POSTHOG_LLMA_CC_ENABLED"}
