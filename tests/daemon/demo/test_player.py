from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import player
from daemon.demo.player import SESSION, Step, steps

STARTED = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
CWD = "/home/demo/shop"
MAIN = Path("-home-demo-shop", f"{SESSION}.jsonl")


@pytest.fixture(scope="module")
def played() -> list[Step]:
    return list(steps(STARTED))


@pytest.fixture(scope="module")
def files(played: list[Step]) -> dict[Path, list[dict[str, Any]]]:
    """The lines of every log file at the end."""
    found: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for step in played:
        if not step.replace:
            found[step.path] += [json.loads(line) for line in step.data.splitlines()]
    return found


def conversation(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if "uuid" in line]


def blocks(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line["message"]["content"][0] for line in lines if line["type"] == "assistant"]


def moment(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


def test_a_later_start_moves_every_time_by_the_same_and_changes_nothing_else(played: list[Step]) -> None:
    assert list(steps(STARTED)) == played
    by = timedelta(days=100, hours=13, milliseconds=7)
    moved = list(steps(STARTED + by))
    times = 0
    for before, after in zip(played, moved, strict=True):
        assert (before.delay, before.path, before.replace) == (after.delay, after.path, after.replace)
        for old, new in zip(before.data.splitlines(), after.data.splitlines(), strict=True):
            was, now = json.loads(old), json.loads(new)
            if "timestamp" in was:
                assert moment(now) - moment(was) == by
                times += 1
                now["timestamp"] = was["timestamp"]
            if "startTime" in was:
                assert now["startTime"] - was["startTime"] == by / timedelta(milliseconds=1)
                now["startTime"] = was["startTime"]
            assert now == was
    assert times == 44


def test_the_first_time_is_the_start_and_only_the_lines_own_times_are_moved(played: list[Step]) -> None:
    asked = json.loads(played[0].data.splitlines()[2])
    assert asked["timestamp"] == "2026-11-20T12:00:00.000Z"
    assert json.loads(played[-1].data)["startTime"] == STARTED.timestamp() * 1000
    quoting = (
        rb'{"timestamp":"2026-01-05T10:00:00.000Z","content":"a \"timestamp\":\"2026-01-05T10:00:00.000Z\" in it"}'
    )
    assert player._shift(quoting, timedelta(days=1)) == quoting.replace(b"-05T", b"-06T", 1)


def test_the_recording_is_played_to_its_end(played: list[Step]) -> None:
    """Every recorded line of every file is written."""
    folder = Path(player.__file__).with_name("recording")
    recorded = {
        path.relative_to(folder): path.read_bytes().splitlines()
        for path in folder.rglob("*.jsonl")
        if path.name != "writes.jsonl"
    }
    written: dict[Path, list[bytes]] = defaultdict(list)
    for step in played:
        name = step.path.relative_to(MAIN.parent)
        written[name.with_suffix(".jsonl") if step.replace else name] += step.data.splitlines()
    assert {name: len(lines) for name, lines in written.items()} == {
        name: len(lines) for name, lines in recorded.items()
    }


def test_a_step_appends_to_a_log_and_replaces_a_meta_file(played: list[Step], tmp_path: Path) -> None:
    for step in played:
        assert step.write(tmp_path) == tmp_path / step.path
    logs = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert logs == sorted({step.path for step in played}), "nothing else is left"
    for path in logs:
        mine = [step.data for step in played if step.path == path]
        assert (tmp_path / path).read_bytes() == (mine[-1] if path.suffix == ".json" else b"".join(mine))


def test_the_recording_names_no_real_machine(files: dict[Path, list[dict[str, Any]]]) -> None:
    for lines in files.values():
        assert {line["cwd"] for line in conversation(lines)} == {CWD}
        assert {line["gitBranch"] for line in conversation(lines)} == {"main"}


def test_the_session_takes_less_than_nine_seconds_and_looks_live(played: list[Step]) -> None:
    now = STARTED
    for step in played:
        assert step.delay >= 0
        now += timedelta(seconds=step.delay)
        if step.replace:
            continue
        stamped = [json.loads(line) for line in step.data.splitlines() if b'"timestamp"' in line]
        # A line becomes readable after the time it carries, but not long after.
        assert all(timedelta(0) <= now - moment(line) <= timedelta(seconds=1) for line in stamped)
    assert now - STARTED < timedelta(seconds=9)


def test_every_step_is_whole_lines_of_one_file(played: list[Step]) -> None:
    for step in played:
        assert not step.path.is_absolute()
        assert step.path.parts[0] == MAIN.parts[0]
        assert step.replace == step.path.name.endswith(".meta.json")
        assert step.replace or step.data.endswith(b"\n")
    assert {step.path.parent for step in played} == {MAIN.parent, MAIN.with_suffix("") / "subagents"}


def test_an_offset_of_the_clock_is_written_as_utc() -> None:
    zone = STARTED.astimezone(datetime.strptime("+0900", "%z").tzinfo)
    assert list(steps(zone)) == list(steps(STARTED))


def test_lines_have_the_envelope_and_form_a_chain(files: dict[Path, list[dict[str, Any]]]) -> None:
    for path, lines in files.items():
        agent = None if path == MAIN else path.stem.removeprefix("agent-")
        leaf = None
        for line in conversation(lines):
            assert line["parentUuid"] == leaf
            leaf = line["uuid"]
            assert (line["sessionId"], line["cwd"], line["version"]) == (SESSION, CWD, "2.1.329")
            assert (line["isSidechain"], line.get("agentId")) == (agent is not None, agent)
            assert {"userType", "entrypoint", "gitBranch", "timestamp"} <= line.keys()
            assert (line["type"] == "user") == ("promptId" in line)
        assert all(line["sessionId"] == SESSION for line in lines)
    ids = [line["uuid"] for lines in files.values() for line in conversation(lines)]
    assert len(ids) == len(set(ids))


def test_a_message_is_a_line_for_each_block_with_its_whole_usage(files: dict[Path, list[dict[str, Any]]]) -> None:
    for lines in files.values():
        messages = defaultdict(list)
        for line in lines:
            if line["type"] == "assistant":
                messages[line["message"]["id"]].append(line)
        requests = {line["id"]: moment(line) for line in lines if line["type"] == "api-request"}
        for of_message in messages.values():
            first = of_message[0]["message"]
            assert [line["apiBlockIndex"] for line in of_message] == list(range(len(of_message)))
            assert len({line["requestId"] for line in of_message}) == 1
            for line in of_message:
                assert len(line["message"]["content"]) == 1
                assert line["message"]["usage"] == first["usage"]
                assert line["message"]["stop_reason"] == first["stop_reason"] in ("tool_use", "end_turn")
                assert line["message"]["stop_details"] is None
                assert moment(line) > requests[line["requestRef"]]
            calls = any(line["message"]["content"][0]["type"] == "tool_use" for line in of_message)
            assert calls == (first["stop_reason"] == "tool_use")


def test_the_lines_of_a_message_become_readable_together(played: list[Step]) -> None:
    seen: set[str] = set()
    for step in played:
        if not step.replace:
            lines = [json.loads(line) for line in step.data.splitlines()]
            here = {line["message"]["id"] for line in lines if line["type"] == "assistant"}
            assert not here & seen
            seen |= here
    assert len(seen) == 10


def test_every_call_has_one_result_which_says_how_it_went(files: dict[Path, list[dict[str, Any]]]) -> None:
    failed = []
    for lines in files.values():
        open_calls: dict[str, dict[str, Any]] = {}
        for line in lines:
            if line["type"] == "assistant" and (block := line["message"]["content"][0])["type"] == "tool_use":
                open_calls[block["id"]] = line
            elif line["type"] == "user" and isinstance(line["message"]["content"], list):
                (result,) = line["message"]["content"]
                call = open_calls.pop(result["tool_use_id"])
                assert line["sourceToolAssistantUUID"] == call["uuid"]
                assert moment(line) > moment(call)
                if result.get("is_error"):
                    failed.append((call["message"]["content"][0]["name"], result["content"], line["toolUseResult"]))
        assert open_calls == {}
    ((name, content, raw),) = failed
    assert name == "Bash"
    assert content.startswith("Exit code 1\n")
    assert raw == f"Error: {content}"


def test_the_session_holds_what_a_trace_can_hold(files: dict[Path, list[dict[str, Any]]]) -> None:
    lines = files[MAIN]
    turn = [line["message"]["content"] for line in lines if line["type"] in ("assistant", "user")]
    kinds = [content[0]["type"] for content in turn[1:7]]
    assert kinds == ["thinking", "text", "tool_use", "tool_result", "tool_use", "tool_result"]
    assert [line["message"]["content"] for line in lines if "promptSource" in line] == [
        "tests/test_retry.py fails now and then. Find out why and mend it.",
        "Thanks! In one sentence, for the changelog?",
    ]
    assert len({line["promptId"] for line in lines if line["type"] == "user"}) == 2
    assert [line["subtype"] for line in lines if line["type"] == "system"] == [
        "api_error",
        "turn_duration",
        "turn_duration",
    ]
    assert [line["aiTitle"] for line in lines if line["type"] == "ai-title"] == ["Mend the flaky retry test"]
    assert lines[-1]["type"] == "cost-state"


def test_the_overloaded_request_is_sent_again(files: dict[Path, list[dict[str, Any]]]) -> None:
    lines = files[MAIN]
    (at,) = [index for index, line in enumerate(lines) if line.get("subtype") == "api_error"]
    before, error, after = lines[at - 1 : at + 2]
    assert (error["error"]["status"], error["retryAttempt"], error["retryInMs"]) == (529, 1, 500)
    assert (after["base"], after["tail"]) == (before["id"], [])
    assert after["requestDigest"] == before["requestDigest"]
    assert moment(after) - moment(error) == timedelta(milliseconds=500)
    assert lines[at + 2]["requestRef"] == after["id"]


def test_meta_files_link_a_subagent_and_the_one_it_started(
    played: list[Step], files: dict[Path, list[dict[str, Any]]]
) -> None:
    metas: dict[Path, list[dict[str, Any]]] = defaultdict(list)
    for step in played:
        if step.replace:
            metas[step.path].append(json.loads(step.data))
        elif step.path != MAIN:
            assert step.path.with_suffix(".meta.json") in metas, "the meta file comes first"
    (outer_path, outer), (inner_path, inner) = metas.items()
    assert [meta.get("finished") for meta in outer + inner] == [None, True, None, True]
    assert (outer[0]["agentType"], outer[0]["spawnDepth"]) == ("general-purpose", 1)
    assert (inner[0]["agentType"], inner[0]["spawnDepth"]) == ("Explore", 2)
    outer_log = outer_path.with_name(outer_path.name.replace(".meta.json", ".jsonl"))
    assert outer_path.name == f"agent-{inner[0]['parentAgentId']}.meta.json"
    for meta, parent in ((outer[0], MAIN), (inner[0], outer_log)):
        (call,) = [block for block in blocks(files[parent]) if block.get("id") == meta["toolUseId"]]
        assert call["name"] == "Agent"
        assert call["input"]["subagent_type"] == meta["agentType"]
    inner_log = files[inner_path.with_name(inner_path.name.replace(".meta.json", ".jsonl"))]
    (asked,) = [block for block in blocks(files[outer_log]) if block.get("name") == "Agent"]
    assert conversation(inner_log)[0]["message"]["content"] == asked["input"]["prompt"]


def test_every_request_can_be_rebuilt_from_the_rows(files: dict[Path, list[dict[str, Any]]]) -> None:
    def digest(message: dict[str, Any]) -> str:
        text = json.dumps(message, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    for lines in files.values():
        derivable = set()
        for answer in {line["message"]["id"]: None for line in lines if line["type"] == "assistant"}:
            own = [line for line in lines if line["type"] == "assistant" and line["message"]["id"] == answer]
            derivable.add(digest({"role": "assistant", "content": [line["message"]["content"][0] for line in own]}))
        results: list[dict[str, Any]] = []
        for line in lines:
            if line["type"] == "user" and isinstance(line["message"]["content"], str):
                text = {"type": "text", "text": line["message"]["content"]}
                derivable.add(digest({"role": "user", "content": [text]}))
            elif line["type"] == "user":
                results += line["message"]["content"]
            elif line["type"] == "api-request":
                derivable.add(digest({"role": "user", "content": results}))
                results = []
        whole: dict[str, list[str]] = {}
        for request in (line for line in lines if line["type"] == "api-request"):
            known = whole[request["base"]][: request["keep"]] if "base" in request else []
            assert len(known) == request["keep"]
            whole[request["id"]] = [*known, *request["tail"]]
            assert set(request["tail"]) <= derivable
        shapes = {line["shapeHash"] for line in lines if line["type"] == "api-request-shape"}
        assert {line["shapeHash"] for line in lines if line["type"] == "api-request"} == shapes


def test_the_clients_own_totals_are_the_sum_of_the_messages(files: dict[Path, list[dict[str, Any]]]) -> None:
    usages = {
        line["message"]["id"]: line["message"]
        for lines in files.values()
        for line in lines
        if line["type"] == "assistant"
    }
    total = files[MAIN][-1]
    for model, spent in total["modelUsage"].items():
        own = [message["usage"] for message in usages.values() if message["model"] == model]
        assert spent["inputTokens"] == sum(usage["input_tokens"] for usage in own)
        assert spent["outputTokens"] == sum(usage["output_tokens"] for usage in own)
        assert spent["cacheReadInputTokens"] == sum(usage["cache_read_input_tokens"] for usage in own)
        assert spent["cacheCreationInputTokens"] == sum(usage["cache_creation_input_tokens"] for usage in own)
        assert spent["costUSD"] > 0
    assert set(total["modelUsage"]) == {message["model"] for message in usages.values()}
    assert total["totalAPIDuration"] - total["totalAPIDurationWithoutRetries"] == 180
    assert total["totalCostUSD"] == pytest.approx(sum(spent["costUSD"] for spent in total["modelUsage"].values()))
