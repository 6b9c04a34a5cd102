"""Programs that record die in the middle of a line beside a daemon that is killed: each whole line counts once."""

from __future__ import annotations

from tests.reliability.recorders import Recorders
from tests.support.cadence import cadence_variables
from tests.support.capture_server import CaptureServer
from tests.support.client import Workspace
from tests.support.processes import bodies, environment, following, kill, previewed, verb

PROGRAMS = 8


async def test_every_whole_line_arrives_once(workspace: Workspace) -> None:
    outbox = workspace.state / "outbox"
    for folder in (workspace.state, outbox):
        folder.mkdir(mode=0o700)
    recorders = Recorders(workspace, outbox, seed=1, cut_share=0.05)
    async with CaptureServer() as posthog:
        env = environment(workspace, posthog.url, **cadence_variables(gone=0.2))
        async with recorders.running(PROGRAMS):
            for deaths in (PROGRAMS // 2, PROGRAMS):
                arrived = len(posthog.requests)
                async with following(workspace, env=env, ready=False) as daemon:
                    await daemon.until(
                        lambda arrived=arrived, deaths=deaths: (  # type: ignore[misc]
                            len(posthog.requests) > arrived and recorders.deaths >= deaths
                        )
                    )
                    await kill(daemon)
        ended = await verb(workspace, "run", "--once", env=env)
        assert ended.status == 0, ended.stderr
        said = await verb(workspace, "preview", recorders.kept, env=env)
        assert said.status == 0, said.stderr
        assert bodies(posthog) == previewed(said.stdout)
        cut = [path for path in recorders.kept.iterdir() if not path.read_bytes().endswith(b"\n")]
        assert len(cut) >= PROGRAMS, "they did die in the middle of a line"
    assert posthog.violations == []
