"""Archives in object storage, read by a cluster whose parts are killed: nothing is lost, nothing has two forms.

Needs the extra: `pip install -e '.[fleet-test]'`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.capture_server import CaptureServer, Hold
from tests.support.client import Child, Workspace, start
from tests.support.fleet import Cluster, Store, packed, runner_sessions
from tests.support.processes import ROOT, bodies, environment, expected, kill, put_logs

for package in ("distributed", "moto", "s3fs", "zstandard"):
    pytest.importorskip(package, reason="needs the extra fleet-test", exc_type=ImportError)

TELL = """
import sys
from distributed import Client, Variable
from daemon.archiving.sending import PaceSpec

def wait(spec):
    spec.open().wait(5e9)

def until(spec):
    return spec.open().until()

with Client(sys.argv[1]) as client:
    client.wait_for_workers(2, timeout=60)
    Variable("pace", client=client).set(0.0)
    spec = PaceSpec("variable", "pace")
    told, other = client.scheduler_info(n_workers=-1)["workers"]
    before = client.submit(until, spec, workers=[other], pure=False).result()
    client.submit(wait, spec, workers=[told], pure=False).result()
    print(before, client.submit(until, spec, workers=[other], pure=False).result())
"""
"""Lets one worker of a cluster tell the others to wait, and asks another one until when."""
NAMES = ("1.tar.gz", "2.tar.zst", "3.tar.gz", "4.tar.gz", "5.tar.zst", "6.tar.gz")


@asynccontextmanager
async def archiving(
    workspace: Workspace, name: str, *arguments: str, posthog: CaptureServer, store: Store, **own: str
) -> AsyncIterator[Child]:
    variables = environment(workspace, posthog.url, **store.environment, **own)
    command = [sys.executable, "-m", "tests.support.quick", "archive", "s3://logs/ci", "--json", *arguments]
    async with start(command, name=name, environment=variables, cwd=ROOT, output=workspace.output) as child:
        yield child


async def test_a_killed_worker_client_or_scheduler_loses_nothing(tmp_path: Path, posthog: CaptureServer) -> None:
    workspace = Workspace(tmp_path / "machine")
    files = {name: runner_sessions(10 * number, 2) for number, name in enumerate(NAMES)}
    put_logs(workspace, {path: data for each in files.values() for path, data in each.items()})
    everything = await expected(workspace)
    async with Store.running(workspace) as store:
        await asyncio.to_thread(store.put, "logs")
        for name in NAMES[:4]:
            await asyncio.to_thread(store.put, f"logs/ci/{name}", packed(files[name], name))

        async with Cluster(workspace, "first", store.environment) as cluster:
            address = f"--scheduler={cluster.address}"
            async with start(
                [sys.executable, "-c", TELL, cluster.address],
                name="tell",
                environment=environment(workspace),
                cwd=ROOT,
                output=workspace.output,
            ) as child:
                assert await child.wait() == 0, child.stderr
                assert child.stdout == "0.0 5000000000.0\n"

            # The client is killed while one worker waits for PostHog's answer.
            gate = asyncio.Event()
            posthog.script(Hold(gate))
            async with archiving(workspace, "killed", address, posthog=posthog, store=store) as child:
                await child.until(lambda: len(posthog.requests) >= 2)
                await kill(child)
            gate.set()

            # A worker is killed while both wait: the other one does its work, too.
            gate = asyncio.Event()
            asked = len(posthog.requests)
            posthog.script(Hold(gate), Hold(gate))
            async with archiving(workspace, "goes-on", address, posthog=posthog, store=store) as child:
                await child.until(lambda: len(posthog.requests) >= asked + 2)
                await kill(cluster.workers[0])
                gate.set()
                assert await child.wait() == 0, child.stderr
            said = json.loads(child.stdout)
            # Nobody waited for the answers of the first two, so nothing says that they are done.
            assert (said["unchanged"] + said["done"], said["errors"]) == (4, {})

            # The scheduler is killed.
            for name in NAMES[4:]:
                await asyncio.to_thread(store.put, f"logs/ci/{name}", packed(files[name], name))
            gate = asyncio.Event()
            asked = len(posthog.requests)
            posthog.script(Hold(gate))
            async with archiving(workspace, "no-scheduler", address, posthog=posthog, store=store) as child:
                await child.until(lambda: len(posthog.requests) > asked)
                await kill(cluster.scheduler)
                assert await child.wait() == 1
                assert "the scheduler is gone; run the same command again" in child.stderr
                assert child.stderr.count("\n") == 1, child.stderr
            gate.set()

        # The next run goes on, with workers of its own.
        async with archiving(workspace, "last", "--jobs=2", posthog=posthog, store=store) as child:
            assert await child.wait() == 0, child.stderr
        said = json.loads(child.stdout)
        assert said["unchanged"] >= 4
        assert said["unchanged"] + said["done"] == 6
        assert child.stderr == ""

        # A manifest in object storage is one for all machines: what one has sent is done for the other.
        kept = ("--jobs=1", "--manifest=s3://logs/state")
        for machine, done in (("one", 6), ("other", 0)):
            before = len(posthog.requests)
            own = {"POSTHOG_LLMA_STATE_DIR": str(workspace.root / machine)}
            async with archiving(workspace, machine, *kept, posthog=posthog, store=store, **own) as child:
                assert await child.wait() == 0, child.stderr
            said = json.loads(child.stdout)
            assert (said["done"], said["unchanged"], said["errors"]) == (done, 6 - done, {})
            assert (len(posthog.requests) > before) == bool(done)

    assert bodies(posthog) == everything
