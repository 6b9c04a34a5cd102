"""Corpora: session logs of any amount, equal for equal `Spec`s, written to disk while made and kept for later runs.

Shapes and sizes follow 980 public logs: half of all lines have at most 1.1 KB, one in a hundred has 44 KB or more, the
largest has 2 MB. Answers have one line for each block, tools run in parallel and some finish while the answer is still
being written, subagents have their own files, and some of the text is not ASCII. The lines in which newer clients keep
their requests are there too: now and then 50 to 100 KB for the system prompt and the tools.

The keys of every line come from `tests.support.logs`. This module only fills in the values that differ between lines,
from a pool of text that is already JSON, which makes it fast.

As a program, it writes one corpus and prints its path: `python -m tests.bench.corpus SESSIONS PROJECTS BYTES AGENTS`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import logs

__all__ = ["FOLDER", "Spec", "lines_of", "provide"]

FOLDER = Path(tempfile.gettempdir()) / f"posthog-llma-bench-{os.getuid()}"
"""The folder for corpora, and for everything else that a run leaves behind."""

_POOL_BYTES = 3 * 1024 * 1024
_LARGEST_IMAGE = 2_110_000
_LARGEST_IS = 5
"""The number of the image in a thread that is that large."""
_SIZE_WITH_SHAPE = 300_000
"""Bytes of the smallest session that has a line of 50 to 100 KB."""
_LAST_TOUCHED = 90 * 86_400
"""The files' modification time, in seconds before the first line: long ago whenever the benchmark runs."""
_CHAINED = frozenset({"prompt", "thinking", "text", "call", "result", "image", "hook", "duration"})
_START = 1_767_603_600_000
"""Milliseconds since the epoch: Monday 2026-01-05, 09:00 UTC."""

