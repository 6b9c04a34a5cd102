"""`completion`: what lets a shell complete this command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from daemon.cli.startup import fail
from daemon.config.table import APP_NAME

__all__ = ["completion"]

_VARIABLE = f"_{APP_NAME.replace('-', '_').upper()}_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    r"""Print a script that lets SHELL complete this command line.

    \b
    bash:  posthog-llma-daemon completion bash >> ~/.bashrc
    zsh:   posthog-llma-daemon completion zsh >> ~/.zshrc
    fish:  posthog-llma-daemon completion fish > ~/.config/fish/completions/posthog-llma-daemon.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise fail(f"{shell}: this version of click does not complete for it; update click")
    click.echo(kind(context.find_root().command, {}, APP_NAME, _VARIABLE).source())
