"""Pictures of `demo`, `tail`, `usage` and `preview --explain` for the README: `python -m tests.screenshots [FOLDER]`.

The demo's session is played at a fixed date, with a simulated clock, through the parts that `demo` and `tail` use. So
the same source always gives the same pictures. They name the versions of rich and genai-prices they were drawn with,
because another one may draw the same words differently, or know other prices.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner
from rich.console import Console

from daemon.cli import main as cli
from daemon.cli.demo import AFTER, BEFORE
from daemon.cli.live import Board, line
from daemon.cli.message import wrapped
from daemon.cli.preview import _as_words
from daemon.cli.render import delivered, tree
from daemon.config.loading import load
from daemon.demo.player import SESSION, steps
from daemon.following.catalog import Catalog
from daemon.reading.claims import Claims
from daemon.reading.emission import Progress
from daemon.reading.follower import Seen
from daemon.reading.pipeline import Pipeline
from daemon.reading.preview import find_logs, preview
from daemon.routing.repository import Repositories
from daemon.routing.routing import Routing
from llma_core import view
from llma_core.trace_tree import build
from llma_core.view import EventView
from tests.support.logs import LogBuilder, text, tool_use

__all__ = ["FOLDER", "pictures", "versions"]

FOLDER = Path(__file__).parent
"""The folder of the committed pictures."""

STARTED = datetime(2026, 11, 20, 9, 12, 40, tzinfo=UTC)
_SLICE_BYTES = 1 << 20
# rich's own template, without fonts from the web.
_TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<!-- VERSIONS -->
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
}}
.{unique_id}-title {{
    font-size: 18px;
    font-weight: bold;
    font-family: sans-serif;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def pictures() -> Mapping[str, str]:
    """Return the pictures as SVG, by file name."""
    with TemporaryDirectory() as folder:
        seen = list(_play(Path(folder)))
    return {"demo.svg": _demo(seen), "tail.svg": _tail(seen), "explain.svg": _explain(), "usage.svg": _usage()}


def versions() -> str:
    """Return what the pictures are drawn with."""
    return ", ".join(f"{name} {version(name)}" for name in ("rich", "genai-prices"))


def _play(folder: Path) -> Iterator[Seen]:
    """Write the demo's session step by step, and yield what a follower sees, with the time."""
    # Never runs git: the demo's folder does not exist here, and the user's address must not show.
    environ = {"POSTHOG_LLMA_DISTINCT_ID": "demo@example.com"}
    settings = load({}, environ, config_file=folder / "none.toml", home=folder)
    routing = Routing(settings, Repositories(), purpose="local")
    projects = folder / "projects"
    catalog, claims, pipeline, now = Catalog(), Claims(), None, 0.0
    for step in steps(STARTED):
        if pipeline is not None:
            yield from _until(pipeline, now + step.delay)
        now += step.delay
        path = step.write(projects)
        unit = catalog.add(str(path))
        assert unit is not None
        pipeline = pipeline or Pipeline(unit, claims=claims, routing=routing)
        yield from _seen(pipeline, pipeline.advance(now, _SLICE_BYTES))
    assert pipeline is not None
    yield from _until(pipeline, now + 60)
    yield from _seen(pipeline, pipeline.end(now + 60))


def _until(pipeline: Pipeline, end: float) -> Iterator[Seen]:
    while (due := pipeline.due()) is not None and due <= end:
        yield from _seen(pipeline, pipeline.poll(due))


def _seen(pipeline: Pipeline, progress: Progress) -> Iterator[Seen]:
    for emission in progress.emissions:
        if emission.event is not None:
            body = emission.event.body
            yield Seen(session=SESSION, what=view.read(body), words=view.words(body))
        elif emission.prompt is not None:
            asked = view.prompt(emission.prompt, pipeline.attribution())
            yield Seen(session=SESSION, what=asked, words=asked.words or "")


