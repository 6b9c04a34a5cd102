"""Checks of the service: whether it is installed, runs, is up to date, and has the settings of this shell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from daemon.checks import Finding, failure, fine, warning
from daemon.config.table import APP_NAME
from daemon.installing.plan import Plan
from daemon.installing.service_environment import EnvironmentFileError, environment_file, find_missing, read_environment
from daemon.installing.service_manager import ManagerError, ServiceManager
from daemon.state import lock

__all__ = ["check_environment", "check_service"]


def check_service(
    manager: ServiceManager, state_dir: Path, plan: Plan | None, *, only_local: bool
) -> Iterator[Finding]:
    """Check that the service is installed, runs and is up to date.

    Args:
        manager: this machine's service manager.
        state_dir: the state directory.
        plan: what `install` would install now; None if unknown.
        only_local: whether the user keeps sessions on this machine on purpose, which needs no service.
    """
    found = lock.look(state_dir)
    pid = found.pid if found is not None and found.is_daemon else None
    outside = f"a daemon runs outside of a service (pid {pid})"
    try:
        manager.check()
        state = manager.state()
    except ManagerError as error:
        if pid is not None:
            yield fine("service", outside)
        elif only_local:
            yield fine("service", "none, and `run --local` needs none")
        else:
            yield warning("service", str(error), f"run `{APP_NAME} run` under a supervisor of your own")
        return
    if not state.installed:
        if pid is not None:
            yield warning("service", outside, f"`{APP_NAME} install` makes it run after every login")
        elif only_local:
            yield fine("service", "none, and `run --local` needs none")
        else:
            yield warning("service", "not installed, and no daemon runs", f"`{APP_NAME} install` starts it")
        return
    if not state.running:
        yield failure(
            "service",
            f"installed but not running: {state.words}",
            state.hint,
        )
    elif plan is not None and (path := manager.hidden(plan)) is not None:
        yield failure(
            "service",
            f"runs, but its sandbox hides {path} from it",
            f"use another folder, then `{APP_NAME} install`",
        )
    elif plan is not None and not manager.is_current(plan):
        yield warning(
            "service",
            f"runs, but {manager.path} is not what this version would write",
            f"run `{APP_NAME} install` again",
        )
    else:
        lingers = {True: ", logged in or not", False: " while you are logged in (`install --linger`: always)"}
        yield fine(
            "service", f"runs under {manager.name}{lingers.get(state.lingers, '') if state.lingers is not None else ''}"
        )


def check_environment(
    manager: ServiceManager, shell: Mapping[str, str], *, config_file: Path, home: Path
) -> Iterator[Finding]:
    """Check that an installed service has the settings of this shell.

    Args:
        manager: this machine's service manager.
        shell: the environment of this process.
        config_file: the config.toml that both read.
        home: the user's home folder.
    """
    variables = environment_file(config_file)
    try:
        if not manager.state().installed:
            return
        service = {**manager.environment(), **read_environment(variables)}
    except ManagerError:
        # Without a manager there is no service; check_service reports that.
        return
    except EnvironmentFileError as error:
        what, _, advice = str(error).rpartition("; ")
        yield failure("environment", what, advice)
        return
    missing = [each.variable for each in find_missing(shell, service, config_file=config_file, home=home)]
    if missing:
        yield warning(
            "environment",
            f"set in this shell but not seen by the service: {', '.join(missing)}",
            f"`{APP_NAME} install --yes` writes them to {config_file.parent}",
        )
    else:
        yield fine("environment", "the service sees the settings of this shell")
