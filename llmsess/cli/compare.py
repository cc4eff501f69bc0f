"""`llmsess compare`: A/B tests of models and prompts, asked by a batch, scored, judged, with an honest answer."""

from __future__ import annotations

import getpass
from typing import Any

import click

from llmsess import batches, comparisons
from llmsess.cli import SuggestingGroup, batchviews, compareviews, output, voting
from llmsess.cli import compareplans as plans
from llmsess.cli.completion_types import COMPARISON, MODEL, SESSION
from llmsess.cli.files import opened
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    format_options,
    list_options,
    session_filter,
    session_filters,
    text_value,
    yes_option,
)
from llmsess.comparisons import reports
from llmsess.errors import InvalidInput


@click.group(cls=SuggestingGroup)
def compare() -> None:
    """Is A better than B, or is it noise? COMPARISON is a name, an id or its first 4 characters, or @last."""


def comparison_argument(command: Any) -> Any:
    """Add the argument COMPARISON."""
    return click.argument("reference", metavar="[COMPARISON]", default="@last", shell_complete=COMPARISON)(command)


fail_if = click.option(
    "--fail-if", "gates", multiple=True, metavar="GATE",
    help="Exit 6 where 'pass<0.9', worse, worse:METRIC, worse-than:COMPARISON or errors holds.",
)  # fmt: skip
retry_verdicts = click.option(
    "--retry-errors", "retry", is_flag=True, help="Ask judges again where they failed or gave no verdict."
)
allow_python = click.option("--allow-python", "python", is_flag=True, help="Let python scorers of the file run.")


