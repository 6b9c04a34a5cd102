"""`completion`: print a script that completes this command line in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from daemon.cli.startup import fail
from daemon.config.table import APP_NAME

__all__ = ["completion"]

_VARIABLE = f"_{APP_NAME.replace('-', '_').upper()}_COMPLETE"
# Not a docstring: click keeps these lines as they are because of the control character in front of them.
_HELP = f"""Print a script that lets SHELL complete this command line.

Load it in your shell's startup file:

\b
bash, in ~/.bashrc:
  eval "$({APP_NAME} completion bash)"
zsh, in ~/.zshrc:
  eval "$({APP_NAME} completion zsh)"
fish, in ~/.config/fish/config.fish:
  {APP_NAME} completion fish | source
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of *shell*."""
    kind = get_completion_class(shell)
    if kind is None:
        raise fail(f"this version of click has no completion for {shell}; update click")
    click.echo(kind(context.find_root().command, {}, APP_NAME, _VARIABLE).source())
