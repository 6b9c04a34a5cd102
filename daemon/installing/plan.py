"""What a service manager is to run: the same for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A service to be.

    Attributes:
        program: absolute path of the executable.
        state_dir: the only folder it writes to.
        environment_file: file of variables that config.toml has no word for.
        environment: what stands in that file.
        log_file: where it logs when its manager does not keep logs.
        status_files: the only files it writes to outside of that folder.
    """

    program: Path
    state_dir: Path
    environment_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    log_file: Path
    status_files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for path in (self.program, self.state_dir, self.environment_file, self.log_file, *self.status_files):
            if not path.is_absolute():
                raise ValueError(f"{path} is not an absolute path")
            if not str(path).isprintable():
                raise ValueError(f"{str(path)!r} holds characters that no service file can hold; use another path")