Values = dict[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The amounts in a corpus.

    Attributes:
        sessions: number of sessions.
        projects: number of folders they are spread over.
        size: approximate bytes of all files together.
        agents: number of subagents' files, each with its meta file, spread over the sessions.
    """

    sessions: int
    projects: int
    size: int
    agents: int = 0

    @property
    def name(self) -> str:
        """The folder's name. It changes when this module's source does."""
        source = Path(__file__).read_bytes() + Path(logs.__file__).read_bytes()
        version = hashlib.sha256(source + repr(astuple(self)).encode()).hexdigest()[:10]
        return f"{self.sessions}-sessions-{self.size // 1_000_000}-mb-{version}"


def provide(spec: Spec) -> Path:
    """Return the configuration folder that holds the corpus; make it if it does not exist.

    Another process makes it, so that its memory does not count as the caller's.
    """
    folder = FOLDER / "corpora" / spec.name
    if not folder.exists():
        command = [sys.executable, "-m", "tests.bench.corpus", *(str(value) for value in astuple(spec))]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    return folder


def lines_of(folder: Path) -> Iterator[bytes]:
    """Yield every line of every log in a corpus."""
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open("rb", buffering=1024 * 1024) as file:
            yield from file


# ---------------------------------------------------------------------- text


@dataclass(frozen=True, slots=True)
class _Pool:
    """Text as it is inside a JSON string, and where it may be cut: never within an escape or a character."""

    data: bytes
    cuts: list[int]

    def take(self, draws: random.Random, length: int) -> bytes:
        """Return about *length* bytes of it."""
        length = min(length, len(self.data) // 2)
        start = self.cuts[int(draws.random() * (bisect_left(self.cuts, len(self.data) - length)))]
        return self.data[start : self.cuts[min(bisect_left(self.cuts, start + length), len(self.cuts) - 1)]]


@cache
def _pools() -> tuple[_Pool, _Pool, bytes]:
    """Return pools of ASCII text, of other text, and of base64."""
    draws = random.Random(3)
    syllables = [
        "ba",
        "con",
        "der",
        "el",
        "fi",
        "ga",
        "in",
        "jo",
        "ka",
        "lo",
        "mi",
        "nor",
        "os",
        "pra",
        "re",
        "se",
        "tu",
    ]
    words = ["".join(draws.choices(syllables, k=draws.randint(1, 4))) for _ in range(4000)]
    # Characters that Node's JSON.stringify leaves as they are, and characters that it escapes.
    signs = [
        ", ",
        ". ",
        " = ",
        "()\\n    ",
        ": ",
        " -> ",
        '\\"',
        "\\n",
        "\\n\\n- ",
        "\\t",
        "/",
        "_",
        "\\\\",
        "\\u001b[1m",
    ]
    foreign = ["é", "für ", "—", "…", "✓ ", "naïve ", "日本語のテキスト", "данные ", "🚀", "“so” "]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    picked = draws.choices(words, weights, k=_POOL_BYTES // 6)
    spaced = [word + (" " if draws.random() < 0.75 else draws.choice(signs)) for word in picked]
    mixed = [word + draws.choice(foreign) if draws.random() < 0.05 else word for word in spaced]
    image = base64.b64encode(draws.randbytes(_LARGEST_IMAGE * 3 // 4))
    return _pool(spaced), _pool(mixed), image


def _pool(pieces: list[str]) -> _Pool:
    data, cuts, position = [piece.encode() for piece in pieces], [], 0
    for piece in data:
        cuts.append(position)
        position += len(piece)
    return _Pool(b"".join(data), cuts)


# ---------------------------------------------------------------------- lines

_FIELD = re.compile(rb'"@([a-z]+)@"|@([a-z]+)@')


class _Form:
    """One kind of line: its keys, and the places for the values of each line."""

    def __init__(self, line: Any) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode().replace(b"%", b"%%")
        self._format = _FIELD.sub(lambda found: b"%%(%b)b" % (found[1] or found[2]), data) + b"\n"

    def fill(self, values: Values) -> bytes:
        """Return the line; *values* are JSON, except those inside a string."""
        return self._format % values


def _own(line: Any) -> Any:
    """Mark the values that differ between two lines of one kind."""
    fields = {name: f"@{name.lower()}@" for name in ("uuid", "timestamp", "sessionId", "cwd", "promptId", "requestRef")}
    line = line | {name: mark for name, mark in fields.items() if name in line}
    if "parentUuid" in line:
        line["parentUuid"] = "@parent@"
    if "agentId" in line:
        line["agentId"] = "@agent@"
    if line["type"] == "assistant":
        line["message"] = line["message"] | {"id": "@message@"}
    return line


@cache
def _forms(kind: str) -> dict[str, _Form]:
    """Return the forms of lines in a main file (`session`) or a subagent's (`agent`)."""
    session = logs.LogBuilder()
    session.prompt("@text@")
    transcript: logs.Transcript = session
    if kind == "agent":
        transcript = session.agent("@call@", "@text@")
    forms = {"prompt": _Form(_own(transcript.line()))}
    transcript.api_request()
    asked = transcript.line() | {"id": "@request@", "timestamp": "@timestamp@", "sessionId": "@sessionid@"}
    asked |= {"keep": 100, "tail": ["@hash@", "@hash@"], "shapeHash": "@hash@"}
    forms["asked"] = _Form(asked | ({"agentId": "@agent@"} if kind == "agent" else {}))
    counts = logs.usage() | {"output_tokens": "@output@"}
    message = transcript.message(stop_reason="@stop@", counts=counts)
    call = logs.tool_use("@tool@", "@input@", id="@call@")
    said = {
        "thinking": logs.thinking("@text@") | {"signature": "@signature@"},
        "text": logs.text("@text@"),
        "call": call,
    }
    for name, block in said.items():
        message.add(block, last=True)
        forms[name] = _Form(_own(transcript.line()) | {"apiBlockIndex": "@index@"})
    noted = {"stdout": "@text@", "stderr": "", "interrupted": False, "isImage": False}
    transcript.tool_result("@call@", "@text@", noted=noted)
    forms["result"] = _Form(_own(transcript.line()))
    transcript.tool_result("@call@", [logs.image("@text@")])
    forms["image"] = _Form(_own(transcript.line()))
    transcript.hook("PostToolUse", "@call@", tool="Bash")
    forms["hook"] = _Form(_own(transcript.line()))
    stamps = {"sessionId": "@sessionid@"}
    shape = {"system": [logs.text("@text@")], "tools": [{"name": "Bash", "description": "@tools@", "input_schema": {}}]}
    forms["shape"] = _Form({"type": "api-request-shape", **stamps, "shapeHash": "@hash@", "shape": shape})
    blob = {"role": "user", "content": [logs.text("@text@")]}
    forms["blob"] = _Form({"type": "api-request-blob", **stamps, "hash": "@hash@", "message": blob})
    snapshot = {"messageId": "@uuid@", "trackedFileBackups": {"@text@": "@uuid@"}, "timestamp": "@timestamp@"}
    forms["snapshot"] = _Form({"type": "file-history-snapshot", "messageId": "@uuid@", "snapshot": snapshot})
    forms["last"] = _Form({"type": "last-prompt", "lastPrompt": "@text@", **stamps})
    forms["title"] = _Form({"type": "ai-title", "aiTitle": "@text@", **stamps})
    session.turn_duration()
    forms["duration"] = _Form(_own(session.line()))
    return forms


class _Thread:
    """The lines of one conversation.

    Attributes:
        values: the values of the next line, except those that it sets itself.
        clock: when the latest line was written, in milliseconds since the epoch.
        size: bytes written.
    """

    def __init__(
        self, draws: random.Random, values: Values, kind: str, clock: int, write: Callable[[bytes], object]
    ) -> None:
        self._draws = draws
        self._write = write
        self._forms = _forms(kind)
        self._ascii, self._mixed, self._image = _pools()
        self._images = 0
        self.values = values | {b"parent": b"null", b"hash": b'""'}
        self.clock = clock
        self.size = 0

    def line(self, kind: str, **own: bytes) -> None:
        """Write one line."""
        values = self.values
        values[b"uuid"] = _uuid(self._draws)
        values[b"timestamp"] = self._time()
        values.update((name.encode(), value) for name, value in own.items())
        line = self._forms[kind].fill(values)
        if kind in _CHAINED:
            values[b"parent"] = values[b"uuid"]
        self.size += len(line)
        self._write(line)

    def text(self, median: float, spread: float, most: int = 110_000) -> bytes:
        """Return text of log-normal length, like most texts of people and programs."""
        pool = self._mixed if self._draws.random() < 0.4 else self._ascii
        return pool.take(self._draws, min(most, int(self._draws.lognormvariate(0, spread) * median)))

    def quoted(self, median: float, spread: float, most: int = 110_000) -> bytes:
        return _quote(self.text(median, spread, most))

    def shape(self) -> None:
        """Write the system prompt and the tools, as a client does once for each version of them."""
        half = self._draws.randint(25_000, 50_000)
        system, tools = (_quote(self._ascii.take(self._draws, half)) for _ in range(2))
        self._name_something()
        self.line("shape", text=system, tools=tools)

    def turn(self, prompt: bytes, *, answers: int, start: Start | None = None) -> None:
        """Write a prompt and *answers* of the model to it; the first answer starts a subagent if *start* is given."""
        self.values[b"promptid"] = _uuid(self._draws)
        self.line("prompt", text=prompt)
        for number in range(answers):
            self._answer(last=number == answers - 1, start=start if number == 0 else None)

    def _answer(self, *, last: bool, start: Start | None) -> None:
        draws, values = self._draws, self.values
        values[b"request"] = values[b"requestref"] = _uuid(draws)
        if draws.random() < 0.1:
            self._name_something()
            self.line("blob", text=self.quoted(2500, 1.0))
        self.line("asked")
        values[b"message"] = _quote(b"msg_01" + draws.randbytes(11).hex().encode())
        values[b"output"] = b"%d" % draws.randint(20, 3000)
        values[b"stop"] = b'"end_turn"' if last else b'"tool_use"'
        kinds = ["thinking"] if draws.random() < 0.35 else []
        kinds += ["text"] if last or draws.random() < 0.5 else []
        for number, kind in enumerate(kinds):
            at = int(draws.random() * 1_000_000)
            signature = _quote(self._image[at : at + draws.randint(300, 1200)])
            self.line(kind, text=self.quoted(380, 1.1), signature=signature, index=b"%d" % number)
        if last:
            return
        waiting = []
        for number in range(1 if draws.random() < 0.85 else draws.randint(2, 5)):
            call = _quote(b"toolu_01" + draws.randbytes(11).hex().encode())
            index = b"%d" % (len(kinds) + number)
            if start is not None and number == 0:
                self._agent(call, index, start)
                continue
            self._call(call, index)
            waiting.append(call)
            if draws.random() < 0.09:
                # It finishes before the answer does.
                self._result(waiting.pop(0))
        for call in waiting:
            self._result(call)

    def _agent(self, call: bytes, index: bytes, start: Start) -> None:
        prompt = self.quoted(600, 0.5)
        words = b'{"description":"Look","subagent_type":"general-purpose","prompt":%b}' % prompt
        self.line("call", tool=b'"Agent"', input=words, call=call, index=index)
        start(self, call, prompt)
        self.line("result", text=self.quoted(1200, 0.7), call=call)

    def _call(self, call: bytes, index: bytes) -> None:
        kind = self._draws.random()
        if kind < 0.6:
            words, tool = b'{"command":%b}' % self.quoted(110, 1.0), b'"Bash"'
        elif kind < 0.8:
            words, tool = b'{"file_path":"/srv/orchard/%b.py"}' % call[-8:-1], b'"Read"'
        else:
            old, new = self.quoted(500, 1.1), self.quoted(900, 1.1)
            words, tool = b'{"file_path":"/srv/a.py","old_string":%b,"new_string":%b}' % (old, new), b'"Edit"'
        self.line("call", tool=tool, input=words, call=call, index=index)

    def _result(self, call: bytes) -> None:
        draws = self._draws
        if draws.random() < 0.001:
            self._images += 1
            length = _LARGEST_IMAGE if self._images == _LARGEST_IS else draws.randint(50_000, 400_000)
            self.line("image", call=call, text=_quote(self._image[:length]))
        else:
            self.line("result", call=call, text=self.quoted(700, 1.85, 52_000))
        if draws.random() < 0.25:
            self.line("hook", call=call)

    def _name_something(self) -> None:
        self.values[b"hash"] = _quote(self._draws.randbytes(32).hex().encode())

    def _time(self) -> bytes:
        self.clock += int(self._draws.expovariate(1 / 900))
        moment = datetime.fromtimestamp(self.clock / 1000, UTC)
        return b'"%bZ"' % moment.isoformat(timespec="milliseconds")[:23].encode()


Start = Callable[[_Thread, bytes, bytes], None]
"""Starts a subagent, from its parent, the call and the prompt."""


def _uuid(draws: random.Random) -> bytes:
    digits = b"%032x" % draws.getrandbits(128)
    return b'"%b-%b-4%b-8%b-%b"' % (digits[:8], digits[8:12], digits[13:16], digits[17:20], digits[20:])


def _quote(data: bytes) -> bytes:
    return b'"' + data + b'"'


# ---------------------------------------------------------------------- sessions


class _Session:
    """Writes one session: its main log, and those of its subagents.

    Args:
        draws: the source of all random numbers.
        path: the main log.
        cwd: the folder it was started in.
        size: approximate bytes of all its files.
        agents: how many subagents it starts.
    """

    def __init__(self, draws: random.Random, path: Path, cwd: str, *, size: int, agents: int) -> None:
        self._draws = draws
        self._path = path
        self._size = size
        self._left = agents
        self._agent_size = size // (2 * agents) if agents else 0
        self._written = 0
        # A small session has few lines, not small lines.
        self._answers = min(14.0, size / 60_000)
        self._values = {b"sessionid": _quote(path.stem.encode()), b"cwd": _quote(cwd.encode())}

    def write(self) -> None:
        clock = _START + self._draws.randrange(30 * 86_400_000)
        with self._path.open("wb", buffering=1024 * 1024) as file:
            thread = _Thread(self._draws, self._values, "session", clock, file.write)
            thread.line("snapshot", text=b'"src/a.py"')
            shape_due = 0
            while self._left or self._written + thread.size < self._size:
                if self._size >= _SIZE_WITH_SHAPE and thread.size >= shape_due:
                    thread.shape()
                    shape_due = thread.size + 1_500_000
                prompt = thread.quoted(160, 1.2)
                start = self._start if self._left else None
                # The last answer calls no tool.
                answers = self._some_answers() + (start is not None)
                thread.turn(prompt, answers=answers, start=start)
                thread.line("duration")
                thread.line("last", text=prompt)
            thread.line("title", text=thread.quoted(40, 0.2, 60))
        _age(self._path)

    def _some_answers(self) -> int:
        return 1 + int(self._draws.expovariate(1 / self._answers))

    def _start(self, parent: _Thread, call: bytes, prompt: bytes) -> None:
        self._left -= 1
        agent = b"a" + self._draws.randbytes(8).hex().encode()
        folder = self._path.with_suffix("") / "subagents"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"agent-{agent.decode()}.jsonl"
        with log.open("wb", buffering=256 * 1024) as file:
            values = parent.values | {b"agent": _quote(agent)}
            thread = _Thread(self._draws, values, "agent", parent.clock, file.write)
            # More than one answer, so that there are tool calls.
            thread.turn(prompt, answers=1 + self._some_answers())
            while thread.size < self._agent_size:
                thread.turn(thread.quoted(160, 1.2), answers=self._some_answers())
        self._written += thread.size
        parent.clock = thread.clock
        meta = log.with_suffix(".meta.json")
        said = {"agentType": "general-purpose", "description": "Look", "toolUseId": json.loads(call), "finished": True}
        meta.write_text(json.dumps(said))
        _age(log)
        _age(meta)


def _age(path: Path) -> None:
    moment = _START / 1000 - _LAST_TOUCHED
    os.utime(path, (moment, moment))


def _write(spec: Spec, folder: Path) -> None:
    draws = random.Random(f"{spec}")
    # Few sessions hold most of the bytes.
    shares = [min(draws.paretovariate(1.6), 50.0) for _ in range(spec.sessions)]
    total = sum(shares)
    for number, share in enumerate(shares):
        cwd = f"/srv/bench/project-{number % spec.projects:04d}"
        project = folder / "projects" / logs.project_folder(cwd)
        project.mkdir(parents=True, exist_ok=True)
        agents = spec.agents * (number + 1) // spec.sessions - spec.agents * number // spec.sessions
        size = int(spec.size * share / total)
        _Session(draws, project / f"{json.loads(_uuid(draws))}.jsonl", cwd, size=size, agents=agents).write()


def _main() -> None:
    sessions, projects, size, agents = map(int, sys.argv[1:])
    spec = Spec(sessions=sessions, projects=projects, size=size, agents=agents)
    wanted = FOLDER / "corpora" / spec.name
    wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=wanted.parent))
    try:
        _write(spec, partial)
        partial.rename(wanted)
    except OSError:
        # Another run has made the corpus meanwhile.
        shutil.rmtree(partial)
        if not wanted.exists():
            raise


if __name__ == "__main__":
    _main()
