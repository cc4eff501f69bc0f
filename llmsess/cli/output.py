"""Everything that is shown: rows in six formats, conversations, notices. The only module that writes to the terminal.

Data goes to standard output, everything else to standard error. On a terminal text loses its control sequences, is
coloured unless NO_COLOR is set, and is paged where it is longer than the screen.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from llmsess.cli import table
from llmsess.errors import LlmsessError
from llmsess.spreadsheets import harmless
from llmsess.texts import UNSEEN, one_line, without_controls

_UNSEEN = re.compile(f"[{UNSEEN}]")  # what JSON leaves as it is and a terminal obeys
FORMATS = ("table", "plain", "json", "jsonl", "csv", "markdown")
ERROR_CHARACTERS = 2_000  # of an error's line: a server may answer with a page
Row = dict[str, Any]


def columns() -> int:
    """Return how wide the terminal is, 160 characters where there is none."""
    return shutil.get_terminal_size((160, 50)).columns or 160


def is_terminal() -> bool:
    """Return whether standard output is one."""
    return sys.stdout is not None and sys.stdout.isatty()


def style(text: str, **styles: Any) -> str:
    """Return the text in colour where colours are wanted."""
    return text if os.environ.get("NO_COLOR") or not is_terminal() else click.style(text, **styles)


def wrapped(text: str, indent: str = "") -> str:
    """Return a styled line as lines that fit the terminal, cut between words; elsewhere as it is."""
    if not is_terminal() or len(text) <= columns() // 2:  # so short that even wide characters fit
        return indent + text
    import wcwidth  # here: few commands need it

    return "\n".join(wcwidth.wrap(text, columns(), initial_indent=indent, subsequent_indent=indent)) or indent


def prose(text: str) -> str:
    """Return harmless text whose long lines are cut between words on a terminal, except those of code."""
    return styled_prose(without_controls(text))


def styled_prose(text: str) -> str:
    """Return text that is harmless, and perhaps in colours, with its long lines cut likewise."""
    lines, code = [], False
    for line in text.split("\n"):
        code ^= line.startswith(("```", "~~~"))
        lines.append(line if code or line[:1].isspace() else wrapped(line))
    return "\n".join(lines)


class ReaderGone(Exception):
    """Whoever read standard output has closed it, as `head` does."""


def out(text: str = "", *, newline: bool = True) -> None:
    """Write data, flushed at once: a piped reader sees it as it comes. Raises ReaderGone, Unwritable."""
    if sys.stdout is None:  # closed by the caller, who wants none
        return
    try:
        click.echo(text, nl=newline)
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise Unwritable(error.strerror or str(error)) from error


class Unwritable(LlmsessError):
    """Standard output takes no more."""

    kind = "output"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the output cannot be written: {reason}")


def thought(text: str, *, newline: bool = False) -> None:
    """Write a piece of a model's reasoning beside the data, dimmed on a terminal."""
    click.echo(_beside(text, dim=True), err=True, nl=newline)


def notice(text: str, **styles: Any) -> None:
    """Write what is no data."""
    click.echo(_beside(text, **styles), err=True)


def redraw(text: str) -> None:
    """Write a line over the last one on standard error, a terminal; an empty one takes it away."""
    import wcwidth

    click.echo(f"\r\x1b[K{wcwidth.clip(text, 0, columns() - 1)}", err=True, nl=False)


def _beside(text: str, **styles: Any) -> str:
    """Return harmless text as standard error shows it."""
    plain = os.environ.get("NO_COLOR") or sys.stderr is None or not sys.stderr.isatty()
    return without_controls(text) if plain else click.style(without_controls(text), **styles)


