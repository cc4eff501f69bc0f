"""`llmsess snapshot`: marks in a conversation to go back to."""

from __future__ import annotations

import itertools
from typing import Any

import click

from llmsess import sessions, snapshots
from llmsess.cli import SuggestingGroup, changes, conversation, output
from llmsess.cli.completion_types import SESSION, SNAPSHOT
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    format_options,
    list_options,
    moment,
    request_options,
    session_argument,
    yes_option,
)
from llmsess.errors import InvalidInput, NotFound
from llmsess.models import SessionSnapshot

PREVIEWED = 20  # snapshots that are named before they are deleted


@click.group(cls=SuggestingGroup)
def snapshot() -> None:
    """Marks in a conversation to go back to. SNAPSHOT is an id or its first 4 characters, a name, or @last."""


def snapshot_argument(command: Any) -> Any:
    """Add the argument SNAPSHOT."""
    return click.argument("reference", metavar="SNAPSHOT", shell_complete=SNAPSHOT)(command)


@snapshot.command()
@session_argument
@click.argument("name", required=False)
@click.option("--name", "-n", "named", help="The name, once in a session; the same as the argument.")
@click.option(
    "--type", "type_", default="manual", show_default=True, help="manual, checkpoint, auto_save or pre_restore."
)
@format_options
@database
def create(reference: str, name: str | None, named: str | None, type_: str, format_: str | None, as_json: bool) -> None:
    """Mark where a conversation is now.

    \b
    Examples:
      llmsess snapshot create @last
      llmsess snapshot create @last "before the refactoring"
    """
    if name is not None and named is not None:
        raise InvalidInput("the name is given twice")
    made = snapshots.create(reference, name=name if named is None else named, type=type_)
    output.show_fields(changes.snapshot_json(made), chosen_format(format_, as_json), changes.snapshot_line)


@snapshot.command("list")
@click.argument("reference", metavar="[SESSION]", required=False, shell_complete=SESSION)
@click.option("--type", "type_", help="Only of this type: manual, checkpoint, auto_save, pre_restore.")
@click.option("--since", help="Only made since: 7d, yesterday, a date, a time.")
@click.option("--until", help="Only made before: 7d, yesterday, a date, a time.")
@list_options
@format_options
@database
def list_(
    reference: str | None, type_: str | None, since: str | None, until: str | None, limit: int, all_: bool,
    cursor: str | None, format_: str | None, as_json: bool,
) -> None:  # fmt: skip
    """List snapshots, the newest first; keeps: how many messages only the snapshot reaches.

    \b
    Examples:
      llmsess snapshot list @last
      llmsess snapshot list --type auto_save --since 7d --json
    """
    chosen = snapshots.SnapshotFilter(reference, type_, moment(since), moment(until))
    page = snapshots.find(chosen, limit=None if all_ else limit, cursor=cursor)
    rows = [changes.summary_json(row) for row in page.rows]
    output.show_rows(rows, chosen_format(format_, as_json), changes.SNAPSHOTS, changes.snapshot_line)
    if page.cursor is not None:
        output.show_next(len(page.rows), snapshots.count(chosen), page.cursor)


@snapshot.command()
@snapshot_argument
@format_options
@database
def show(reference: str, format_: str | None, as_json: bool) -> None:
    """Show a conversation and its settings as they were.

    \b
    Examples:
      llmsess snapshot show @last
      llmsess snapshot show "before the refactoring" --json
    """
    chosen, found = chosen_format(format_, as_json), snapshots.get(reference)
    row, settings, reading = changes.snapshot_json(found), snapshots.settings(found), snapshots.reading(found)
    if chosen == "json":
        record = row | {"settings": settings, "context_window": found.context_window}
        output.show_json(record | {"messages": conversation.messages_json(list(reading))})
    elif chosen in ("jsonl", "csv"):
        output.show_rows(conversation.messages_json(list(reading)), chosen)
    else:
        heading = changes.snapshot_heading(row, settings, found.context_window)
        output.page(itertools.chain([heading], conversation.message_pieces(reading)))
    reading.check()


@snapshot.command()
@snapshot_argument
@click.argument("other", metavar="[OTHER]", required=False, shell_complete=SNAPSHOT)
@format_options
@database
def diff(reference: str, other: str | None, format_: str | None, as_json: bool) -> None:
    """Show what changed from a snapshot to another one, or to now.

    \b
    Examples:
      llmsess snapshot diff "before the refactoring"
      llmsess snapshot diff 3f9c 7d1e --json
    """
    found, chosen = snapshots.diff(reference, other), chosen_format(format_, as_json)
    if chosen == "json":
        output.show_json(changes.difference_json(found))
    elif chosen in ("jsonl", "csv"):
        output.show_rows(changes.difference_json(found)["changes"], chosen)
    else:
        output.page(changes.difference_pieces(found))


