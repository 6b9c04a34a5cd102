"""A point in time as an argument: a date, a date with a time, or a relative time such as 7d."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

__all__ = ["Moment"]

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class Moment(click.ParamType):  # type: ignore[type-arg] # generic since click 8.4 only
    """Reads `2026-11-20`, `2026-11-20T14:00`, or `7d`, `12h`, `90s` ago, as seconds since the epoch.

    A time without a zone is local time.

    Args:
        end_of_day: whether a date alone means the end of that day, not the beginning.
    """

    name = "moment"

    def __init__(self, *, end_of_day: bool = False) -> None:
        self._end_of_day = end_of_day

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read *value*; if it is no time, click exits with 2."""
        text = str(value).strip()
        try:
            if (ago := _AGO.fullmatch(text)) is not None:
                return (datetime.now().astimezone() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp()
            moment = datetime.fromisoformat(text)
            if self._end_of_day and _DATE.fullmatch(text):
                moment += timedelta(days=1)
            return moment.timestamp()
        except (ValueError, OverflowError):
            self.fail(
                f"{text[:40]!r} is not a time; write 2026-11-20, 2026-11-20T14:00, or 10m, 2h, 7d for a time ago",
                param,
                ctx,
            )

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the placeholder for help texts."""
        del param, ctx
        return "WHEN"
