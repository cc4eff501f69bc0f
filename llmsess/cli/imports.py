"""`llmsess import`."""

from __future__ import annotations

import click

from llmsess import importers, transfer
from llmsess.cli import output
from llmsess.cli.options import database
from llmsess.errors import InvalidInput, SomeFailed

PROBLEMS_SHOWN = 20
SKIPPED_SHOWN = 5


@click.command("import")
@click.argument("format_", metavar="FORMAT", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Read and count, store nothing.")
@click.option("--no-raw", is_flag=True, help="Do not keep the raw records.")
@click.option("--undelete", is_flag=True, help="Bring back sessions that were deleted here.")
@click.option("--formats", is_flag=True, help="List the formats.")
@click.option("--format", "shown_as", type=click.Choice(output.FORMATS), help="How to show the formats.")
@click.option("--json", "as_json", is_flag=True, help="The report, or the formats, as JSON.")
@database
def import_(
    format_: str | None, paths: tuple[str, ...], dry_run: bool, no_raw: bool, undelete: bool, formats: bool,
    shown_as: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Import files or folders of another tool. FORMAT is a name, or auto to tell it by the content.

    Importing the same again changes nothing; a file that has grown adds what is new.

    \b
    Examples:
      llmsess import auto ~/.claude/projects
      llmsess import openai-chat training.jsonl --dry-run
    """
    if formats:
        rows = [{"format": name, "reads": importers.get(name).DESCRIPTION} for name in importers.names()]
        layout = output.Layout({"format": "format", "reads": "reads"}, flexible="reads")
        output.show_rows(rows, "json" if as_json else shown_as, layout)
        return
    if format_ is None or not paths:
        raise InvalidInput("an import needs a FORMAT and a PATH", hint="llmsess import auto PATH, or --formats")
    on_source = None if as_json else _show_source
    options = {"dry_run": dry_run, "keep_raw": not no_raw, "undelete": undelete}
    report = transfer.run(format_, paths, on_source=on_source, **options)
    if as_json:
        output.show_json(_json(report))
    else:
        totals = report.totals()
        output.out(
            f"{output.counted(totals['sources'], 'file')}, {_counts(totals)}" + (" (dry run)" if dry_run else "")
        )
    if report.skipped:
        output.notice(
            f"{output.counted(len(report.skipped), 'file')} left out, of no known format: {_some(report.skipped)}"
        )
    if report.failed:
        bad = report.totals()["bad"]
        raise SomeFailed(f"{output.counted(bad, 'record')} could not be read; everything else was")


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:SKIPPED_SHOWN]) + (", ..." if len(paths) > SKIPPED_SHOWN else "")


def _counts(counts: dict[str, int]) -> str:
    """Return the counts that are not zero, in words."""
    contents = ", ".join(output.counted(counts[f"{noun}s"], noun) for noun in ("session", "message"))
    records = ", ".join(f"{output.number(counts[name])} {name}" for name in transfer.DISPOSITIONS if counts[name])
    return f"{contents}; records: {records or 'none'}"


def _show_source(source: transfer.SourceReport) -> None:
    counts = {"sessions": source.sessions, "messages": source.messages} | dict(source.records)
    output.out(f"{output.cell(source.path)} ({source.format}): {_counts(counts)}")
    for line, message in source.problems[:PROBLEMS_SHOWN]:
        output.notice(f"  line {line}: {message}", fg="yellow")
    if len(source.problems) > PROBLEMS_SHOWN:
        output.notice(
            f"  and {output.counted(len(source.problems) - PROBLEMS_SHOWN, 'more problem')}: --json shows them"
        )


def _json(report: transfer.ImportReport) -> output.Row:
    sources = [
        {
            "path": source.path,
            "format": source.format,
            "sessions": source.sessions,
            "messages": source.messages,
            "records": dict(source.records),
            "problems": [{"line": line, "message": message} for line, message in source.problems],
        }
        for source in report.sources
    ]
    return {"sources": sources, "totals": report.totals(), "skipped": report.skipped}
