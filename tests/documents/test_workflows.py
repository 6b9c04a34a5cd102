"""The workflows of this repository: tests, the build, and publishing by trusted publishing."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documents import ROOT

FOLDER = ROOT / ".github" / "workflows"


def workflow(name: str) -> dict[Any, Any]:
    found = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def test_a_tag_is_published_only_after_the_tests_and_under_its_own_version() -> None:
    jobs = workflow("publish.yml")["jobs"]
    assert set(jobs["publish"]["needs"]) == {"version", "test"}
    assert jobs["test"]["uses"] == "./.github/workflows/test.yml"


def test_publishing_needs_no_token() -> None:
    content = workflow("publish.yml")
    assert content["permissions"] == {"contents": "read"}
    # A token of PyPI's would be a secret; trusted publishing asks GitHub for an identity in its place.
    assert content["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (FOLDER / "publish.yml").read_text("utf-8")


def test_what_is_published_is_what_was_built_and_tested() -> None:
    [built] = [
        step["with"]["name"]
        for step in workflow("test.yml")["jobs"]["build"]["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact")
    ]
    fetched = workflow("publish.yml")["jobs"]["publish"]["steps"][0]["with"]["name"]
    assert built == fetched


@pytest.mark.parametrize("name", ["test.yml", "publish.yml"])
def test_every_job_has_a_time_limit(name: str) -> None:
    jobs = workflow(name)["jobs"]
    assert [job for job, content in jobs.items() if "timeout-minutes" not in content and "uses" not in content] == []


def test_litellm_is_tested_in_the_versions_that_the_recorder_names() -> None:
    def pinned(folder: Path, extra: str) -> list[str]:
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        return [each for each in project["optional-dependencies"][extra] if each.startswith("litellm")]

    assert pinned(ROOT, "litellm-test") == pinned(ROOT / "recorder", "litellm")


def test_every_version_that_the_package_names_is_tested() -> None:
    classifiers = (ROOT / "pyproject.toml").read_text("utf-8")
    jobs = workflow("test.yml")["jobs"]
    tested = {"3.11", *jobs["tests"]["strategy"]["matrix"]["python"]}
    assert {version for version in ("3.11", "3.12", "3.13", "3.14") if f":: {version}" in classifiers} <= tested
    assert jobs["everything"]["steps"][1]["with"]["python-version"] == "3.11"
