"""`llmsess import`."""

from __future__ import annotations

import click

from llmsess import finding, importers, transfer
from llmsess.cli import output
from llmsess.cli.options import database
from llmsess.errors import InvalidInput, SomeFailed, Unrecognised

PROBLEMS_SHOWN = 20
SKIPPED_SHOWN = 5
SOURCES_SHOWN = 100


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
    """Import files, archives or folders of another tool. FORMAT is a name, or auto to tell it by the content.

    Without a PATH the places are read where the tool (with auto: each known tool) keeps its history on this machine;
    with --dry-run they are only named. Importing the same again changes nothing; what has grown adds what is new.

    \b
    Examples:
      llmsess import auto --dry-run
      llmsess import auto ~/.claude/projects chatgpt-export.zip
      llmsess import openai-chat training.jsonl --dry-run
    """
    if formats:
        rows = [{"format": name, "reads": importers.get(name).DESCRIPTION} for name in importers.names()]
        layout = output.Layout({"format": "format", "reads": "reads"}, flexible="reads")
        output.show_rows(rows, "json" if as_json else shown_as, layout)
        return
    if format_ is None:
        raise InvalidInput("an import needs a FORMAT", hint="llmsess import auto, or --formats")
    if not paths:
        paths = _places(format_, only_say=dry_run, as_json=as_json)
        if not paths:
            return
    with output.progress("importing") as on_bytes:
        options = {"dry_run": dry_run, "keep_raw": not no_raw, "undelete": undelete}
        report = transfer.run(format_, paths, on_bytes=on_bytes, **options)
    if as_json:
        output.show_json(_json(report))
    else:
        _show_sources(report.sources)
        totals = report.totals()
        output.out(
            f"{output.counted(totals['sources'], 'file')}, {_counts(totals)}" + (" (dry run)" if dry_run else "")
        )
    if report.skipped:
        output.notice(
            f"{output.counted(len(report.skipped), 'file')} left out, of no known format: {_some(report.skipped)}"
        )
    if report.failed:
        bad, unknown = report.totals()["bad"], sum(source.unknown for source in report.sources)
        failed = [f"{output.counted(bad, 'record')} could not be read"] if bad else []
        failed += [f"{output.counted(unknown, 'part')} not understood or left out"] if unknown else []
        raise SomeFailed(f"{', '.join(failed)}; everything else was read")


def _places(format_: str, *, only_say: bool, as_json: bool) -> tuple[str, ...]:
    """Say where tools keep their history here; return these paths where they are to be read."""
    places = finding.places(format_)
    if not places:
        whose = "a tool whose history can be read" if format_ == "auto" else format_
        raise Unrecognised(f"nothing of {whose} lies in its usual place here", hint="llmsess import auto PATH")
    if only_say and as_json:
        output.show_json([vars(place) | {"path": str(place.path)} for place in places])
    else:
        say = output.out if only_say else output.notice
        for place in places:
            say(f"{place.format}: {output.cell(str(place.path))} ({_extent(place)})")
    return () if only_say else tuple(str(place.path) for place in places)


def _extent(place: finding.Place) -> str:
    return f"{output.counted(place.files, 'file')}, {place.size_bytes / 1e6:,.1f} MB"


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:SKIPPED_SHOWN]) + (", ..." if len(paths) > SKIPPED_SHOWN else "")


def _counts(counts: dict[str, int]) -> str:
    """Return the counts that are not zero, in words."""
    contents = ", ".join(output.counted(counts[f"{noun}s"], noun) for noun in ("session", "message"))
    records = ", ".join(f"{output.number(counts[name])} {name}" for name in transfer.DISPOSITIONS if counts[name])
    return f"{contents}; records: {records or 'none'}"


def _show_sources(sources: list[transfer.SourceReport]) -> None:
    """Write a line for each file, of many only for those that had something new or odd in them."""
    told = [source for source in sources if len(sources) <= SOURCES_SHOWN or _has_news(source)]
    for source in told[:SOURCES_SHOWN]:
        _show_source(source)
    if len(told) > SOURCES_SHOWN:
        output.notice(f"and {output.counted(len(told) - SOURCES_SHOWN, 'more file')}: --json shows them")
    if len(sources) > len(told):
        output.notice(f"and {output.counted(len(sources) - len(told), 'file')} with nothing new")


def _has_news(source: transfer.SourceReport) -> bool:
    return bool(source.problems or source.records["imported"] or source.records["merged"])


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