@snapshot.command()
@click.argument("reference", metavar="[SNAPSHOT]", required=False, shell_complete=SNAPSHOT)
@click.option("--session", "damaged", shell_complete=SESSION, help="Take the newest snapshot of it that is whole.")
@click.option("--in-place", is_flag=True, help="Move the session itself, after a snapshot of where it is.")
@click.option("--title", help="The new branch's title.")
@format_options
@database
def restore(
    reference: str | None, damaged: str | None, in_place: bool, title: str | None, format_: str | None, as_json: bool
) -> None:
    """Go back to a snapshot: on a new branch, or in place. Nothing is lost either way.

    \b
    Examples:
      llmsess snapshot restore "before the refactoring"
      llmsess snapshot restore 3f9c --in-place
      llmsess snapshot restore --session @last --in-place
    """
    found = _chosen(reference, damaged)
    restored = snapshots.restore(found, in_place=in_place, title=title)
    chosen = chosen_format(format_, as_json)
    summary = sessions.summaries([restored.session.id])[0]
    before = restored.before.uuid if restored.before is not None else None
    if chosen == "json":
        output.show_json(conversation.session_json(summary) | {"before": before})
    else:
        conversation.show_sessions([summary], chosen)
    for line in changes.restored_lines(restored, in_place=in_place):
        output.notice(line)


def _chosen(reference: str | None, damaged: str | None) -> str | SessionSnapshot:
    """Return the snapshot that is named, or the last whole one of a session."""
    if reference is not None and damaged is None:
        return reference
    if reference is not None or damaged is None:
        raise InvalidInput("restore takes a snapshot, or --session for the last whole one of a session")
    found = snapshots.last_whole(damaged)
    if found is None:
        raise NotFound("whole snapshot", damaged, hint=f"llmsess snapshot list {damaged}")
    output.notice(f"The last whole snapshot: {changes.removed_line(snapshots.summaries([found.id])[0])}")
    return found


@snapshot.command()
@snapshot_argument
@click.option("--all", "everything", is_flag=True, help="All prompts of the snapshot, not those that followed it.")
@click.option("--title", help="The new branch's title.")
@request_options
@yes_option
@format_options
@database
def replay(
    reference: str, everything: bool, title: str | None, yes: bool, dry_run: bool, format_: str | None, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Send the prompts that followed a snapshot again, on a new branch, and compare the answers.

    Where nothing followed, the prompts of the snapshot are sent. Each goes to the model that answered it before, or to
    the one that is given.

    \b
    Examples:
      llmsess snapshot replay "before the refactoring" -m openai/gpt-5-mini
      llmsess snapshot replay @last --all --dry-run
    """
    from llmsess.cli import replays, sending

    plan = snapshots.plan_replay(reference, everything=everything, **sending.request(given))
    chosen = chosen_format(format_, as_json)
    output.notice(replays.plan_words(plan))
    if dry_run and chosen == "json":
        output.show_json(replays.plan_json(plan))
    elif confirmed(replays.question(plan), yes=yes, dry_run=dry_run):
        replays.show(plan, title, None if chosen in ("table", "plain") else chosen)


@snapshot.command()
@click.argument("reference", metavar="[SESSION]", required=False, shell_complete=SESSION)
@click.option("--older-than", help="Only those made before: 30d, a date, a time.")
@click.option("--type", "types", multiple=True, help="Only of this type; all but manual ones, if not given.")
@click.option("--keep", type=click.IntRange(0), help="Keep the newest so many of each session.")
@yes_option
@database
def prune(
    reference: str | None, older_than: str | None, types: tuple[str, ...], keep: int | None, yes: bool, dry_run: bool
) -> None:
    """Delete snapshots by a rule: age, type and number. Those that a person made stay, unless their type is named.

    \b
    Examples:
      llmsess snapshot prune --older-than 30d --dry-run
      llmsess snapshot prune @last --type auto_save --keep 3 --yes
    """
    rule: dict[str, Any] = {"before": moment(older_than), "types": types, "keep": keep}
    would = snapshots.prune(reference, **rule, dry_run=True)
    if not would.snapshots:
        output.notice("No snapshot is to go.")
        return
    _preview(would)
    if confirmed(f"Delete {changes.removal_words(would)}", yes=yes, dry_run=dry_run):
        output.notice(f"Deleted {changes.removal_words(snapshots.prune(reference, **rule))}.")


def _preview(removal: snapshots.Removal) -> None:
    """Say which snapshots would go, and what each keeps."""
    for row in snapshots.summaries(removal.snapshots[:PREVIEWED]):
        output.notice(changes.removed_line(row))
    if len(removal.snapshots) > PREVIEWED:
        output.notice(f"and {output.counted(len(removal.snapshots) - PREVIEWED, 'more snapshot')}")


@snapshot.command()
@click.argument("references", metavar="SNAPSHOT...", nargs=-1, required=True, shell_complete=SNAPSHOT)
@yes_option
@database
def delete(references: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Delete snapshots; the messages of their sessions stay.

    \b
    Example:
      llmsess snapshot delete 3f9c --yes
    """
    would = snapshots.delete(references, dry_run=True)
    _preview(would)
    if confirmed(f"Delete {changes.removal_words(would)}", yes=yes, dry_run=dry_run):
        output.notice(f"Deleted {changes.removal_words(snapshots.delete(references))}.")
