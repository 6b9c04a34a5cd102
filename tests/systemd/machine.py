"""A small Debian with systemd, booted in namespaces: its own processes, mounts, control groups, and only a loopback.

It needs root, control groups of version 2, and Debian's archive once; the root file system is then kept in a cache. All
that it mounts and starts ends with the process that made it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "Ran", "Unavailable", "check_possible", "isolated", "loopback_up", "packaged", "root_filesystem"]

SUITE = os.environ.get("LLMA_DEBIAN_SUITE", "bookworm")
"""The release of Debian; its systemd is what the service is tested with."""
PACKAGES = "systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,procps,python3"
USER, UID = "ada", 1000
WAIT_SECONDS = 60.0
"""The limit for whatever is waited for: what takes longer is a failure."""

_ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.1
_BUILD_SECONDS = 240.0
_GROUPS = "posthog-llma-daemon-test-"
# It ends when the process that started it does, however that ends.
_SPACES = ("setpriv", "--pdeathsig", "KILL", "unshare")


class Unavailable(Exception):  # noqa: N818 - a state of the machine, not an error
    """This machine cannot boot the other. The message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A program that has ended: its exit status, and what it wrote to both outputs."""

    status: int
    output: str


def run(*argv: str | Path, limit: float = WAIT_SECONDS, **variables: str) -> Ran:
    """Run a program to its end.

    Raises:
        Unavailable: it is missing, or takes too long.
    """
    try:
        ended = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", **variables},
            timeout=limit,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{argv[0]} did not end within {limit:.0f} s") from None
    return Ran(status=ended.returncode, output=ended.stdout.decode(errors="replace"))


def must(*argv: str | Path, limit: float = WAIT_SECONDS, **variables: str) -> str:
    """Run a program, and return what it wrote.

    Raises:
        Unavailable: it fails.
    """
    ran = run(*argv, limit=limit, **variables)
    if ran.status != 0:
        last = (ran.output.strip().splitlines() or [f"exit status {ran.status}"])[-1]
        raise Unavailable(f"`{' '.join(map(str, argv[:3]))}` failed: {last}")
    return ran.output


# ---------------------------------------------------------------------- what it is made of


def check_possible() -> None:
    """Look for what cannot be had, before anything is built.

    Raises:
        Unavailable: this machine cannot boot the other.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable("it needs Linux and root")
    _writable_groups()
    must(*_SPACES, "--mount", "--net", "--pid", "--fork", "true")


def isolated(*arguments: str, limit: float) -> int:
    """Run `python -m tests.systemd ARGUMENTS` with mounts and a network of its own, and return its exit status.

    In that network, only the loopback works. Whatever is mounted and started there ends with it.

    Raises:
        Unavailable: this machine does not allow it.
    """
    spaces = (*_SPACES, "--mount", "--net")
    with subprocess.Popen([*spaces, sys.executable, "-m", "tests.systemd", *arguments], cwd=_ROOT) as inside:
        try:
            return inside.wait(limit)
        finally:
            inside.kill()


def loopback_up() -> None:
    """Start the loopback of this process's network."""
    set_flags, up = 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", b"lo", up))


def root_filesystem(cache: Path) -> Path:
    """Return Debian's root file system, built now or before.

    Raises:
        Unavailable: it cannot be built here.
    """
    path = cache / f"debian-{SUITE}-systemd"
    if path.is_dir():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(f"{path.name}.partial.*"):
        if not Path("/proc", left.suffix.removeprefix(".")).exists():
            # Of a run that was killed. Nothing is mounted there: its mounts ended with it.
            shutil.rmtree(left, ignore_errors=True)
    partial = cache / f"{path.name}.partial.{os.getpid()}"
    partial.mkdir()
    try:
        tool, variables = _debootstrap(partial / "tools")
        new = partial / "root"
        mirror = os.environ.get("LLMA_DEBIAN_MIRROR", "")
        arguments = ["--variant=minbase", f"--include={PACKAGES}", SUITE, str(new), *([mirror] if mirror else [])]
        # A disk that is written to at once takes several times as long, and a half-built system is thrown away anyway.
        (new / "etc" / "dpkg" / "dpkg.cfg.d").mkdir(parents=True)
        (new / "etc" / "dpkg" / "dpkg.cfg.d" / "fast").write_text("force-unsafe-io\n")
        # In namespaces, so that whatever it has mounted and started ends with it, also when its time is over.
        spaces = (*_SPACES, "--mount", "--pid", "--fork", "--kill-child")
        try:
            must(*spaces, *tool, *arguments, limit=_BUILD_SECONDS, **variables)
        except Unavailable as error:
            raise Unavailable(f"debootstrap builds no root file system here: {error}") from None
        must("chroot", new, "useradd", "--create-home", "--shell", "/bin/sh", "--uid", str(UID), USER)
        # Its manager runs from boot on, as for somebody who is always logged in.
        (new / "var" / "lib" / "systemd" / "linger").mkdir(parents=True, exist_ok=True)
        (new / "var" / "lib" / "systemd" / "linger" / USER).touch()
        shutil.rmtree(new / "var" / "cache" / "apt", ignore_errors=True)
        new.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _debootstrap(folder: Path) -> tuple[Sequence[str], dict[str, str]]:
    """Return how debootstrap is called: the installed one, or that of its package, unpacked and not installed."""
    if installed := shutil.which("debootstrap"):
        return [installed], {}
    if shutil.which("apt-get") is None:
        raise Unavailable("there is neither debootstrap nor apt-get")
    folder.mkdir()
    fetch = ("sh", "-c", 'cd "$0" && apt-get -qq download debootstrap && dpkg-deb -x debootstrap_*.deb .', folder)
    if run(*fetch, limit=_BUILD_SECONDS).status != 0:
        must("apt-get", "-qq", "update", limit=_BUILD_SECONDS)
        must(*fetch, limit=_BUILD_SECONDS)
    variables = {"DEBOOTSTRAP_DIR": str(folder / "usr" / "share" / "debootstrap")}
    return ["sh", str(folder / "usr" / "sbin" / "debootstrap")], variables


