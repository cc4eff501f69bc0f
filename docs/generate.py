"""Write docs/cli.md from the commands' own help, or with --check say whether it is up to date."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from llmsess.cli import COMMANDS, root

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command

Written by `make docs` from the commands' own help; `make check` fails where it is out of date.

Data goes to standard output, everything else to standard error. `--json` is short for `--format json`; keys are stable.
With `--json` an error is an object on standard error too: `kind`, `message`, `hint`, `retryable`.

| exit status | meaning |
| --- | --- |
| 0 | fine |
| 1 | an error |
| 2 | wrong usage: an option, a value, a reference that is ambiguous |
| 3 | not found |
| 4 | the provider or the network |
| 5 | the database: locked, damaged, newer, foreign, read-only, full |
| 6 | finished, but some of it failed |
| 130 | Ctrl-C |
| 141 | whoever read the output went away |

A reference to a session or message is its id, any unique beginning of it of 4 characters or more, an exact title or
name (in quotes where it looks like something else), or `@last`. `@FILE` reads an option's text from a file.

`llmsess list`, `show`, `create` and `add` are short for `llmsess session list`, ...

What `--json` prints is in [json.md](json.md).
"""
SHORT = ("list", "show", "create", "add")


def commands(
    command: click.Command, ctx: click.Context, path: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command below one, with the words that call it."""
    yield path, command, ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            if command is root and name in SHORT:
                continue
            below = command.get_command(ctx, name)
            assert below is not None
            inner = click.Context(below, info_name=name, parent=ctx, terminal_width=100, max_content_width=100)
            yield from commands(below, inner, f"{path} {name}")


def every_command() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command, with the words that call it and the context of its help."""
    ctx = click.Context(
        root, info_name="llmsess", terminal_width=100, max_content_width=100, help_option_names=["-h", "--help"]
    )
    return commands(root, ctx, "llmsess")


def page() -> str:
    """Return docs/cli.md as it should be."""
    parts = [HEAD]
    for path, command, inner in every_command():
        level = "##" if path.count(" ") <= 1 else "###"
        parts.append(f"{level} {path}\n\n```\n{command.get_help(inner)}\n```\n")
    return "\n".join(parts)


def main() -> int:
    wanted = page()
    if "--check" not in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write(f"docs/cli.md is out of date ({len(COMMANDS)} commands): make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
