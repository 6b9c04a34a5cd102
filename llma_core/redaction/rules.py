"""The names of the rules."""

from __future__ import annotations

from typing import Final, Literal, get_args

__all__ = ["ALL_RULES", "Rule", "Rules"]

Rule = Literal[
    "pass",
    "pwd",
    "secret",
    "token",
    "auth",
    "key",
    "urls",
    "signatures",
    "tokens",
    "bearers",
    "blocks",
    "cookies",
    "pairs",
    "commands",
    "inputs",
    "calls",
    "positions",
]
"""A rule: one for names of each stem, and one for each kind of secret with a form of its own."""
Rules = frozenset[Rule]
"""A set of rules."""
ALL_RULES: Final[Rules] = frozenset(get_args(Rule))