@compare.command()
@click.argument("source", metavar="[SPEC|PROMPT|COMPARISON]", required=False)
@plans.plan_options
@allow_python
@click.option("--retry-errors", "retry", is_flag=True, help="Ask again for answers that failed.")
@fail_if
@yes_option
@format_options
@database
def run(
    source: str | None, python: bool, retry: bool, gates: tuple[str, ...], yes: bool, dry_run: bool,
    format_: str | None, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Ask every variant every case, score the answers, and say what they show. The same command goes on.

    SPEC is a YAML or JSON file with variants, a prompt, cases and scorers, or promptfoo's configuration. With -m,
    PROMPT is the prompt. Exit status 6: answers failed, or a gate is not met.

    \b
    Examples:
      llmsess compare run -m openai/gpt-5 -m anthropic/claude-sonnet-5 "Name a colour."
      llmsess compare run capitals.yaml --repeats 3 --budget-usd 1
      llmsess compare run promptfooconfig.yaml -m openai/gpt-5-mini --fail-if 'pass<0.9'
    """
    compareviews.check_gates(gates)
    chosen = chosen_format(format_, as_json)
    what, changed = plans.source(source, given)
    if dry_run:
        with batches.trial():
            group = comparisons.plan(what, project=given["project"], limits=plans.limits(given), **changed)
            if retry:
                comparisons.put_back(group)
            job = comparisons.job_of(group)
            if job is not None:
                batchviews.show_estimate(batches.estimate(job), chosen)
        return
    compareviews.run(
        what, changed, chosen, gates=gates, python=python, retry=retry, project=given["project"],
        limits=plans.limits(given),
    )  # fmt: skip


@compare.command()
@click.argument("name", metavar="COMPARISON", shell_complete=COMPARISON)
@click.argument("references", metavar="[SESSION]...", nargs=-1, shell_complete=SESSION)
@click.option("--variant", help="Whose answers they are (else the model that answered).")
@session_filters
@database
def add(name: str, references: tuple[str, ...], variant: str | None, **filters: Any) -> None:
    """Link sessions that exist to a comparison, made if new: these, or those of the filters.

    The last answer of each is compared; what was said before it is the case.

    \b
    Examples:
      llmsess compare add history 3f2a 91bc
      llmsess compare add prompts --tag v2 --variant "prompt 2"
    """
    chosen = session_filter(filters)
    if bool(references) == (chosen != type(chosen)()):
        raise InvalidInput("sessions are named, or those of a filter")
    done = comparisons.add(name, references or comparisons.of_filter(chosen), variant=variant)
    output.notice(f"{output.counted(done.new, 'session')} linked, {done.known:,} known.")
    for uuid in done.unanswered:
        output.notice(f"Session {uuid[:8]} has no answer.", fg="yellow")


@compare.command("list")
@click.option("--status", help="Only those that are: created, running, paused, done, failed, cancelled.")
@list_options
@format_options
@database
def list_(status: str | None, limit: int, all_: bool, cursor: str | None, format_: str | None, as_json: bool) -> None:
    """List comparisons, the newest first.

    \b
    Example:
      llmsess compare list
    """
    page = comparisons.find(status=status, limit=None if all_ else limit, cursor=cursor)
    compareviews.show_groups(page.rows, chosen_format(format_, as_json))
    if page.cursor is not None:
        output.show_next(len(page.rows), comparisons.count(status), page.cursor)


@compare.command()
@comparison_argument
@click.option("--case", "key", metavar="CASE", help="The answers to one case beside each other: its number or key.")
@click.option("--cases", is_flag=True, help="The cases, each with how every variant fared.")
@click.option("--failing", is_flag=True, help="Only answers that fail, or did not come.")
@fail_if
@format_options
@database
def show(
    reference: str, key: str | None, cases: bool, failing: bool, gates: tuple[str, ...], format_: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show what a comparison says: a verdict for each metric, figures of each variant.

    \b
    Examples:
      llmsess compare show capitals
      llmsess compare show capitals --case 7
      llmsess compare show capitals --failing --json
      llmsess compare show capitals --fail-if worse
    """
    compareviews.check_gates(gates)
    chosen, group = chosen_format(format_, as_json), comparisons.get(reference)
    if key is not None:
        compareviews.show_case(group, comparisons.case_of(group, key), chosen)
    elif failing:
        compareviews.show_cases(group, list(reports.cell_records(group, failing=True)), chosen)
    elif cases:
        compareviews.show_matrix(group, comparisons.cases_of(group), chosen)
    else:
        compareviews.show(comparisons.summary(group), chosen)
    if gates:
        compareviews.hold(comparisons.summary(group), gates)


@compare.command()
@comparison_argument
@click.option(
    "--scorer", "scorers", multiple=True, metavar="TYPE[: VALUE]", help="In the place of those for all cases."
)
@click.option("--judge", shell_complete=MODEL, help="The model that judges.")
@allow_python
@retry_verdicts
@click.option("--scorers", "listing", is_flag=True, help="List the scorers there are.")
@fail_if
@format_options
@database
def score(
    reference: str, scorers: tuple[str, ...], judge: str | None, python: bool, retry: bool, listing: bool,
    gates: tuple[str, ...], format_: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Score the answers again, without asking for them again; judges are asked only what they were not asked before.

    \b
    Examples:
      llmsess compare score capitals --scorer 'icontains: {{ expected }}' --scorer 'word-count: 1'
      llmsess compare score capitals --scorer 'llm-rubric: is polite' --judge openai/gpt-5
      llmsess compare score --scorers
    """
    chosen = chosen_format(format_, as_json)
    if listing:
        rows = [{"scorer": name, "holds where": one.description} for name, one in comparisons.scorers()]
        output.show_rows(rows, chosen, output.Layout({key: key for key in ("scorer", "holds where")}, "holds where"))
        return
    compareviews.check_gates(gates)
    new = [str(text_value(one)) for one in scorers] or None
    done = comparisons.score(reference, new=new, judge=judge, python=python, retry=retry)
    summary = comparisons.summary(reference)
    compareviews.show(summary, chosen)
    compareviews.tell_scored(done)
    compareviews.check_judging(done.judging)
    compareviews.hold(summary, gates)


@compare.command()
@comparison_argument
@click.option("--voter", default=getpass.getuser, help="Who votes (the user's name).")
@click.option("--all-pairs", "everyone", is_flag=True, help="Each variant with each, not only with the baseline.")
@click.option("--seed", type=int, help="Fix the random order.")
@database
def vote(reference: str, voter: str, everyone: bool, seed: int | None) -> None:
    """Judge pairs of answers without knowing whose they are; one key each. The same command goes on.

    Keys: 1, 2, t (tie), b (both bad), s (skip), u (undo), q (quit).

    \b
    Example:
      llmsess compare vote capitals
    """
    voting.vote(comparisons.get(reference), voter, everyone=everyone, seed=seed)


@compare.command()
@comparison_argument
@click.option("--model", "-m", shell_complete=MODEL, help="The model that judges (the comparison's, else the default).")
@retry_verdicts
@click.option("--criteria", help="What makes an answer better; @FILE reads it.")
@click.option("--all-pairs", "everyone", is_flag=True, help="Each variant with each, not only with the baseline.")
@format_options
@database
def judge(
    reference: str, model: str | None, retry: bool, criteria: str | None, everyone: bool, format_: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Have a model say which of two answers is better, each pair in both orders; where they disagree it is a tie.

    \b
    Example:
      llmsess compare judge capitals -m openai/gpt-5 --criteria "The shorter answer is better."
    """
    done = comparisons.judge(reference, model=model, criteria=text_value(criteria), everyone=everyone, retry=retry)
    compareviews.show(comparisons.summary(reference), chosen_format(format_, as_json))
    compareviews.tell_judged(done)


@compare.command()
@comparison_argument
@click.option("--format", "format_", type=click.Choice(comparisons.FORMATS), help="json (default), html, csv, ...")
@click.option("-o", "--output", "file", metavar="FILE", help="Write to this file, not to standard output.")
@click.option("--yes", "-y", is_flag=True, help="Overwrite the file without asking.")
@database
def export(reference: str, format_: str | None, file: str | None, yes: bool) -> None:
    """Write a comparison as JSON, JSON lines, CSV, Markdown, JUnit XML, or as one HTML page.

    \b
    Examples:
      llmsess compare export capitals -o capitals.html
      llmsess compare export capitals --format junit -o results.xml
    """
    chosen = format_ or compareviews.format_of(file)
    comparisons.get(reference)
    if not batchviews.may_overwrite([file], yes=yes):
        return
    with opened(file) as out:
        count = comparisons.export(reference, chosen, out)
    if file:
        output.notice(f"{output.counted(count, 'answer')} written to {file}")


@compare.command()
@click.argument("reference", metavar="COMPARISON", shell_complete=COMPARISON)
@yes_option
@database
def delete(reference: str, yes: bool, dry_run: bool) -> None:
    """Delete a comparison with its scores and votes; the sessions with the answers stay.

    \b
    Example:
      llmsess compare delete capitals --yes
    """
    group = comparisons.get(reference)
    if confirmed(f'Delete the comparison "{group.name}" with its scores and votes', yes=yes, dry_run=dry_run):
        output.notice(f"Deleted {output.counted(comparisons.delete(group), 'answer')}; their sessions stay.")
