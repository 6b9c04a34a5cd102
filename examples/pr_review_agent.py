"""Reviews a pull request in CI: gates that need no model, a tier, a reviewer, a verdict. Each run is one trace.

    posthog-llma-daemon exec -- python examples/pr_review_agent.py --base origin/main --pull-request 7

It prints the verdict as JSON. `--reviewer agent` lets Claude Code look around, by the Claude Agent SDK.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llma_recorder import TraceRecorder

VERDICTS = ["approve", "request_changes", "needs_human"]
ANSWER = {"type": "object", "properties": {"verdict": {"enum": VERDICTS}, "reason": {"type": "string"}}}
TOOLS = [{"name": "verdict", "description": "Say whether the change can be merged.", "input_schema": ANSWER}]
ATTEMPTS, SMALL, LARGE = 3, 100, 1000


class Change(NamedTuple):
    """The change of a pull request: its diff, the paths it touches, and how many lines it adds and removes."""

    diff: str
    paths: list[str]
    lines: int

    @property
    def tier(self) -> str:
        """How much of a look it needs: T0 for documents, T1 for a small change, T2 for all others."""
        if all(path.endswith((".md", ".txt")) for path in self.paths):
            return "T0"
        return "T1" if self.lines <= SMALL else "T2"


GATES: Mapping[str, Callable[[Change], bool]] = {
    "not empty": lambda change: bool(change.paths),
    "size": lambda change: change.lines <= LARGE,
    "protected paths": lambda change: not any(path.startswith((".github/", "migrations/")) for path in change.paths),
}


class Review(NamedTuple):
    """A verdict with its reason, and what it took."""

    verdict: str
    reason: str
    turns: int = 0
    cost_usd: float | None = None


def read_change(base: str) -> Change:
    """Return what the branch changes since *base*."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "diff", *arguments, base], capture_output=True, text=True, check=True).stdout

    rows = [row.split("\t") for row in git("--numstat").splitlines()]
    changed = sum(int(number) for row in rows for number in row[:2] if number.isdigit())
    return Change(git(), [row[2] for row in rows], changed)


def failed_gates(recorder: TraceRecorder, change: Change) -> list[str]:
    """Return the names of the gates that the change does not pass. Each one is a span."""
    failed = []
    for name, gate in GATES.items():
        with recorder.span(name, kind="gate") as span:
            span.finish(passed=(passes := gate(change)))
        failed += [] if passes else [name]
    return failed


def review_by_api(recorder: TraceRecorder, prompt: str, model: str) -> Review:
    """Ask the Messages API. Every attempt is a generation, also one that fails."""
    messages = [{"role": "user", "content": prompt}]
    asked = {"model": model, "max_tokens": 1000, "messages": messages, "tools": TOOLS, "tool_choice": {"type": "any"}}
    address = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com") + "/v1/messages"
    request = urllib.request.Request(address, json.dumps(asked).encode(), {"content-type": "application/json"})
    request.headers.update({"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"})
    facts: Any = {"model": model, "input": messages, "tools": TOOLS, "name": "review"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with recorder.generation(**facts) as call, urllib.request.urlopen(request, timeout=120) as answer:
                call.finish(response := json.load(answer), attempt=attempt)
        except (OSError, ValueError):  # recorded already
            continue
        for said in (block["input"] for block in response["content"] if block["type"] == "tool_use"):
            if said.get("verdict") in VERDICTS:
                return Review(said["verdict"], said.get("reason", ""), attempt)
    return Review("needs_human", f"No verdict after {ATTEMPTS} attempts.", ATTEMPTS)


async def review_by_agent(prompt: str, model: str, session: str, about: Mapping[str, Any]) -> Review:
    """Let Claude Code review. Its calls are in its own log, so only whose session it is has to be recorded."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKError, ResultMessage  # noqa: PLC0415 -- `api` goes without
    from llma_recorder.claude_agent_sdk import query  # noqa: PLC0415

    prompt += f"\n\nLook around, then answer with JSON only. Its schema: {json.dumps(ANSWER)}"
    options = ClaudeAgentOptions(
        model=model, session_id=session, allowed_tools=["Read", "Grep"], cli_path=os.environ.get("CLAUDE")
    )
    review = Review("needs_human", "The agent gave no verdict.")
    with contextlib.suppress(ClaudeSDKError, ValueError, KeyError):  # a session that failed says so itself
        async for message in query(prompt=prompt, options=options, trace_name="review", **about):
            if isinstance(message, ResultMessage):
                review = review._replace(turns=message.num_turns, cost_usd=message.total_cost_usd)
                said = json.loads(message.result or "")
                review = review._replace(verdict=said["verdict"], reason=said["reason"])
    return review


def main() -> None:
    """Review the change, and print the verdict."""
    parser = argparse.ArgumentParser(description="Review a pull request.")
    parser.add_argument("--base", default="HEAD^1", help="what it is merged into [HEAD^1]")
    parser.add_argument("--pull-request", type=int, required=True, help="its number")
    parser.add_argument("--reviewer", choices=["api", "agent"], default="api")
    parser.add_argument("--model", default="claude-opus-4-5")
    options = parser.parse_args()
    change, session = read_change(options.base), str(uuid.uuid4())
    prompt = f"Review this change, of tier {change.tier}:\n\n{change.diff}"
    known = {"pull_request": options.pull_request, "tier": change.tier}
    about: Any = {"distinct_id": "review-bot", "properties": known}
    # The agent's session has the same id, so PostHog shows its trace beside this one.
    with TraceRecorder("pull request", session_id=session, **about) as recorder:
        if failed := failed_gates(recorder, change):
            review = Review("needs_human", "Not passed: " + ", ".join(failed))
        elif change.tier == "T0":
            review = Review("approve", "Only documents change.")
        elif options.reviewer == "api":
            review = review_by_api(recorder, prompt, options.model)
        else:
            review = asyncio.run(review_by_agent(prompt, options.model, session, about))
        more: Any = {"verdict": review.verdict, "turns": review.turns, "cost_usd": review.cost_usd}
        recorder.record_metric("lines_changed", change.lines)
        recorder.record_trace(input=prompt, output=review.reason, failed_gates=failed, **more)
    print(json.dumps({"verdict": review.verdict, "tier": change.tier, "reason": review.reason}))


if __name__ == "__main__":
    main()
