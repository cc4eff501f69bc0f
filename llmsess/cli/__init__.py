"""The command: the root group, whose commands are imported when they are called, and the end of every error.

A callback parses, calls one operation of the library, and shows what it returns.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from llmsess.errors import InvalidInput, LlmsessError
from llmsess.version import __version__

INTERRUPTED, BROKEN_PIPE = 130, 141  # exit statuses, 128 + the signal's number
ENDING = ("SIGTERM", "SIGHUP")  # signals that ask the process to end; not every system has them

COMMANDS = {  # name: (module and attribute, short help)
    "project": ("project:project", "Folders of work."),
    "model": ("model:model", "Language models one can call, their servers and prices."),
    "session": ("session:session", "Conversations: list, show, fork, edit, tag, delete."),
    "chat": ("chat:chat", "Send a prompt to a model, in a new or a continued conversation."),
    "template": ("template:template", "Saved prompts with variables."),
    "search": ("search:search", "Find messages by what they say."),
    "snapshot": ("snapshot:snapshot", "Marks in a conversation: go back to them, compare, replay."),
    "batch": ("batch:batch", "Many prompts, each answered once; resumed after whatever stopped them."),
    "compare": ("compare:compare", "A/B tests of models and prompts: asked, scored, judged, with an honest answer."),
    "stats": ("stats:stats", "Counts, tokens and cost."),
    "import": ("imports:import_", "Bring in conversations of other tools."),
    "export": ("exports:export", "Write conversations in a format."),
    "db": ("database:db", "The database file: where it is, is it whole, its versions."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
    "list": ("session:list_", "Short for: session list."),
    "show": ("session:show", "Short for: session show."),
    "create": ("session:create", "Short for: session create."),
    "add": ("session:add", "Short for: session add."),
}


class SuggestingGroup(click.Group):
    """A group that answers a mistyped command with the one that was meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            prompt = ' To send a prompt: llmsess chat "...".' if ctx.parent is None else ""
            guess = f' Did you mean "{near[0]}"?' if near else prompt
            raise click.UsageError(f'No command "{name}".{guess}', ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(SuggestingGroup):
    """The root group: knows its commands' names and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"llmsess.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


class Terminated(BaseException):
    """The process was asked to end: a turn is settled on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class State:
    """What the root's options say, and the database they lead to."""

    def __init__(self, db: str | None, debug: bool) -> None:
        self.db, self.debug = db, debug


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--db", metavar="PATH", help="The database file (else LLMSESS_DB, else the data folder's).")
@click.option("--debug", is_flag=True, help="Log every statement to standard error.")
@click.version_option(__version__, "-V", "--version", message="llmsess %(version)s")
@click.pass_context
def root(ctx: click.Context, db: str | None, debug: bool) -> None:
    """Keep every conversation with a language model in one file, and run new ones.

    \b
    Examples:
      llmsess chat "why is the sky blue?" -m openai/gpt-5
      llmsess import auto ~/.claude/projects
      llmsess search "sky -cloud"
    """
    ctx.obj = State(db, debug)
    if debug:
        logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
        logging.getLogger("peewee").setLevel(logging.DEBUG)
    if ctx.invoked_subcommand is None:
        from llmsess.cli.welcome import show_welcome

        show_welcome()


def main(args: list[str] | None = None) -> None:
    """Run the command and exit with its status, or by the signal that ended it."""
    for name in ENDING:
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:  # not under nohup
            signal.signal(getattr(signal, name), _terminate)
    try:
        sys.exit(run(sys.argv[1:] if args is None else args))
    except Terminated as error:
        signal.signal(error.number, signal.SIG_DFL)
        os.kill(os.getpid(), error.number)


def _terminate(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the turn is to be settled
    raise Terminated(number)


def run(args: list[str]) -> int:
    """Run the command and return its exit status; the table is in docs/cli.md."""
    from llmsess.cli import output

    as_json = "--json" in args or "--format=json" in args or ("--format", "json") in itertools.pairwise(args)
    try:
        output.forgiving()
        root.main(args=args, prog_name="llmsess", standalone_mode=False)
        return 0
    except LlmsessError as error:
        if isinstance(error, output.Unwritable):
            output.silence()
        return output.show_error(error, as_json=as_json)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        output.notice(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        return output.show_error(_usage(error), as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        output.notice("Interrupted.")
        return INTERRUPTED
    except output.ReaderGone:
        output.silence()
        return BROKEN_PIPE
    except OSError as error:  # a folder that is gone, a disk that is full: the machine's trouble, not a bug
        return output.show_error(LlmsessError(str(error)), as_json=as_json)
    except Exception as error:  # noqa: BLE001  raised again, unless it is the driver's
        return _database_status(error, as_json)


def _usage(error: click.ClickException) -> InvalidInput:
    """Return click's error as ours, on one line."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    usage = InvalidInput(" ".join(error.format_message().split()), hint=f"{ctx.command_path} --help" if ctx else None)
    usage.kind = "usage"
    return usage


def _database_status(error: Exception, as_json: bool) -> int:
    """Return the status of a driver's error that came out of a cursor; any other is a bug and stays one."""
    from llmsess import db
    from llmsess.cli import output

    ours = db.database.translate(error) if isinstance(error, db.DRIVER_ERRORS) else error
    if not isinstance(ours, LlmsessError):
        raise error
    return output.show_error(ours, as_json=as_json)
