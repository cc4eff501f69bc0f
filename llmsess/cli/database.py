"""`llmsess db`: the database file."""

from __future__ import annotations

import click

from llmsess.cli import SuggestingGroup, output
from llmsess.cli.options import chosen_format, confirmed, format_options, yes_option
from llmsess.errors import DatabaseCorrupt
from llmsess.settings import Settings


@click.group(cls=SuggestingGroup)
def db() -> None:
    """The database file: where it is, what is in it, is it whole."""


def _open_unchecked() -> None:
    """Open the file as it is, without upgrading it."""
    from llmsess import db as databases

    ctx = click.get_current_context()
    ctx.call_on_close(databases.open_unchecked(ctx.find_root().obj.db).close)


@db.command()
@format_options
@click.pass_context
def path(ctx: click.Context, format_: str | None, as_json: bool) -> None:
    """Print where the database is.

    \b
    Example:
      sqlite3 "$(llmsess db path)" "SELECT count(*) FROM messages"
    """
    path = str(Settings.load(ctx.find_root().obj.db).db.absolute())
    output.show_value("path", path, chosen_format(format_, as_json))


@db.command()
@format_options
def info(format_: str | None, as_json: bool) -> None:
    """Show the database's size, versions and rows.

    \b
    Example:
      llmsess db info
    """
    from llmsess import maintenance

    _open_unchecked()
    output.show_fields(maintenance.info(), chosen_format(format_, as_json), _counted)


def _counted(facts: output.Row) -> output.Row:
    """Return the facts with a line for each table's rows."""
    rows = {f"rows of {name}": output.number(count) for name, count in facts["rows"].items()}
    return {name: value for name, value in facts.items() if name != "rows"} | rows


@db.command()
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Bring the database to the newest schema, after a copy of it.

    \b
    Example:
      llmsess db migrate
    """
    from llmsess import db as databases

    ctx.call_on_close(databases.connect(ctx.find_root().obj.db).close)
    output.notice(f"{databases.database.database} has schema {databases.schema_version()}.")


@db.command()
@yes_option
def rollback(yes: bool, dry_run: bool) -> None:
    """Undo the newest migration, after a copy of the database. What only the newer schema can hold is lost.

    \b
    Example:
      llmsess db rollback --dry-run
    """
    from llmsess import db as databases
    from llmsess import maintenance

    _open_unchecked()
    facts = maintenance.info()
    version, rows = facts["schema_version"], facts["rows"]
    question = f"Go back from schema {version} to {version - 1} in {facts['path']}"
    if version == 1:
        held = f"{output.counted(rows['sessions'], 'session')} and {output.counted(rows['messages'], 'message')}"
        question += f", which deletes all {held} from it"
    if confirmed(question, yes=yes, dry_run=dry_run):
        undone = databases.rollback()
        output.notice(f"Undone: {', '.join(undone)}. A copy from before: {maintenance.info()['backups'][-1]}")


@db.command()
@format_options
def check(format_: str | None, as_json: bool) -> None:
    """Prove that the database is whole: SQLite's checks, keys, search index, tree, totals. Exits 5 on a finding.

    \b
    Example:
      llmsess db check
    """
    from llmsess import maintenance

    _open_unchecked()
    report = maintenance.check()
    chosen = chosen_format(format_, as_json)
    findings = [{"check": finding.check, "detail": finding.detail} for finding in report.findings]
    if chosen == "json":
        record = {"ok": not findings, "checks": report.checks, "findings": findings, "warnings": report.warnings}
        output.show_json(record)
    elif findings or chosen:
        output.show_rows(findings, chosen, output.Layout({"check": "check", "detail": "finding"}))
    for warning in report.warnings:
        output.notice(f"Warning: {warning}", fg="yellow")
    if findings:
        hint = "copies lie in the folder backups beside it: llmsess db info"
        raise DatabaseCorrupt(output.counted(len(findings), "finding"), hint=hint)
    output.notice(f"Whole: {', '.join(report.checks)}.")
