"""Archives under fire: kills the command, workers and the scheduler of a cluster at random while archives are sent.

    python -m tests.reliability.archive --archives 40 --sessions 50 --kills 6 --seed 1

The archives are in an S3 on loopback, each with the sessions of one CI runner. The receiver is the capture server.
Every round stores some more archives and starts what is missing of the cluster. Then it starts `archive`, waits for a
random number of requests, and kills something. In the end one more run sends what is left, and the received events are
compared with those that `preview` gives for the same logs. It prints what happened, and exits with 1 if an event was
lost, was unexpected, or came in two forms. It needs the extra `fleet-test`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.support.capture_server import CaptureServer
from tests.support.client import Child, Workspace, start
from tests.support.fleet import Cluster, Store, packed, runner_sessions
from tests.support.processes import ROOT, bodies, environment, expected, put_logs

LONGEST = 900.0
"""Seconds that the last run may take."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "daemon.cli", "archive", "s3://logs", "--json", *arguments]


async def _wait(child: Child, server: CaptureServer, requests: int) -> bool:
    """Wait until *requests* more have come; return False if the child ends first."""
    before = len(server.requests)
    with suppress(ChildProcessError):
        await child.until(lambda: len(server.requests) >= before + requests)
        return True
    return False


async def _main(archives: int, sessions: int, kills: int, seed: int) -> int:
    draws = random.Random(seed)
    async with AsyncExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="archives-under-fire-")))
        workspace = Workspace(root / "machine")
        store = await stack.enter_async_context(Store.running(workspace))
        server = await stack.enter_async_context(CaptureServer())
        await asyncio.to_thread(store.put, "logs")
        print(f"{archives} archives of {sessions} sessions")
        variables = environment(workspace, server.url, **store.environment)
        cluster: Cluster | None = None
        for kill in range(kills + 1):
            for number in range(archives * kill // (kills + 1), archives * (kill + 1) // (kills + 1)):
                files = runner_sessions(number * sessions, sessions, turns=4)
                put_logs(workspace, files)
                name = f"{number}.tar.{'zst' if number % 3 == 0 else 'gz'}"
                await asyncio.to_thread(store.put, f"logs/{name}", packed(files, name))
            if cluster is None:
                cluster = Cluster(workspace, f"cluster-{kill}", store.environment)
                await stack.enter_async_context(cluster)
            while sum(worker.running for worker in cluster.workers) < cluster.size:
                await cluster.add_worker()
            begun = time.monotonic()
            run = start(
                command(f"--scheduler={cluster.address}"),
                name=f"run-{kill}",
                environment=variables,
                cwd=ROOT,
                output=workspace.output,
            )
            async with run as child:
                what = draws.choice(("client", "worker", "scheduler")) if kill < kills else "nothing"
                if what != "nothing" and await _wait(child, server, draws.randint(1, max(1, archives // (kills + 1)))):
                    victims = {"client": [child], "scheduler": [cluster.scheduler], "worker": cluster.workers}
                    victim = draws.choice([each for each in victims[what] if each.running])
                    os.kill(victim.pid, signal.SIGKILL)
                status = await child.wait(LONGEST)
                said = json.loads(child.stdout) if child.stdout else {}
            if not cluster.scheduler.running:
                cluster = None
            print(
                f"killed the {what}: status {status}, {said.get('unchanged')} done before, {said.get('done')} done, "
                f"{len(server.events):,} events received, {time.monotonic() - begun:.1f} s"
            )
        received, right = bodies(server), await expected(workspace)
    lost, extra = right.keys() - received.keys(), received.keys() - right.keys()
    different = [uuid for uuid in received.keys() & right.keys() if received[uuid] != right[uuid]]
    again = len(server.events) - len(received)
    print(
        f"{len(right):,} events: {len(lost)} lost, {len(extra)} extra, {len(different)} different, {again} sent again"
    )
    return 1 if lost or extra or different or status else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.archive", description=__doc__.splitlines()[0])
    parser.add_argument("--archives", type=int, default=40)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    return asyncio.run(_main(given.archives, given.sessions, given.kills, given.seed))


if __name__ == "__main__":
    sys.exit(main())
