"""`llmsess completion`: the script that a shell completes with."""

from __future__ import annotations

import click

from llmsess.cli import output


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
      eval "$(llmsess completion bash)"
    """
    from click.shell_completion import get_completion_class

    scripts = get_completion_class(shell)
    assert scripts is not None
    output.out(scripts(ctx.find_root().command, {}, "llmsess", "_LLMSESS_COMPLETE").source())
