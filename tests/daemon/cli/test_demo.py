"""`demo`: a recorded session becomes a trace; nothing leaves the machine and nothing stays on it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.support.client import Workspace
from tests.support.processes import environment, put_logs, tree, verb

# The interpreter imports this before anything else. It makes every use of the network an error.
NO_NETWORK = """
import os
import socket

def refuse(*arguments, **settings):
    os.write(2, b"the network was used\\n")
    os._exit(99)

socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""


async def test_it_shows_events_and_a_tree_and_leaves_nothing_behind(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "machine")
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(NO_NETWORK)
    env = workspace.environment(
        PYTHONPATH=str(blocker),
        # Whatever is configured, the demo is the same and sends nothing.
        POSTHOG_API_KEY="phc_real",
        POSTHOG_LLMA_CC_ENABLED="true",
        POSTHOG_HOST="http://127.0.0.1:9",
        POSTHOG_LLMA_STATE_DIR=str(workspace.state),
    )
    started = time.monotonic()
    ended = await verb(workspace, "demo", env=env)
    assert time.monotonic() - started < 60
    assert ended.status == 0, ended.stderr
    assert ended.stderr == ""

    lines = ended.stdout.splitlines()
    kinds = [line.split()[1] for line in lines if re.match(r"\d\d:", line)]
    assert kinds.count("generation") == 11  # one of them is the API's failure
    assert kinds.count("span") == 7
    assert kinds[-1] == "trace"
    nested = [line for line in lines if line.startswith("│       │       ├── claude-haiku")]
    assert len(nested) == 1, ended.stdout
    assert re.search(r"Bash  \d\.\d\d s  ok  grep -n wait tests/test_retry\.py", ended.stdout), "with its command"
    assert "posthog-llma-daemon view " in ended.stdout

    for folder in (workspace.temporary, workspace.home, workspace.work):
        assert list(folder.iterdir()) == []
    assert not workspace.state.exists()
    assert not workspace.config.exists()


async def test_the_blocker_blocks(tmp_path: Path) -> None:
    """The test above relies on this: a daemon that has something to send is ended."""
    workspace = Workspace(tmp_path / "machine")
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(NO_NETWORK)
    put_logs(workspace, tree())
    env = environment(workspace, "http://127.0.0.1:9", PYTHONPATH=str(blocker))
    ended = await verb(workspace, "run", "--once", env=env)
    assert (ended.status, "the network was used" in ended.stderr) == (99, True)
