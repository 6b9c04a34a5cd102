"""A string that must not appear in logs or messages: a project API key."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret:
    """A string whose str and repr are stars. Two secrets are equal if their strings are."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the string itself."""
        return self._value

    def masked(self) -> str:
        """Return the first six characters, then stars, so that keys can be told apart. A short key is only stars."""
        shown = 6
        return f"{self._value[:shown]}{self}" if len(self._value) > 2 * shown else str(self)

    def __repr__(self) -> str:
        return f"Secret('{self}')"

    def __str__(self) -> str:
        return "**********"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))
