"""The distribution by itself: what its wheel has, and that it works where nothing else is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

from tests.support.recorded import ROOT, Recorded
from tests.support.waiting import PATIENCE

VERSIONS = [f"3.{minor}" for minor in range(9, 15)]
"""The Pythons that the recorder supports, from the oldest."""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@cache
def oldest() -> str:
    """Return the oldest interpreter on the PATH, or in pyenv's folder, that the recorder supports."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in VERSIONS:
        for name in (f"python{version}", *map(str, pyenv.glob(f"versions/{version}.*/bin/python"))):
            try:
                subprocess.run([name, "-c", "import venv"], capture_output=True, timeout=PATIENCE, check=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return name
    return sys.executable


def test_nothing_in_it_is_newer_than_the_oldest_python(tmp_path: Path) -> None:
    newer = tmp_path / "newer.py"
    newer.write_text("match 1:\n    case 1:\n        pass\n")
    for path, fits in ((ROOT / "llma_recorder", True), (newer, False)):
        arguments = ["--no-tips", "--no-parse-comments", f"-t={VERSIONS[0]}-", str(path)]
        program = "import sys; from vermin import main; sys.argv[0] = 'vermin'; main()"
        asked = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert (asked.returncode == 0) is fits, asked.stdout + asked.stderr


def test_the_wheel_has_one_package_without_dependencies_and_works_alone(recorded: Recorded, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [archive.read(name).decode() for name in names if name.endswith("/METADATA")]
    # No name of another distribution: python-daemon has the package `daemon`, as our own daemon has.
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"llma_recorder"}
    assert {"llma_recorder/py.typed", "llma_recorder/line.schema.json"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "Requires-Python: >=3.9\n" in metadata
    assert [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line
    ] == []

    environment = tmp_path / "environment"
    run(oldest(), "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, cwd=tmp_path)
    program = Path(__file__).with_name("program.py")
    outbox = {"POSTHOG_LLMA_OUTBOX": str(recorded.folder)}
    run(python, "-I", "-X", "dev", "-W", "error", program, cwd=tmp_path, **outbox)
    spans = {line["name"]: line for line in recorded.lines("span")}
    assert set(spans) == {
        *("all", "stream", "beside the stream", "thread", "task", "in the task", "failed", "child", "parent")
    }
    assert spans["beside the stream"]["parent_id"] == spans["stream"]["parent_id"] == spans["all"]["span_id"]
    assert {line["distinct_id"] for line in recorded.lines("session")} == {"bot"}
    assert recorded.line("trace")["totals"]["cost_usd"] == 4
    assert recorded.dropped == {"too_full": 0, "disk": 0, "encode": 0}


def test_the_license_is_that_of_the_whole_project() -> None:
    assert (ROOT / "LICENSE").read_text() == (ROOT.parent / "LICENSE").read_text()
