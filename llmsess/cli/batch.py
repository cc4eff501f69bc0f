"""`llmsess batch`: many prompts, each answered once, resumed after whatever stopped them."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import click

from llmsess import batches
from llmsess.cli import SuggestingGroup, batchviews, output
from llmsess.cli import batchplans as plans
from llmsess.cli.completion_types import BATCH
from llmsess.cli.files import opened
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    format_options,
    list_options,
    yes_option,
)
from llmsess.errors import InvalidInput, NotFound

ESTIMATED = 10_000  # items whose cost is told before a run; of more it takes a while, and --dry-run does it


@click.group(cls=SuggestingGroup)
def batch() -> None:
    """Many prompts, each answered once. BATCH is a name, an id or its first 4 characters, or @last."""


def batch_argument(command: Any) -> Any:
    """Add the argument BATCH."""
    return click.argument("reference", metavar="BATCH", shell_complete=BATCH)(command)


@batch.command()
@click.argument("name")
@click.argument("source", metavar="[FILE]", required=False)
@plans.plan_options
@click.option("--dry-run", is_flag=True, help="Only check the input, and say what it would cost.")
@format_options
@database
def create(
    name: str, source: str | None, dry_run: bool, format_: str | None, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Plan a batch: an item for each row of FILE. Nothing is sent.

    FILE is CSV, JSON lines, OpenAI's or Anthropic's batch file, text (a prompt a line, or between lines of ---), a
    folder of files, or - for standard input.

    \b
    Examples:
      llmsess batch create names prompts.txt -m openai/gpt-5-mini --budget-usd 1
      llmsess batch create reviews reviews.csv -m openai/gpt-5-mini -t 'Is this happy or sad? {{ text }}'
      llmsess batch create judge --stored --role assistant --since 7d -m openai/gpt-5 -t 'Is this right? {{ prompt }}'
    """
    with batches.trial(dry_run):
        job = plans.created(name, source, given)
        if dry_run:
            batchviews.show_estimate(batches.estimate(job), chosen_format(format_, as_json))
            return
    batchviews.show_status(batches.status(job), chosen_format(format_, as_json))


