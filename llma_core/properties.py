"""What events of every kind have in common: whose they are, the properties of their place, and how values are told.

What is in all events of a place is released once for all of them; see `common`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from llma_core import __version__, agents
from llma_core.privacy import Nested, Policy, figures, is_name
from llma_core.spans import Context, SessionFacts, TokenUsage

__all__ = [
    "IDS",
    "LIBRARY",
    "Attribution",
    "Common",
    "Grouping",
    "InputMode",
    "Shared",
    "adds_up",
    "common",
    "common_properties",
    "project_name",
    "raw_usage",
    "refused_properties",
    "seconds",
    "tool_name",
    "users_properties",
]

LIBRARY = "posthog-llma-daemon"
"""What events name as their origin."""
IDS = frozenset({"$ai_trace_id", "$ai_session_id", "$ai_span_id", "$ai_parent_id"})
"""Properties that say what an event is and what it belongs to. Scrubbing them would tear a trace apart."""

Grouping = Literal["session", "message"]
InputMode = Literal["delta", "prompt", "full"]

_PLACES = 100
"""Number of places whose shared properties are kept; see `common`."""
_LONGEST = 2**53
"""Longest duration in milliseconds. A log may hold any number, and a longer one is not a duration."""
_UNNAMED_TOOL = "unnamed_tool"
_PRICES = ("_token_price", "_request_price", "_search_price")
_FREE_NAMES = frozenset(
    {
        "$ai_agent_name",
        "$ai_git_branch",
        "$ai_git_repo",
        "$ai_project_name",
        "$ai_prompt_name",
        "$ai_prompt_version",
        "$ai_purpose",
    },
)
_ANYBODYS_NAMES = frozenset({"$ai_prompt_name", "$ai_prompt_version"})
_RESERVED = frozenset(
    {"$geoip_disable", "$insert_id", "$lib", "$lib_version", "$process_person_profile", "distinct_id", "token"},
)
_encode = msgspec.json.Encoder().encode


class Shared:
    """Remembers the released properties that all events of one place share, for the attributions that have it.

    Attributes:
        places: those properties, by place.
    """

    __slots__ = ("_of", "places")

    def __init__(self) -> None:
        self.places: dict[tuple[str | None, ...], Common] = {}
        self._of: Attribution | None = None

    def is_of(self, attribution: Attribution) -> bool:
        """Whether what is remembered holds for *attribution*, too: all that it is made of is the same."""
        of = self._of
        return of is attribution or (
            of is not None
            and of.policy is attribution.policy
            and of.properties is attribution.properties
            and of.identified == attribution.identified
            and of.purpose == attribution.purpose
        )

    def begin(self, attribution: Attribution) -> None:
        """Forget everything, and go on with what holds for *attribution*."""
        self._of = attribution
        self.places.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What the settings say about the events of a session.

    Attributes:
        distinct_id: the PostHog distinct id of the events.
        identified: whether that id stands for a person. A made-up id gets no person profile.
        grouping: whether there is one trace for each session or for each prompt.
        policy: what content may leave.
        input_mode: what the input of a generation is. `delta`: what was added since the generation before. `prompt`:
            only the human prompt. `full`: the whole request; the accumulator must collect whole inputs for this.
        purpose: POSTHOG_AI_PURPOSE.
        properties: the user's own properties, without the refused ones; see `refused_properties`.
        trace_name: the name of the session's trace, in place of the log's own.
        ending: what the caller of the agent knows at the session's end; None if it has said nothing.
        explain: whether events note what was done to their properties.
        shared: a cache for `common`. Attributions may have it in common; it is of use if their policy and properties
            are the same.
    """

    distinct_id: str
    identified: bool = True
    grouping: Grouping = "session"
    policy: Policy = field(default_factory=Policy)
    input_mode: InputMode = "delta"
    purpose: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    trace_name: str | None = None
    ending: SessionFacts | None = None
    explain: bool = False
    shared: Shared = field(default_factory=Shared, repr=False, compare=False)


def refused_properties(names: Iterable[str]) -> frozenset[str]:
    """Return those of *names* that the user's own properties may not use: ids, tokens, content and measurements.

    Prices, the purpose, and the names of project, agent, branch and repository are allowed.
    """
    return frozenset(
        name
        for name in names
        if name in _RESERVED
        or name.startswith(agents.prefixes())
        or (name.startswith("$ai_") and name not in _FREE_NAMES and not name.endswith(_PRICES))
    )


