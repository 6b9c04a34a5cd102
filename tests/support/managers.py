"""Stand-ins for systemd and launchd: executables for the PATH. They do what tests look at, and note their calls.

No user manager runs where tests run. So only the real managers' own tools check the unit and agent files.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.client import Workspace

__all__ = ["Managers"]

_ROOT = Path(__file__).parents[2]

_SYSTEMCTL = r"""
[ "$1" = --user ] || exit 64
shift
if [ -e "$here/no-bus" ]; then echo 'Failed to connect to bus: No medium found' >&2; exit 1; fi
case "$1" in
show-environment) cat "$here/environment" ;;
daemon-reload) ;;
reset-failed) rm -f "$here/start-limit" ;;
enable) echo enabled >"$here/enabled" ;;
disable) rm -f "$here/enabled" "$here/active" ;;
stop) rm -f "$here/active" ;;
restart)
  status=0
  if [ -e "$here/fails" ]; then status=$(cat "$here/fails"); fi
  if [ -e "$here/no-namespaces" ] && grep -q '^PrivateUsers=true' "$here/unit"; then
    status=$(cat "$here/no-namespaces")
  fi
  if [ -e "$here/start-limit" ]; then status=1; fi
  echo "$status" >"$here/status"
  if [ "$status" != 0 ]; then rm -f "$here/active"; echo "Job for $2 failed." >&2; exit 1; fi
  touch "$here/active" ;;
show)
  status=$(cat "$here/status" 2>/dev/null || echo 0)
  if [ -e "$here/active" ]; then
    printf 'ActiveState=active\nSubState=running\nMainPID=4711\nStatusText=following 3 sessions\n'
  else
    printf 'ActiveState=failed\nSubState=failed\nMainPID=0\nStatusText=\n'
  fi
  result=exit-code
  if [ -e "$here/start-limit" ]; then result=start-limit-hit; fi
  printf 'Result=%s\nExecMainStatus=%s\n' "$result" "$status"
  cat "$here/sandbox" 2>/dev/null
  if [ -e "$here/enabled" ]; then echo UnitFileState=enabled; else echo UnitFileState=; fi ;;
*) exit 64 ;;
esac
"""

_LOGINCTL = r"""
case "$1" in
enable-linger)
  if [ -e "$here/lingers" ]; then echo 'Could not enable linger: Access denied' >&2; exit 1; fi
  if [ -e "$here/no-linger" ]; then echo 'Could not enable linger: Access denied' >&2; exit 1; fi
  touch "$here/lingers" ;;
show-user) if [ -e "$here/lingers" ]; then echo Linger=yes; else echo Linger=no; fi ;;
*) exit 64 ;;
esac
"""

_JOURNALCTL = r"""
if [ ! -s "$here/journal" ]; then echo 'No journal files were opened due to insufficient permissions.' >&2; fi
cat "$here/journal"
"""

# What is asked again and again while somebody waits is answered without an interpreter.
_LAUNCHCTL = r"""
case "$1" in
getenv) exec sed -n "s/^$2=//p" "$here/environment" ;;
print)
  case "$2" in
  */com.posthog.llma-daemon)
    pid=$(cat "$here/loaded" 2>/dev/null) || exit 113
    if [ -e "$here/code" ]; then
      printf '\tstate = not running\n\tlast exit code = %s\n' "$(cat "$here/code")"
    else
      printf '\tstate = running\n\tpid = %s\n\tlast exit code = (never exited)\n' "$pid"
    fi ;;
  *) if [ -e "$here/no-${2%%/*}" ]; then exit 113; fi ;;
  esac ;;
bootstrap)
  if [ -e "$here/busy" ]; then
    rm "$here/busy"
    echo 'Bootstrap failed: 5: Input/output error' >&2
    exit 5
  fi
  exec "$python" -I -S "$0-bootstrap" "$here" "$3" ;;
bootout)
  # Like the real one it is done before the process is.
  if [ -e "$here/code" ]; then rm "$here/loaded"; else touch "$here/leaving"; kill -TERM "$(cat "$here/loaded")"; fi ;;
esac
"""

# Runs the daemon for real, as the agent file says. What waits for it and notes its exit status is a process of its own.
# The console script is what the fork server runs, if there is one: a new interpreter would take half a second.
_BOOTSTRAP = r"""
import json, os, plistlib, socket, subprocess, sys, time
from pathlib import Path

