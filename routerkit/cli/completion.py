"""``routerkit completion``: the script by which a shell completes the command."""

from __future__ import annotations

import sys

import click

from routerkit.cli import options
from routerkit.cli.options import Shared
from routerkit.cli.terminal import Output

SHELLS = ("bash", "zsh", "fish")
NAME = "routerkit"
"""The console script."""
_VARIABLE = f"_{NAME.upper()}_COMPLETE"
"""By this variable the script asks the command for words; click answers before the command begins."""


@click.command(short_help="Print the script for shell completion.")
@click.argument("shell", type=click.Choice(SHELLS))
@options.as_json
@options.shared
@click.pass_obj
def completion(shared: Shared, /, shell: str) -> None:
    """Print the script by which a shell completes commands, options and names with the tab key.

    \b
    Let the shell read it when it starts:
      bash  eval "$(routerkit completion bash)" in ~/.bashrc; 4.4 or newer
      zsh   eval "$(routerkit completion zsh)" in ~/.zshrc, below compinit
      fish  routerkit completion fish | source, in ~/.config/fish/config.fish

    Models are completed as far as the settings name them; no gateway is asked for that.

    \b
    Examples:
      routerkit completion bash > /etc/bash_completion.d/routerkit
      echo 'eval "$(routerkit completion zsh)"' >> ~/.zshrc
      routerkit completion fish > ~/.config/fish/completions/routerkit.fish
    """
    script = script_for(shell)
    stdout = Output(sys.stdout)
    if shared.as_json:
        stdout.json({"shell": shell, "script": script})
    else:
        stdout.text(script)
        stdout.end_line()


def script_for(shell: str) -> str:
    """What the shell is to read."""
    from click.shell_completion import get_completion_class

    from routerkit.cli.program import program

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    return kind(program, {}, NAME, _VARIABLE).source()
