"""`llmsess export`."""

from __future__ import annotations

import os
from typing import Any

import click

from llmsess import exporters, exporting
from llmsess.cli import output
from llmsess.cli.completion_types import SESSION
from llmsess.cli.files import opened
from llmsess.cli.options import confirmed, database, session_filter, session_filters
from llmsess.errors import InvalidInput, SomeFailed


@click.command("export")
@click.argument("format_", metavar="FORMAT", required=False)
@click.argument("references", metavar="[SESSION]...", nargs=-1, shell_complete=SESSION)
@click.option("-o", "--output", "file", metavar="FILE", help="Write to this file; one that ends in .gz is compressed.")
@click.option("--redact", is_flag=True, help="Mask what looks like a key, token or password (best effort).")
@click.option("--hidden", is_flag=True, help="Messages that their tool did not show too.")
@click.option("--yes", "-y", is_flag=True, help="Overwrite the file without asking.")
@click.option("--formats", is_flag=True, help="List the formats.")
@click.option("--json", "as_json", is_flag=True, help="The report (with -o), or the formats, as JSON.")
@session_filters
@database
def export(
    format_: str | None, references: tuple[str, ...], file: str | None, redact: bool, hidden: bool, yes: bool,
    formats: bool, as_json: bool, **filters: Any,
) -> None:  # fmt: skip
    """Write conversations in a format: these sessions, those of a filter, or all.

    Only the format llmsess keeps everything; what another cannot hold is said on standard error.

    \b
    Examples:
      llmsess export markdown @last
      llmsess export html --project paris -o paris.html
      llmsess export llmsess -o everything.jsonl.gz
    """
    if formats:
        rows = [{"format": name, "writes": exporters.get(name).DESCRIPTION, "leaves out": exporters.get(name).LOSES}
                for name in exporters.names()]  # fmt: skip
        layout = output.Layout({key: key for key in ("format", "writes", "leaves out")}, flexible="leaves out")
        output.show_rows(rows, "json" if as_json else None, layout)
        return
    if format_ is None:
        raise InvalidInput("an export needs a FORMAT", hint="llmsess export markdown @last, or --formats")
    exporters.get(format_)
    chosen = session_filter(filters)
    if references and chosen != type(chosen)():
        raise InvalidInput("an export is of sessions that are named or of a filter, not both")
    file = None if file == "-" else file
    if file and os.path.isfile(file) and not confirmed(f"overwrite {file}", yes=yes, dry_run=False):
        return
    with opened(file) as out:
        report = exporting.run(format_, out, references, chosen, redact=redact, hidden=hidden)
    _show(report, format_, file, redact=redact, as_json=as_json)
    _check(report)


def _check(report: exporting.ExportReport) -> None:
    """Raise SomeFailed where something could not be read."""
    if report.damaged:
        things = output.counted(report.damaged, "thing")
        raise SomeFailed(f"{things} could not be read, and not be written", hint="llmsess db check says more")


def _show(report: exporting.ExportReport, format_: str, file: str | None, *, redact: bool, as_json: bool) -> None:
    """Say on standard error what was written, and what was not."""
    if as_json and file:
        output.show_json(vars(report) | {"losses": dict(report.losses)})
        return
    counts = f"{output.counted(report.sessions, 'session')}, {output.counted(report.messages, 'message')}"
    output.notice(f"{counts}{f' written to {file}' if file else ''}")
    if report.losses:
        told = ", ".join(f"{name}: {output.number(count)}" for name, count in sorted(report.losses.items()))
        output.notice(f"{format_} leaves out {told}", fg="yellow")
    if redact:
        masked = ", ".join(f"{name}: {count}" for name, count in sorted(report.redacted.items())) or "nothing"
        output.notice(f"Masked, as far as patterns can tell: {masked}. Look through it before you give it away.")
