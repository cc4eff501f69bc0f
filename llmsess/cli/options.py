"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from llmsess.cli import output
from llmsess.cli.completion_types import MODEL, PROJECT, SESSION, TAG
from llmsess.errors import InvalidInput
from llmsess.settings import expanded
from llmsess.texts import without_controls

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_SPAN = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Notices(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output.notice(f"Warning: {record.getMessage()}", fg="yellow")


def database(command: F) -> F:
    """Open the database before a command, and settle what a crash before left behind."""

    @functools.wraps(command)
    def opened(*args: Any, **kwargs: Any) -> Any:
        open_database()
        return command(*args, **kwargs)

    return opened  # type: ignore[return-value]


def open_database(*, recover: bool = True) -> None:
    """Open the database of the root's options, settle what a dead process left, and close it at the end."""
    from llmsess import db, owners

    ctx = click.get_current_context()
    if not db.log.handlers:
        db.log.addHandler(_Notices())
    opened = db.connect(ctx.find_root().obj.db)
    ctx.call_on_close(opened.close)
    if recover and owners.any_held():
        recovered()


def recovered() -> list[Any]:
    """Settle the replies that dead processes left unfinished, say so, and return them."""
    from llmsess import chat, sessions

    messages, batched = chat.recover(), 0
    for message in messages:
        session = sessions.by_id(message.session_id)
        in_batch = session.session_type in ("batch", "comparison", "workflow")
        batched += in_batch
        if session.status == "deleted" or in_batch:
            continue
        title = f" ({session.title})" if session.title else ""
        output.notice(
            f"A reply in session {session.uuid[:8]}{title} was interrupted; what came is kept. "
            f"Go on with: llmsess chat --session {session.uuid[:8]} PROMPT, "
            f"or ask again with: llmsess session retry {session.uuid[:8]}"
        )
    if batched:
        output.notice(f"{output.counted(batched, 'request')} of batches had no answer yet: llmsess batch list")
    return messages


def format_options(command: F) -> F:
    """Add --format and --json."""
    command = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")(command)
    return click.option("--format", "format_", type=click.Choice(output.FORMATS), help="How to show it.")(command)


def chosen_format(format_: str | None, as_json: bool) -> str | None:
    """Return the format that the two options mean."""
    return "json" if as_json else format_


def list_options(command: F) -> F:
    """Add --limit, --all and --cursor."""
    command = click.option("--cursor", help="Go on where a list before ended.")(command)
    command = click.option("--all", "all_", is_flag=True, help="Everything, not only the first.")(command)
    return click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many.")(command)


def one_page(rows: Sequence[T], key: Callable[[T], str], limit: int, all_: bool, cursor: str | None) -> list[T]:
    """Return the page that the options of `list_options()` mean of rows sorted by a key, and say how to go on."""
    from llmsess import listing

    shown, following = listing.page(rows, key, None if all_ else limit, cursor)
    if following is not None:
        output.show_next(len(shown), len(rows), following)
    return shown


def session_filters(command: F) -> F:
    """Add the options that choose sessions; `session_filter()` reads them."""
    command = other_filters(command)
    command = click.option("--model", shell_complete=MODEL, help="Only with this model, as provider/name.")(command)
    return click.option("--project", shell_complete=PROJECT, help="Only in this project.")(command)


def other_filters(command: F) -> F:
    """Add the options that choose sessions by anything but project and model."""
    for option in (
        click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Only with this metadata."),
        click.option("--until", help="Only with activity before: 7d, yesterday, a date, a time."),
        click.option("--since", help="Only with activity since: 7d, yesterday, a date, a time."),
        click.option("--status", help="Only with this status (archived ones show only so)."),
        click.option("--type", "type_", help="Only of this type: single, imported, batch, ..."),
        click.option("--tag", shell_complete=TAG, help="Only with this tag."),
    ):
        command = option(command)
    return command


def session_filter(options: dict[str, Any]) -> Any:
    """Return the SessionFilter that the options of `session_filters()` mean."""
    from llmsess.sessions import SessionFilter

    return SessionFilter(
        project=options["project"], model=options["model"], tag=options["tag"], type=options["type_"],
        status=options["status"], since=moment(options["since"]), until=moment(options["until"]),
        metadata=tuple(pair(item) for item in options["meta"]),
    )  # fmt: skip


_REQUEST = (
    click.option("--model", "-m", shell_complete=MODEL, help="The model; the session goes on with it."),
    click.option("--system", "-s", help="The system prompt (of this turn, where a session goes on); @FILE reads it."),
    click.option(
        "-o", "--option", "parameters", nargs=2, multiple=True, metavar="NAME VALUE",
        help="A parameter (of this turn, where a session goes on).",
    ),
    click.option("--context", metavar="all|last:N", help="What of the conversation is sent: all, or N messages."),
    click.option("--retries", type=click.IntRange(0), help="How often a refused request is sent again (3)."),
    click.option("--no-stream", is_flag=True, help="Ask for the reply in one piece."),
    click.option("--hide-reasoning", "-R", is_flag=True, help="Do not show the model's reasoning."),
    click.option("--raw", is_flag=True, help="Show Markdown as it comes on a terminal too."),
)  # fmt: skip


def request_options(command: F) -> F:
    """Add the options that say how a turn is sent and shown."""
    for option in reversed(_REQUEST):
        command = option(command)
    return command


def session_argument(command: F) -> F:
    """Add the argument SESSION."""
    return click.argument("reference", metavar="SESSION", shell_complete=SESSION)(command)


def pair(text: str) -> tuple[str, str]:
    """Return KEY=VALUE as two texts; raises InvalidInput."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidInput(f'"{text}" is not KEY=VALUE')
    return key, value


def moment(text: str | None) -> datetime | None:
    """Return the time a person means, aware: 7d or 12h ago, today, yesterday, a date, or an ISO time (else local)."""
    if text is None:
        return None
    words = text.strip().lower()
    span = _SPAN.fullmatch(words)
    if span:
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
        except OverflowError as error:
            raise InvalidInput(f'"{text}" is too long ago') from error
    if words in ("now", "today", "yesterday"):
        today = datetime.now().astimezone()
        midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
        return {"now": today, "today": midnight, "yesterday": midnight - timedelta(days=1)}[words].astimezone(UTC)
    try:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f'"{text}" is no time', hint="as 7d, yesterday, 2026-01-31 or 2026-01-31T13:00") from error


def text_value(text: str | None) -> str | None:
    """Return an option's text: what it says, or with @FILE what the file says (@@ for a text that begins with @)."""
    if text is None or not text.startswith("@"):
        return text
    if text.startswith("@@"):
        return text[1:]
    try:
        return expanded(text[1:]).read_bytes().decode(errors="replace")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        raise InvalidInput(f"the file {text[1:]} cannot be read: {reason}", hint="@@ begins a text with @") from error


def edited_text(start: str = "") -> str:
    """Return what a person writes in $EDITOR; raises InvalidInput where nothing came of it."""
    text = click.edit(start)
    if text is None or not text.strip():
        raise InvalidInput("nothing was written", hint="save the text in the editor")
    return text.rstrip("\n")


def standard_input() -> str:
    """Return what is piped in, "" where standard input is a terminal or closed."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return ""
    return sys.stdin.buffer.read().decode(errors="replace")


def yes_option(command: F) -> F:
    """Add --yes and --dry-run."""
    command = click.option("--dry-run", is_flag=True, help="Only say what would happen.")(command)
    return click.option("--yes", "-y", is_flag=True, help="Do it without asking.")(command)


def confirmed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Show what is about to happen and return whether to do it; without a terminal and --yes it is a usage error."""
    if dry_run:
        output.notice(f"Would: {question}")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question}: needs a yes; give --yes")
    if click.confirm(f"{without_controls(question)}?", err=True):
        return True
    output.notice("Nothing was done.")
    return False


def json_or_text(value: str) -> Any:
    """Return an option's value as JSON where it is some, else as it stands."""
    import json

    try:
        return json.loads(value, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")