def packaged(root: Path, folder: Path) -> Path:
    """Return a folder with this project and what it needs, as pip installs them for the Python in *root*.

    Raises:
        Unavailable: pip fails.
    """
    [python] = (root / "usr" / "lib").glob("python3.*")
    version = python.name.removeprefix("python")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    must(*pip, "wheel", "--no-deps", "--wheel-dir", folder / "wheel", _ROOT, limit=120)
    [wheel] = (folder / "wheel").glob("*.whl")
    target = folder / "site-packages"
    chosen = ("--python-version", version, "--only-binary=:all:", "--no-compile")
    must(*pip, "install", "--target", target, *chosen, wheel, limit=120)
    return target


# ---------------------------------------------------------------------- the machine


class Machine:
    """The machine, running or not. Its disk lasts until this process ends.

    Args:
        root: the root file system; it is not changed.
        folder: an empty folder for the disk.

    Raises:
        Unavailable: this machine does not allow the mounts.
    """

    home = Path("/home", USER)

    def __init__(self, root: Path, folder: Path) -> None:
        must("mount", "--make-rprivate", "/")
        must("mount", "-t", "tmpfs", "tmpfs", folder)
        for name in ("upper", "work", "disk"):
            (folder / name).mkdir()
        self.disk = folder / "disk"
        options = f"lowerdir={root},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        must("mount", "-t", "overlay", "overlay", "-o", options, self.disk)
        groups = _writable_groups()
        for left in groups.glob(f"{_GROUPS}*"):
            if not Path("/proc", left.name.removeprefix(_GROUPS)).exists():
                _remove_groups(left)
        self._groups = groups / f"{_GROUPS}{os.getpid()}"
        self._output = folder / "boot"
        self._init: int | None = None
        self._outer: subprocess.Popen[bytes] | None = None

    def path(self, path: Path) -> Path:
        """Return where a path of the machine is seen from outside."""
        return self.disk / path.relative_to("/")

    def boot(self) -> None:
        """Boot, and wait until the user's manager runs.

        Raises:
            Unavailable: systemd does not come up here.
        """
        self._groups.mkdir()
        spaces = ("--cgroup", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
        with self._output.open("wb") as output:
            self._outer = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._groups)),
                    *("unshare", *spaces, "sh", str(Path(__file__).with_name("boot.sh")), str(self.disk)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        outer = self._outer

        def init() -> bool:
            if outer.poll() is not None:
                raise Unavailable(f"systemd does not boot in namespaces here: {self._output.read_text()[-500:]!r}")
            children = run("ps", "-o", "pid=,comm=", "--ppid", str(outer.pid)).output.split()
            self._init = int(children[0]) if children[1:] == ["systemd"] else None
            return self._init is not None

        try:
            self.wait("systemd", init)
            self.wait("the user's manager", lambda: self.user("systemctl", "--user", "is-system-running").status == 0)
        except TimeoutError as error:
            raise Unavailable(f"systemd does not boot in namespaces here: {error}") from None

    def reboot(self) -> None:
        """Reboot as an administrator does, and wait until it is up again."""
        assert self._outer is not None
        self.root("systemctl", "reboot")
        self._outer.wait(WAIT_SECONDS)
        _remove_groups(self._groups)
        self.boot()

    def end(self) -> None:
        """End all that runs in it."""
        if self._outer is not None:
            if self._init is not None:
                run("kill", "-KILL", str(self._init))
            self._outer.kill()
            self._outer.wait(WAIT_SECONDS)
            _remove_groups(self._groups)

    def root(self, *argv: str, limit: float = WAIT_SECONDS) -> Ran:
        """Run a program in it as root."""
        spaces = ("--mount", "--uts", "--ipc", "--pid", "--cgroup")
        environ = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
        return run("nsenter", "--target", str(self._init), *spaces, "--wd=/", *environ, *argv, limit=limit)

    def user(self, *argv: str, **variables: str) -> Ran:
        """Run a program in it as its user, as in a shell."""
        own = {"HOME": str(self.home), "USER": USER, "XDG_RUNTIME_DIR": f"/run/user/{UID}", **variables}
        person = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups", "env", f"--chdir={self.home}")
        return self.root(*person, *(f"{name}={value}" for name, value in own.items()), *argv)

    def wait(self, what: str, condition: Callable[[], bool], limit: float = WAIT_SECONDS) -> None:
        """Wait until *condition* holds.

        Raises:
            TimeoutError: it does not, within *limit* seconds.
        """
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {limit:.0f} s for {what}")
            time.sleep(_POLL_SECONDS)


def _remove_groups(folder: Path) -> None:
    """Remove control groups that are empty now."""
    deadline = time.monotonic() + WAIT_SECONDS
    while folder.is_dir():
        for each, _, _ in os.walk(folder, topdown=False):
            try:
                Path(each).rmdir()
            except OSError:
                # The kernel still takes the last process out of it.
                if time.monotonic() > deadline:
                    raise
        time.sleep(_POLL_SECONDS)


def _writable_groups() -> Path:
    """Return the root of the control groups of version 2."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(place, os.W_OK) and not os.statvfs(place).f_flag & os.ST_RDONLY:
            return Path(place)
    raise Unavailable("no control groups of version 2 that can be written to")