@batch.command()
@click.argument("name", metavar="BATCH", shell_complete=BATCH)
@click.argument("source", metavar="[FILE]", required=False)
@plans.plan_options
@yes_option
@format_options
@database
def run(
    name: str, source: str | None, yes: bool, dry_run: bool, format_: str | None, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Send what is to do of a batch, made from FILE where it is new. The same command resumes it.

    A recorded item is never sent again. With FILE, rows that the batch does not have yet are added. Ctrl-C stops after
    the requests on their way, a second one now. Exit status 6: some items failed, or are left.

    \b
    Examples:
      llmsess batch run names
      llmsess batch run names prompts.txt -m openai/gpt-5-mini -j 32
      llmsess batch run names --budget-usd 5
    """
    chosen = chosen_format(format_, as_json)
    with batches.trial(dry_run):
        job = plans.prepared(name, source, given)
        if dry_run:
            batchviews.show_estimate(batches.estimate(job), chosen)
            return
    if (source is not None or given["stored"]) and 0 < job.todo <= ESTIMATED:
        batchviews.tell_plan(batches.estimate(job))
    batchviews.run(job, chosen)


@batch.command()
@click.argument("reference", metavar="[BATCH]", default="@last", shell_complete=BATCH)
@format_options
@database
def status(reference: str, format_: str | None, as_json: bool) -> None:
    """Show where a batch is: items by state, requests, cost.

    \b
    Example:
      llmsess batch status names --json
    """
    batchviews.show_status(batches.status(reference), chosen_format(format_, as_json))


@batch.command("list")
@click.option("--status", help="Only those that are: created, running, paused, done, failed, cancelled.")
@list_options
@format_options
@database
def list_(status: str | None, limit: int, all_: bool, cursor: str | None, format_: str | None, as_json: bool) -> None:
    """List batches, the newest first.

    \b
    Example:
      llmsess batch list --status paused
    """
    page = batches.find(status=status, limit=None if all_ else limit, cursor=cursor)
    batchviews.show_jobs([batches.status_of(job) for job in page.rows], chosen_format(format_, as_json))
    if page.cursor is not None:
        output.show_next(len(page.rows), batches.count(status), page.cursor)


@batch.command()
@batch_argument
@click.argument("key", metavar="[ITEM]", required=False)
@click.option("--status", help="Only items that are: todo, claimed, sent, done, failed, unknown, cancelled, skipped.")
@click.option("--kind", "kinds", multiple=True, help="Only items with this kind of error, as rate_limit.")
@list_options
@format_options
@database
def show(
    reference: str, key: str | None, status: str | None, kinds: tuple[str, ...], limit: int, all_: bool,
    cursor: str | None, format_: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the items of a batch in the order of the input, or one of them with its answer.

    \b
    Examples:
      llmsess batch show names
      llmsess batch show names --status failed
      llmsess batch show names request-17 --json
    """
    chosen = chosen_format(format_, as_json)
    if key is not None:
        batchviews.show_item(batches.item(reference, key), chosen)
        return
    state = batches.status(reference)
    page = batches.items(reference, status=status, kinds=kinds, limit=None if all_ else limit, cursor=cursor)
    batchviews.show_items(state, page.rows, chosen)
    if page.cursor is not None:
        output.show_next(len(page.rows), state.counts[status] if status else state.total, page.cursor)


@batch.command()
@batch_argument
@click.option("--kind", "kinds", multiple=True, help="Only those with this kind of error, as rate_limit, schema.")
@click.option("--item", "keys", multiple=True, metavar="KEY", help="Only this one.")
@click.option("--cancelled", is_flag=True, help="Those that were cancelled, not those that failed.")
@click.option("--skipped", is_flag=True, help="Those that were skipped, not those that failed.")
@database
def retry(reference: str, kinds: tuple[str, ...], keys: tuple[str, ...], cancelled: bool, skipped: bool) -> None:
    """Put failed items back, to be sent by the next run.

    \b
    Examples:
      llmsess batch retry names
      llmsess batch retry names --kind rate_limit --kind timeout
    """
    which = "cancelled" if cancelled else "skipped" if skipped else "failed"
    count = batches.retry(reference, kinds=kinds, keys=keys, status=which)
    if not count and (kinds or keys):
        raise NotFound(f"{which} item", " ".join((*kinds, *keys)), hint=f"llmsess batch show {reference}")
    output.notice(f"{output.counted(count, 'item')} to do again. Go on with: llmsess batch run {reference}")


@batch.command()
@batch_argument
@click.option("--resend", is_flag=True, help="Send them again: they may be billed twice.")
@click.option("--skip", is_flag=True, help="Give them up.")
@click.option("--item", "keys", multiple=True, metavar="KEY", help="Only this one.")
@yes_option
@database
def resolve(reference: str, resend: bool, skip: bool, keys: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Decide what becomes of unknown items: sent, but the answer was lost.

    \b
    Examples:
      llmsess batch resolve names --resend
      llmsess batch resolve names --skip --item request-17 --yes
    """
    if resend == skip:
        raise InvalidInput("an unknown item is sent again or skipped", hint="--resend or --skip")
    how = "resend" if resend else "skip"
    count = batches.status(reference).counts["unknown"] if not keys else len(keys)
    words = "Send again (and perhaps pay twice for)" if how == "resend" else "Skip"
    if confirmed(f"{words} {output.counted(count, 'unknown item')}", yes=yes, dry_run=dry_run):
        done = batches.resolve(reference, how, keys=keys)
        if not done and keys:
            raise NotFound("unknown item", " ".join(keys), hint=f"llmsess batch show {reference} --status unknown")
        output.notice(f"{output.counted(done, 'item')} {'to do again' if how == 'resend' else 'skipped'}.")


@batch.command()
@batch_argument
@yes_option
@database
def cancel(reference: str, yes: bool, dry_run: bool) -> None:
    """Cancel what is not sent yet; a run of it stops after the requests on their way.

    \b
    Example:
      llmsess batch cancel names --yes
    """
    state = batches.status(reference)
    left = output.counted(state.counts["todo"] + state.counts["claimed"], "item")
    if confirmed(f'Cancel {left} of "{state.name}"', yes=yes, dry_run=dry_run):
        output.notice(f"{output.counted(batches.cancel(reference), 'item')} cancelled.")
        away = batches.status(reference).counts["sent"]
        if away and batches.shards(reference):
            words = f"{output.counted(away, 'item')} are out; a batch service was asked to stop"
            output.notice(f"{words}: llmsess batch fetch {reference}")


@batch.command()
@batch_argument
@yes_option
@database
def delete(reference: str, yes: bool, dry_run: bool) -> None:
    """Delete a batch and its list of items; the sessions with the answers stay.

    \b
    Example:
      llmsess batch delete names --yes
    """
    state = batches.status(reference)
    if confirmed(f'Delete the batch "{state.name}" of {output.counted(state.total, "item")}', yes=yes, dry_run=dry_run):
        output.notice(f"Deleted {output.counted(batches.delete(reference), 'item')}; their sessions stay.")


@batch.command()
@batch_argument
@click.option("-o", "--output", "file", metavar="FILE", help="Write to this file, not to standard output.")
@click.option("--format", "format_", type=click.Choice(batches.RESULT_FORMATS), help="csv, jsonl (default) or openai.")
@click.option("--errors", metavar="FILE", help="With openai: items without an answer go here (FILE.errors.jsonl).")
@click.option("--yes", "-y", is_flag=True, help="Overwrite files without asking.")
@database
def export(reference: str, file: str | None, format_: str | None, errors: str | None, yes: bool) -> None:
    """Write the items with their answers, in the order of the input; at any time, also while it runs.

    \b
    Examples:
      llmsess batch export names -o names.csv
      llmsess batch export names --format openai -o answers.jsonl --errors errors.jsonl
    """
    chosen = format_ or ("csv" if file and file.endswith((".csv", ".csv.gz")) else "jsonl")
    if errors is not None and chosen != "openai":
        raise InvalidInput("--errors is for --format openai")
    if errors is not None and file is not None and os.path.abspath(errors) == os.path.abspath(file):
        raise InvalidInput("the answers and the errors go into two files")
    beside = errors or (batchviews.errors_file(file) if chosen == "openai" and file else None)
    if not batchviews.may_overwrite([file, beside], yes=yes):
        return
    with opened(file) as out, opened(beside) if beside else contextlib.nullcontext() as other:
        done = batches.export(reference, chosen, out, other)
    where = f" written to {file}" if file else ""
    output.notice(f"{output.counted(done.answered, 'answer')}, {done.others:,} without one{where}")


@batch.command()
@batch_argument
@yes_option
@format_options
@database
def submit(reference: str, yes: bool, dry_run: bool, format_: str | None, as_json: bool) -> None:
    """Hand what is to do to the provider's own batch service: half the price, within a day. Fetch it later.

    \b
    Examples:
      llmsess batch submit names
      llmsess batch fetch names
    """
    estimate = batches.estimate(reference)
    batchviews.tell_plan(estimate, half=True)
    if confirmed(f"Submit {output.counted(estimate.items, 'item')}", yes=yes, dry_run=dry_run):
        batches.submit(reference)
        left = batches.status(reference).counts["todo"]
        if left:
            output.notice(f"{output.counted(left, 'item')} left to do: the budget has no room for more.")
        batchviews.show_shards(batches.shards(reference), chosen_format(format_, as_json))


@batch.command()
@batch_argument
@click.option("--wait", is_flag=True, help="Ask again until all of it has ended.")
@click.option("--every", type=click.IntRange(1), default=60, show_default=True, help="Seconds between two looks.")
@format_options
@database
def fetch(reference: str, wait: bool, every: int, format_: str | None, as_json: bool) -> None:
    """Fetch what the provider's batch service has answered. Exit status 6: some failed, or are not answered yet.

    \b
    Examples:
      llmsess batch fetch names
      llmsess batch fetch names --wait
    """
    batchviews.fetch(reference, every if wait else None, chosen_format(format_, as_json))


@batch.command("import")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="The counts as JSON.")
@database
def import_(name: str, files: tuple[str, ...], as_json: bool) -> None:
    """Read results of a batch service, and its requests, into a batch, made if new; the same again changes nothing.

    \b
    Examples:
      llmsess batch import names batch_output.jsonl batch_errors.jsonl
      llmsess batch import old requests.jsonl results.jsonl --json
    """
    batchviews.show_imported(batches.import_results(name, files), as_json=as_json)