here = Path(sys.argv[1])
loaded, code, leaving = here / "loaded", here / "code", here / "leaving"
with open(sys.argv[2], "rb") as file:
    agent = plistlib.load(file)
code.unlink(missing_ok=True)
if os.fork():
    while not loaded.exists():
        time.sleep(0.01)
    sys.exit()
os.setsid()
quiet = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(quiet, number)
environ = {**os.environ, **agent["EnvironmentVariables"]}
program, *arguments = agent["ProgramArguments"]
with open(agent["StandardErrorPath"], "ab") as errors:
    if (here / "forks").exists() and Path(program).read_text() == (here / "console-script").read_text():
        path, cwd = (here / "forks").read_text().splitlines()
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(path)
            request = {"module": "daemon.cli", "arguments": arguments, "environment": environ, "cwd": cwd}
            request |= {"stdin": os.devnull, "stdout": os.devnull, "stderr": errors.name}
            request |= {"controlled": False, "ignored": []}
            server.sendall(json.dumps(request).encode() + b"\n")
            answers = server.makefile()
        pid, ended = int(next(answers)), lambda: int(next(answers))
    else:
        child = subprocess.Popen(agent["ProgramArguments"], env=environ, stderr=errors)
        pid, ended = child.pid, child.wait
(here / "new").write_text(str(pid))
(here / "new").rename(loaded)
(here / "new-code").write_text(str(ended()))
if leaving.exists():
    leaving.unlink()
    loaded.unlink()
else:
    (here / "new-code").rename(code)
"""


@dataclass(frozen=True, slots=True)
class Managers:
    """The stand-ins on one machine.

    Files in `folder` tell them what to do; the scripts name each of them: `no-bus`, `no-namespaces`, `fails`, ...

    Args:
        workspace: the machine.
    """

    workspace: Workspace

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.programs.mkdir()
        for name in ("environment", "journal", "calls"):
            (self.folder / name).touch()
        (self.folder / "unit").symlink_to(self.unit)
        for name, text in (
            ("systemctl", _SYSTEMCTL),
            ("loginctl", _LOGINCTL),
            ("journalctl", _JOURNALCTL),
            ("launchctl", f"python={shlex.quote(sys.executable)}{_LAUNCHCTL}"),
        ):
            here = shlex.quote(str(self.folder))
            self._write(name, f'#!/bin/sh\nhere={here}\necho "{name} $*" >>"$here/calls"\n{text}')
        self._write("launchctl-bootstrap", _BOOTSTRAP)
        # What a console script does.
        run = f'cd {shlex.quote(str(_ROOT))}\nexec {sys.executable} -m daemon.cli "$@"\n'
        self._write("posthog-llma-daemon", f"#!/bin/sh\n{run}")
        self.say("console-script", self.program.read_text())
        if self.workspace.forks is not None:
            self.say("forks", f"{self.workspace.forks.path}\n{_ROOT}\n")

    @property
    def folder(self) -> Path:
        """What the stand-ins remember, and what they are told."""
        return self.workspace.root / "manager"

    @property
    def programs(self) -> Path:
        """The folder for the PATH."""
        return self.workspace.root / "programs"

    @property
    def program(self) -> Path:
        """The daemon's executable."""
        return self.programs / "posthog-llma-daemon"

    @property
    def unit(self) -> Path:
        """Where the unit file belongs."""
        return self.workspace.home / ".config" / "systemd" / "user" / "posthog-llma-daemon.service"

    @property
    def agent(self) -> Path:
        """Where the agent file belongs."""
        return self.workspace.home / "Library" / "LaunchAgents" / "com.posthog.llma-daemon.plist"

    @property
    def calls(self) -> list[str]:
        """Every call of them so far, without those that only look."""
        looks = ("show", "print", "getenv", "journalctl")
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if not any(word in line.split("=")[0] for word in looks)]

    def say(self, name: str, text: str = "") -> None:
        """Tell the stand-ins something."""
        (self.folder / name).write_text(text)

    def install(self) -> None:
        """Have a unit that is enabled and runs."""
        self.unit.parent.mkdir(parents=True)
        self.unit.touch()
        self.say("enabled")
        self.say("active")

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of a shell on this machine, in which the stand-ins are found first."""
        environ = self.workspace.environment()
        return environ | {"PATH": f"{self.programs}:{environ['PATH']}"} | variables

    def _write(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
