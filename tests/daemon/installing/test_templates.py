from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from daemon.installing import templates
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", [templates.UNIT, templates.AGENT])
def test_a_checkout_has_the_templates_at_its_root(name: str) -> None:
    assert templates.find(name) == ROOT / name


def test_a_missing_template_is_an_error() -> None:
    with pytest.raises(templates.TemplateError, match="install the package again"):
        templates.find("systemd/other.service")


def test_a_placeholder_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        templates.fill(templates.UNIT, {})


def run(*command: str | Path, cwd: Path, home: Path) -> str:
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_an_installed_wheel_has_the_templates_and_the_demo_and_finds_its_own_program(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    home = tmp_path / "home"
    home.mkdir()
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, cwd=ROOT, home=home)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for name in (templates.UNIT, templates.AGENT):
        assert f"daemon/service_files/{name}" in names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"daemon", "llma_core"}
    recording = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("daemon/demo/recording/**/*.jsonl")]
    assert len(recording) == 6
    assert set(recording) <= set(names)

    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path, home=home)
    python = venv / "bin" / "python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
    ]
    run(*pip, wheel, cwd=tmp_path, home=home)
    # The dependencies are taken from this environment: nothing is downloaded.
    [packages] = venv.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    program = venv / "bin" / "posthog-llma-daemon"
    printed = run(program, "install", "--print", cwd=tmp_path, home=home)
    if sys.platform == "linux":
        assert f'ExecStart="{program}" run\n' in printed
    else:
        assert f"<string>{program}</string>" in printed
    play = "import sys; from datetime import UTC, datetime; from daemon.demo import player; "
    play += "print(player.__file__, len(list(player.steps(datetime.now(UTC)))))"
    file, count = run(python, "-c", play, cwd=tmp_path, home=home).split()
    assert Path(file).is_relative_to(venv)
    assert count == "27"
    assert "service_files" in run(
        python, "-c", "from daemon.installing import templates as t; print(t.find(t.UNIT))", cwd=tmp_path, home=home
    )