def _demo(seen: list[Seen]) -> str:
    views = [each.what for each in seen if isinstance(each.what, EventView)]
    console = _console(120)
    console.print(BEFORE)
    for each in views:
        console.print(delivered(each, zone=UTC), no_wrap=True, overflow="ellipsis")
    console.print()
    described = {
        each.what.uuid: each.words
        for each in seen
        if isinstance(each.what, EventView) and each.what.kind in ("span", "trace")
    }
    console.print(tree(build(views[0].trace_id, views, words=described), zone=UTC), no_wrap=True, overflow="ellipsis")
    for words in AFTER:
        console.print(words)
    return _svg(console, "posthog-llma-daemon demo")


def _tail(seen: list[Seen]) -> str:
    board, console = Board(""), _console(100)
    # While the session still runs.
    for each in seen[:-1]:
        board.add(each)
    for each in seen[:-1]:
        console.print(line(each, zone=UTC, project_width=board.project_width), no_wrap=True, overflow="ellipsis")
    console.print(board)
    return _svg(console, "posthog-llma-daemon tail")


def _explain() -> str:
    log = LogBuilder(SESSION, cwd="/home/demo/shop", start="2026-11-20T09:12:40.000Z")
    log.prompt("The upload fails. The token is ghp_" + "a1B2c3D4e5F6" * 3)
    log.answer(text("I look at the settings."), tool_use("Read", {"file_path": "/home/demo/shop/.env"}, id="toolu_1"))
    log.tool_result("toolu_1", "DB_PASSWORD=correct-horse-battery\nREGION=eu\n")
    log.answer(text("The token has expired. Make a new one."))
    console = _console(120)
    console.print(
        "$ POSTHOG_LLMA_CONTENT=no_tool_content posthog-llma-daemon preview --explain ~/.claude", style="bold"
    )
    with TemporaryDirectory() as folder:
        projects = Path(folder) / "projects"
        log.write(projects)
        environ = {"POSTHOG_LLMA_DISTINCT_ID": "demo@example.com", "POSTHOG_LLMA_CONTENT": "no_tool_content"}
        settings = load({}, environ, config_file=Path(folder) / "none.toml", home=Path(folder))
        routing = Routing(settings, Repositories(), purpose="preview", explain=True)
        for event in preview(list(find_logs([projects])), routing):
            for row in wrapped(_as_words(event).decode(), 119, then="  "):
                console.print(row)
    return _svg(console, "posthog-llma-daemon preview --explain")


def _usage() -> str:
    console = _console(100)
    with TemporaryDirectory() as folder:
        for step in steps(STARTED):
            step.write(Path(folder) / ".claude" / "projects")
        ours = ("POSTHOG", "CLAUDE", "XDG", "OPT_OUT")
        environ: dict[str, str | None] = {name: None for name in os.environ if name.startswith(ours)}
        environ |= {"HOME": folder, "COLUMNS": "100", "POSTHOG_LLMA_DISTINCT_ID": "demo@example.com"}
        for options in ("--since 2026-11-20", "--since 2026-11-20 --by tool"):
            ended = CliRunner().invoke(cli, ["usage", *options.split()], env=environ, catch_exceptions=False)
            console.print(f"$ posthog-llma-daemon usage {options}", style="bold")
            console.print(ended.stdout)
    return _svg(console, "posthog-llma-daemon usage")


def _console(width: int) -> Console:
    # Independent of the terminal, if any, that this runs in.
    return Console(
        record=True,
        file=io.StringIO(),
        width=width,
        highlight=False,
        markup=False,
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
        _environ={},
    )


def _svg(console: Console, title: str) -> str:
    template = _TEMPLATE.replace("VERSIONS", versions())
    drawn = console.export_svg(title=title, code_format=template, unique_id=title.rpartition(" ")[2].lstrip("-"))
    return "".join(f"{row.rstrip()}\n" for row in drawn.splitlines())


def main(folder: Path) -> None:
    """Write the pictures into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        (folder / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
