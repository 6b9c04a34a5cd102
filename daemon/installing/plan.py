"""What a service manager should run, in terms that fit every manager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A service to install. All paths are absolute.

    Attributes:
        program: the executable.
        state_dir: the only folder the service writes to.
        environment_file: the file with the variables that config.toml has no setting for.
        environment: the variables in that file.
        log_file: where the service logs if its manager keeps no logs.
        status_files: the only files outside *state_dir* that the service writes to, and the folder in which programs
            record for it, if that is elsewhere.
        needs: the other files and folders that the service must be able to see.

    Raises:
        ValueError: a path is not absolute, or has characters that a service file cannot contain.
    """

    program: Path
    state_dir: Path
    environment_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    log_file: Path
    status_files: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for path in (self.program, self.state_dir, self.environment_file, self.log_file, *self.status_files):
            if not path.is_absolute():
                raise ValueError(f"{path} is not an absolute path")
            if not str(path).isprintable():
                raise ValueError(f"{str(path)!r} has characters that no service file can contain; use another path")