def users_properties(names: Iterable[str]) -> frozenset[str]:
    """Return those of *names* that only the user may set, and no file that a repository or a command brings.

    These are all of PostHog's own: a person's properties affect more than the event, and prices, the project, the
    repository and the agent would falsify costs and who caused them. Only the prompt's name and version are free.
    """
    return frozenset(name for name in names if name.startswith("$") and name not in _ANYBODYS_NAMES)


class Common(NamedTuple):
    """The released properties that all events of one place share.

    Attributes:
        properties: the properties by name.
        encoded: the same as a JSON object.
        overrides: whether one may have the name of a property that spans have of their own. That takes a refused
            property of the user, which the caller should have taken out.
    """

    properties: dict[str, Any]
    encoded: bytes
    overrides: bool


def common(context: Context, attribution: Attribution, repository: str | None) -> Common:
    """Return the properties that all events of one place share. They are built once for each place."""
    place = (
        context.framework.name,
        context.cwd,
        context.agent,
        context.branch,
        context.version,
        context.entrypoint,
        context.permission_mode,
        context.effort,
        repository,
    )
    cache = attribution.shared
    if not cache.is_of(attribution):
        cache.begin(attribution)
    shared = cache.places.get(place)
    if shared is None:
        if len(cache.places) >= _PLACES:
            cache.places.clear()
        properties = {**common_properties(context, attribution, repository), **attribution.properties}
        properties = attribution.policy.release(properties, ids=IDS)
        overrides = bool(refused_properties(attribution.properties))
        shared = cache.places[place] = Common(properties, _encode(properties), overrides)
    return shared


def project_name(context: Context) -> str | None:
    """Return the base name of the working directory; None if it is unknown."""
    return (context.cwd or "").replace("\\", "/").rstrip("/").rpartition("/")[2] or None


def common_properties(context: Context, attribution: Attribution, repository: str | None) -> dict[str, Any]:
    """Return the properties that all events of one place share, not yet released."""
    framework, prefix = context.framework.name, context.framework.prefix
    return {
        "$lib": LIBRARY,
        "$lib_version": __version__,
        "$ai_lib": context.framework.library or LIBRARY,
        "$ai_lib_version": context.version if context.framework.library else __version__,
        "$ai_framework": framework,
        "$ai_project_name": project_name(context),
        "$ai_agent_name": tool_name(context.agent or framework, attribution.policy),
        "$ai_git_branch": context.branch,
        "$ai_git_repo": repository,
        "$ai_purpose": attribution.purpose,
        "$geoip_disable": True,
        "$process_person_profile": None if attribution.identified else False,
        f"{prefix}version": None if context.framework.library else context.version,
        f"{prefix}entrypoint": context.entrypoint,
        f"{prefix}permission_mode": context.permission_mode,
        f"{prefix}effort": context.effort,
    }


def seconds(start: int | None, end: float | None) -> float | None:
    """Return how long something took, in seconds, from two times in milliseconds; None if that is not known."""
    if start is None or end is None or not 0 <= end - start <= _LONGEST:
        return None
    return (end - start) / 1000


def tool_name(name: str, policy: Policy) -> str:
    """Return the name of a tool. One that is no name was made up by the model, and is content."""
    return name if policy.conversation or not name or is_name(name) else _UNNAMED_TOOL


def adds_up(usage: TokenUsage) -> bool:
    """Whether it is known for how long each token was written to the cache."""
    short, long = usage.cache_creation_5m, usage.cache_creation_1h
    return short is not None and long is not None and short + long == usage.cache_creation


def raw_usage(usage: TokenUsage) -> msgspec.Raw | Nested | None:
    """Return a usage as logged, without a split that does not add up: the receiver would take the split from there."""
    assert usage.raw is not None
    is_split = usage.cache_creation_5m is not None or usage.cache_creation_1h is not None
    if is_split and not adds_up(usage):
        counts = msgspec.json.decode(usage.raw, type=dict[str, msgspec.Raw])
        counts.pop("cache_creation", None)
        return figures(_encode(counts))
    return figures(usage.raw)
