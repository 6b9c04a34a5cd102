"""A problem, as `status` and `doctor` tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something the user should know.

    Attributes:
        level: `fail`: events do not arrive, or will be lost; `warning`: worth knowing.
        message: what is wrong, in one line.
        hint: what to do, in one line.
    """

    level: Literal["warning", "fail"]
    message: str
    hint: str
