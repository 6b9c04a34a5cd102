"""Figures: how they are summarized and printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

__all__ = ["Table", "exponent", "percentile"]

Cell = str | float | int | None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed. There must be at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def exponent(amounts: Sequence[float], costs: Sequence[float]) -> float:
    """Return the exponent with which the cost grows with the amount: 0 is no growth, 1 linear, 2 quadratic.

    It is the slope of the straight line that fits best when both axes are logarithmic.
    """
    across, up = [math.log(value) for value in amounts], [math.log(value) for value in costs]
    middle, level = fmean(across), fmean(up)
    spread = sum((value - middle) ** 2 for value in across)
    return sum((value - middle) * (cost - level) for value, cost in zip(across, up, strict=True)) / spread


@dataclass(slots=True)
class Table:
    """Figures that belong together.

    Attributes:
        title: the name of the measurement.
        columns: the columns' names; the first column names the row.
        rows: the figures; None for a missing figure.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line([_text(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines) + "\n"

    def values(self) -> dict[str, dict[str, Cell]]:
        """Return the figures by row and column."""
        return {str(row[0]): dict(zip(self.columns[1:], row[1:], strict=True)) for row in self.rows}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else cell
    if cell and abs(cell) < 0.001:
        return f"{cell:.5f}"
    return f"{cell:.3f}" if abs(cell) < 1 else f"{cell:.2f}" if abs(cell) < 10 else f"{cell:,.0f}"
