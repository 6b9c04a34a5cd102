"""The programs in `examples/` do their work under `exec`, against servers on loopback, and their traces arrive."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.capture_server import CaptureServer, is_ended
from tests.support.client import Workspace, client_environment, start
from tests.support.messages_api import Failure, MessagesApi, Step, Text, ToolUse
from tests.support.processes import ROOT, environment
from tests.support.recorded import Recorded
from tests.support.waiting import PATIENCE

EXAMPLES = ROOT / "examples"
OVERLOADED = Failure(status=529, error_type="overloaded_error", message="Overloaded")


def verdict(word: str) -> ToolUse:
    return ToolUse(name="verdict", input={"verdict": word, "reason": f"It is {word}."})


SCRIPTS = {
    "good": (Step(blocks=(verdict("approve"),), failures=(OVERLOADED,)),),
    "agent": (Step(blocks=(Text(text='{"verdict": "request_changes", "reason": "It is short."}'),)),),
}


def repository(folder: Path, files: dict[str, str]) -> Path:
    """Make a repository with a commit, and one that adds files; return its folder."""
    folder.mkdir()

    def git(*arguments: str) -> None:
        as_somebody = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        subprocess.run(["git", *as_somebody, *arguments], cwd=folder, capture_output=True, timeout=PATIENCE, check=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "Begin")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git("add", "--all")
    git("commit", "--quiet", "--message", "Change it")
    return folder


async def run_example(
    workspace: Workspace, posthog: CaptureServer, *command: str, cwd: Path, url: str, **more: str
) -> str:
    """Run an example under `exec`, and return what it printed."""
    variables = {name: value for name, value in environment(workspace, posthog.url).items() if "POSTHOG" in name}
    async with start(
        [sys.executable, "-m", "daemon.cli", "exec", "--", sys.executable, str(EXAMPLES / command[0]), *command[1:]],
        name="exec",
        environment=client_environment(
            workspace, url, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "recorder")]), **variables, **more
        ),
        cwd=cwd,
        output=workspace.output,
        forks=workspace.forks,
    ) as child:
        assert await child.wait() == 0, child.stderr
        assert child.stderr == ""
        return child.stdout


def of(posthog: CaptureServer, name: str) -> list[dict[str, Any]]:
    return [event["properties"] for event in posthog.events if event["event"] == name]


async def test_a_pull_request_is_reviewed_by_the_api(workspace: Workspace, posthog: CaptureServer) -> None:
    cwd = repository(workspace.work / "repository", {"shop.py": "# [[good]]\n" * 3})
    with MessagesApi(SCRIPTS) as api:
        said = await run_example(
            workspace, posthog, "pr_review_agent.py", "--pull-request", "7", cwd=cwd, url=api.url
        )  # fmt: skip
        [failure, message] = api.answers
    assert json.loads(said) == {"verdict": "approve", "tier": "T1", "reason": "It is approve."}

    assert {event["distinct_id"] for event in posthog.events} == {"review-bot"}
    assert {(each["properties"]["pull_request"], each["properties"]["tier"]) for each in posthog.events} == {(7, "T1")}
    [trace] = of(posthog, "$ai_trace")
    assert (trace["$ai_trace_name"], trace["verdict"], trace["turns"]) == ("pull request", "approve", 2)
    assert {event["properties"]["$ai_trace_id"] for event in posthog.events} == {trace["$ai_trace_id"]}
    gates = [span for span in of(posthog, "$ai_span") if span["$ai_span_type"] == "gate"]
    assert [(gate["$ai_span_name"], gate["passed"]) for gate in gates] == [
        (name, True) for name in ("not empty", "size", "protected paths")
    ]
    failed, good = of(posthog, "$ai_generation")
    assert (failed["$ai_http_status"], failed["$ai_is_error"]) == (failure.status, True)
    assert "$ai_input_tokens" not in failed
    assert message.usage is not None
    assert (good["$ai_input_tokens"], good["$ai_output_tokens"]) == (
        message.usage.input_tokens,
        message.usage.output_tokens,
    )
    assert good["$ai_cache_read_input_tokens"] == message.usage.cache_read_input_tokens
    assert good["attempt"] == 2
    [metric] = of(posthog, "$ai_metric")
    assert (metric["$ai_metric_name"], metric["$ai_metric_value"]) == ("lines_changed", 3)


def test_a_pull_request_that_a_gate_stops_or_that_changes_documents_needs_no_model(workspace: Workspace) -> None:
    outbox = workspace.root / "outbox"
    outbox.mkdir()
    cases = {".github/workflows/test.yml": ("needs_human", "T1", ["protected paths"]), "a.md": ("approve", "T0", [])}
    for name, (verdict, tier, failed) in cases.items():
        folder = workspace.work / tier
        subprocess.run(
            [sys.executable, EXAMPLES / "pr_review_agent.py", "--pull-request", "8"],
            cwd=repository(folder, {name: "on: push\n"}),
            env=workspace.environment(PYTHONPATH=str(ROOT / "recorder"), POSTHOG_LLMA_OUTBOX=str(outbox)),
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        *spans, metric, trace = Recorded(outbox).lines()
        said = trace["properties"]
        assert (said["verdict"], said["tier"], said["failed_gates"]) == (verdict, tier, failed)
        assert {line["type"] for line in spans} == {"span"}
        assert metric["value"] == 1
        for path in outbox.iterdir():
            path.unlink()


@pytest.mark.e2e
@pytest.mark.skipif(
    importlib.util.find_spec("claude_agent_sdk") is None, reason="the Claude Agent SDK is not installed"
)
@pytest.mark.skipif(not os.environ.get("LLMA_CLAUDE_BIN"), reason="LLMA_CLAUDE_BIN is not set")
async def test_a_pull_request_is_reviewed_by_claude_code(workspace: Workspace, posthog: CaptureServer) -> None:
    cwd = repository(workspace.work / "repository", {"shop.py": "# [[agent]]\n" * 300})
    with MessagesApi(SCRIPTS) as api:
        said = await run_example(
            workspace, posthog, "pr_review_agent.py", "--pull-request", "9", "--reviewer", "agent",
            cwd=cwd, url=api.url, CLAUDE=os.environ["LLMA_CLAUDE_BIN"],
        )  # fmt: skip
        asked = [answer.message_id for answer in api.answers if answer.kind == "main"]
    assert json.loads(said) == {"verdict": "request_changes", "tier": "T2", "reason": "It is short."}
    assert {event["distinct_id"] for event in posthog.events} == {"review-bot"}
    assert {event["properties"]["pull_request"] for event in posthog.events} == {9}
    assert len({event["properties"]["$ai_session_id"] for event in posthog.events}) == 1
    assert [each["$ai_span_id"] for each in of(posthog, "$ai_generation")] == asked
    [ours] = [each for each in of(posthog, "$ai_trace") if each["$ai_trace_name"] == "pull request"]
    assert (ours["verdict"], ours["tier"], ours["turns"]) == ("request_changes", "T2", 1)
    [session] = [event["properties"] for event in posthog.events if is_session_end(event)]
    assert session["claude_code_turns"] == 1
    assert session["claude_code_caller_cost_usd"] == pytest.approx(ours["cost_usd"])
    assert ours["cost_usd"] > 0


def is_session_end(event: Any) -> bool:
    return "claude_code_trace" in event["properties"] and is_ended(event)


class OpenAi(BaseHTTPRequestHandler):
    """Answers as OpenAI's API: a text's vector counts some letters in it."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        tokens = len(json.dumps(asked)) // 4
        if self.path == "/v1/embeddings":
            vectors = [[1.0 + text.count(letter) for letter in "aeiou"] for text in asked["input"]]
            data = [{"object": "embedding", "index": 0, "embedding": vector} for vector in vectors]
            answer: Any = {"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
        else:
            message = {"role": "assistant", "content": "Ask for a refund."}
            answer = {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": tokens, "completion_tokens": 5, "total_tokens": tokens + 5},
            }
        body = json.dumps({"model": asked["model"], **answer}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Print nothing."""


@contextmanager
def openai() -> Iterator[str]:
    """Run a server with OpenAI's API, and yield its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), OpenAi) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


async def test_a_question_is_answered_from_a_folder(workspace: Workspace, posthog: CaptureServer) -> None:
    folder = workspace.work / "shop"
    folder.mkdir()
    (folder / "refunds.md").write_text("# Refunds\n\nuuuu\n## Money\n\nooo\n")
    (folder / "trees.md").write_text("# Trees\n\neeeeeeee\n## Apples\n\naaaa\n")
    with openai() as url:
        said = await run_example(
            workspace, posthog, "rag.py", str(folder), "uuu?", "--user", "bea", "--helpful", "yes",
            cwd=workspace.work, url=url, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-test",
        )  # fmt: skip
    assert said == "Ask for a refund.\n"
    assert {event["distinct_id"] for event in posthog.events} == {"bea"}
    [trace], [span], [generation], [feedback] = (
        of(posthog, f"$ai_{kind}") for kind in ("trace", "span", "generation", "feedback")
    )
    embeddings = of(posthog, "$ai_embedding")
    assert [each["$ai_span_name"] for each in embeddings] == ["index", "question"]
    assert all(each["$ai_input_tokens"] > 0 for each in embeddings)
    assert {each["$ai_parent_id"] for each in embeddings} == {span["$ai_span_id"]}
    assert len(span["$ai_output_state"]) == 3
    assert span["$ai_output_state"][0].startswith("# Refunds")
    assert generation["$ai_output_tokens"] == 5
    assert (trace["$ai_input_state"], trace["$ai_output_state"]) == ("uuu?", "Ask for a refund.")
    assert (feedback["recorder_feedback"], feedback["recorder_feedback_value"]) == ("helpful", True)