def show_json(value: Any) -> None:
    """Write a JSON document."""
    out(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; the control characters that JSON leaves as they are, a terminal would obey."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=plain_value)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def plain_value(value: Any) -> Any:
    """Return a value as JSON has it: times as ISO 8601 in UTC, money as a decimal text."""
    if isinstance(value, datetime):
        return iso(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def iso(value: datetime | str | None) -> str | None:
    """Return a stored or an aware time as ISO 8601 in UTC."""
    from llmsess.models import time_text

    return value if value is None or isinstance(value, str) else time_text(value)


def local_time(value: datetime | str | None) -> str:
    """Return a stored or an aware time in the local time zone, to the minute."""
    if value is None:
        return ""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:  # damage is shown as it is
        return str(value)
    try:
        return f"{moment.astimezone():%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError):  # at the end of time some zones are beyond it
        return f"{moment:%Y-%m-%d %H:%M}Z"


def cost_usd(nano: int | None, unpriced: int = 0) -> str | None:
    """Return nano-USD as a decimal text, None where nothing is known: no cost, or nothing but unpriced."""
    from llmsess.models import usd

    known = usd(nano, unpriced)
    if known is None:
        return None
    text = format(known.normalize(), "f")
    return text if text != "-0" else "0"


def money(nano: int | None, unpriced: int = 0) -> str:
    """Return nano-USD for a person: `$0.0123`, `≥$0.0123` where some is unpriced, `unpriced` where all is."""
    text = cost_usd(nano, unpriced)
    if text is None:
        return "unpriced" if unpriced or nano is None else ""
    value = Decimal(text)
    shown = f"{value:.2f}" if value >= 1 else f"{value:.4f}" if value >= Decimal("0.001") or not value else text
    return f"{'≥' if unpriced else ''}${'0' if not value else shown}"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 message`, `1,203 messages`, `2 replies`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def number(value: int | None) -> str:
    """Return a count with thousands separated, nothing for an unknown one."""
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)  # damage may be a text


# Rows


@dataclass(frozen=True)
class Layout:
    """How people read rows: headings by key, the column that is cut to fit, and those left out where it is narrow."""

    headings: dict[str, str]
    flexible: str | None = None
    spare: Sequence[str] = ()


def show_rows(rows: Sequence[Row], format: str | None, layout: Layout | None = None, display: Any = None) -> None:
    """Write rows in a format; `layout` and `display`, which turns a row into what they read, are for people.

    Machine formats get the rows themselves; without a format it is a table on a terminal, plain text elsewhere.
    """
    chosen = format or ("table" if is_terminal() else "plain")
    if chosen == "json":
        show_json(rows)
    elif chosen == "jsonl":
        for row in rows:
            out(json_text(row))
    elif chosen == "csv":
        text = csv_text(rows, list(rows[0]) if rows else list(layout.headings if layout else {}))
        out(without_controls(text) if is_terminal() else text, newline=False)
    else:
        if not rows and is_terminal():
            notice("Nothing here.")
        how = layout or Layout({key: key.replace("_", " ") for key in (rows[0] if rows else {})})
        displayed = [display(row) if display else row for row in rows]
        headings, shown = how.headings, [{key: cell(row.get(key)) for key in how.headings} for row in displayed]
        if chosen == "table" and how.flexible:
            headings, shown = table.fitting(headings, shown, columns(), how.flexible, how.spare)
        _TEXT_FORMATS[chosen](list(headings.values()), [[row[key] for key in headings] for row in shown])


def csv_text(rows: Iterable[Row], keys: list[str]) -> str:
    """Return rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(keys)
    for row in rows:
        writer.writerow([csv_cell(row.get(key)) for key in keys])
    return buffer.getvalue()


def csv_cell(value: Any) -> Any:
    """Return a value as a CSV cell that cannot start a formula."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False, default=plain_value)
    if isinstance(value, (datetime, Decimal)):
        value = plain_value(value)
    return harmless(value)


def cell(value: Any) -> str:
    """Return a value as one harmless line."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False, default=plain_value)
    if isinstance(value, datetime):
        return local_time(value)
    return one_line(str(value), 10_000)


def _show_table(headings: list[str], cells: list[list[str]]) -> None:
    if cells:
        out(table.text([style(heading, bold=True) for heading in headings], cells))


def _show_plain(headings: list[str], cells: list[list[str]]) -> None:
    for row in cells:
        out("\t".join(row))


def _show_markdown(headings: list[str], cells: list[list[str]]) -> None:
    rows = [headings, ["---"] * len(headings), *([text.replace("|", "\\|") for text in row] for row in cells)]
    for row in rows:
        out(f"| {' | '.join(row)} |")


_TEXT_FORMATS = {"table": _show_table, "plain": _show_plain, "markdown": _show_markdown}


def show_fields(record: Row, format: str | None, display: Any = None) -> None:
    """Write one record: a JSON object, or a line for each field that is set."""
    if format == "json":
        show_json(record)
    elif format in ("jsonl", "csv", "markdown"):
        show_rows([record], format)
    else:
        shown = display(record) if display else record
        width = max((len(key) for key in shown), default=0)
        for key, value in shown.items():
            if value not in (None, "", [], {}):
                out(f"{style(key.replace('_', ' ').ljust(width), bold=True)}  {cell(value)}")


def show_value(key: str, value: str, format: str | None) -> None:
    """Write one value: bare for people and scripts, under its key for programs."""
    if format in (None, "plain", "table"):
        out(without_controls(value) if is_terminal() else value)
    else:
        show_fields({key: value}, format)


def show_text(text: str) -> None:
    """Write a text as it stands, harmless on a terminal."""
    out(without_controls(text) if is_terminal() else text, newline=not text.endswith("\n"))


def page(pieces: Iterable[str]) -> None:
    """Write a long text as its pieces come, through the pager where it is longer than the terminal."""
    rest = iter(pieces)
    if is_terminal() and os.environ.get("PAGER") != "":
        height, first = shutil.get_terminal_size().lines - 1, []
        for piece in rest:
            first.append(piece)
            height -= piece.count("\n")
            if height <= 0:
                os.environ.setdefault("LESS", "-RFX")
                click.echo_via_pager(itertools.chain(first, rest), color=not os.environ.get("NO_COLOR"))
                return
        rest = iter(first)
    for piece in rest:
        out(piece, newline=False)


def show_next(shown: int, total: int, cursor: str) -> None:
    """Say after a list that there is more, and how to go on."""
    quoted = f"'{cursor}'" if any(character.isspace() for character in cursor) else cursor
    notice(f"{number(shown)} of {number(total)}; next: --cursor {quoted}")


def show_error(error: LlmsessError, *, as_json: bool) -> int:
    """Write an error, an object for programs or a line for people, and return its exit status."""
    if as_json:
        click.echo(json_text(error.as_dict()), err=True)
    else:
        notice(f"Error: {one_line(str(error), ERROR_CHARACTERS)}", fg="red")
    return error.exit_code


class DataStream(io.TextIOBase):
    """Standard output as a text stream, harmless on a terminal."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        out(without_controls(text) if is_terminal() else text, newline=False)
        return len(text)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error where that is a terminal; yields what is told (done, total) to move it."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr, show_eta=True) as bar:

        def move(done: int, total: int) -> None:
            bar.length = max(total, 1)
            bar.update(min(done, total) - bar.pos)

        yield move


def forgiving() -> None:
    """Let standard output and error write what their encoding lacks as escapes, as \\U0001f680, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence() -> None:
    """Give up standard output after its reader has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
