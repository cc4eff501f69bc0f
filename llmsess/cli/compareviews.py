"""How comparisons are shown: verdicts and figures, one case side by side, what fails, a run with its progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmsess import batches, comparisons
from llmsess.cli import batchviews, output, table
from llmsess.cli.output import Layout, Row, counted, style
from llmsess.comparisons import answering, reports
from llmsess.comparisons.answering import Side, Summary
from llmsess.comparisons.balloting import Ballot
from llmsess.comparisons.gates import check_known
from llmsess.comparisons.running import RunReport
from llmsess.comparisons.scoring import Scored
from llmsess.comparisons.verdicts import BETTER, WORSE
from llmsess.comparisons.viewing import ANSWERED, FAILED
from llmsess.errors import SomeFailed
from llmsess.models import ComparisonGroup

GROUPS = Layout(
    {"name": "name", "status": "status", "variants": "variants", "cases": "cases", "shown": "answers", "cost": "cost",
     "created_at": "made"},
    "name", ("cases", "created_at"),
)  # fmt: skip
CELLS = Layout({"number": "case", "title": "asks", "variant": "variant", "answer": "answer", "why": "why"}, "answer",
               ("title",))  # fmt: skip
NAME_CHARACTERS = 28
NARROW = 60  # columns below which answers stand under each other
LONG = 1000


# Lists


def show_groups(rows: Sequence[Row], format: str | None) -> None:
    """Show a list of comparisons."""
    shown = [
        {key: row[key] for key in ("id", "name", "status", "variants", "cases", "cells", "answered", "created_at")}
        | {"cost_usd": output.cost_usd(row["cost"], row["unpriced"] or 0), "unpriced": row["unpriced"] or 0}
        for row in rows
    ]  # fmt: skip

    def line(row: Row) -> Row:
        cost = f"${row['cost_usd']}" if row["cost_usd"] else ""
        return row | {
            "cost": f"≥{cost}" if cost and row["unpriced"] else cost,
            "shown": f"{row['answered']:,}/{row['cells']:,}",
            "created_at": output.local_time(row["created_at"]),
        }

    output.show_rows(shown, format, GROUPS, line)


def show_cases(group: ComparisonGroup, rows: Sequence[Row], format: str | None) -> None:
    """Show answers, one a row."""
    output.show_rows(rows, format, CELLS, lambda row: row | {
        "title": output.cell(row["title"])[:60], "answer": output.cell(row["answer"] or "")[:LONG],
        "why": reports.why_of(row) or ("pass" if row["passed"] else row["status"] if row["answer"] is None else ""),
    })  # fmt: skip


def show_matrix(group: ComparisonGroup, cases: Sequence[Any], format: str | None) -> None:
    """Show the cases, each with how every variant fared."""
    names = [variant.name for variant in comparisons.variants_of(group)]
    marks: dict[str, dict[str, list[str]]] = {}
    for cell in comparisons.stream_cells(group, texts=False):
        marks.setdefault(cell.case, {}).setdefault(cell.variant, []).append(_mark(cell))
    rows = [
        {"case": case.key, "number": case.line, "title": comparisons.title_of(case)}
        | {name: " ".join(marks.get(case.key, {}).get(name, [])) for name in names} for case in cases
    ]  # fmt: skip
    room = max(6, (output.columns() - 30) // max(len(names), 1) - 2) if output.is_terminal() else NAME_CHARACTERS
    headings = {"number": "case", "title": "asks"} | {name: short(name, min(room, NAME_CHARACTERS)) for name in names}
    output.show_rows(rows, format, Layout(headings, "title"))


def short(name: str, width: int = 0) -> str:
    """Return a name that fits into a table: its beginning and its end, in which names differ."""
    width = width or (NAME_CHARACTERS if output.is_terminal() else LONG)
    return name if len(name) <= width else f"{name[: width - width // 3 - 1]}…{name[-(width // 3) :]}"


def _mark(cell: comparisons.Cell) -> str:
    if cell.status != ANSWERED:
        return "failed" if cell.status == FAILED else "-"
    if cell.passed is not None:
        return "pass" if cell.passed else "FAIL"
    return "answered" if cell.score is None else f"{cell.score:.2f}"


# One comparison


def show(summary: Summary, format: str | None) -> None:
    """Show what a comparison says."""
    if format == "json":
        output.show_json(reports.record(summary))
    elif format in ("jsonl", "csv", "markdown"):
        rows = [reports.verdict_record(one) for one in summary.verdicts]
        output.show_rows(rows, format)
    else:
        _show_people(summary, format)


def _show_people(summary: Summary, format: str | None) -> None:
    group = summary.group
    odd = f", {summary.failed:,} failed" if summary.failed else ""
    head = f"{summary.answered:,} of {counted(summary.cells, 'answer')}{odd}: {counted(summary.cases, 'case')}"
    repeats = f" x {summary.repeats} repeats" if summary.repeats > 1 else ""
    sides = counted(len(summary.sides), "variant")
    output.out(f"{style(output.cell(group.name), bold=True)}  {group.status}; {head} x {sides}{repeats}")
    for one in summary.verdicts:
        colour = {BETTER: "green", WORSE: "red"}.get(one.verdict)
        words = output.cell(f"{one.metric}: {one.sentence}")
        output.out(style(output.wrapped(words), fg=colour) if colour else output.wrapped(words))
    if len(summary.sides) < 2:
        output.out("There is one variant only: nothing to compare it with.")
    output.out()
    _show_sides(summary, format)
    lines = [_ballot_line(ballot) for ballot in summary.ballots]
    lines += [
        _difference_line(one) for one in summary.differences if one.figure != "output_tokens" and one.low is not None
    ]
    output.out() if lines else None
    for line in lines:
        output.out(output.wrapped(line))
    if summary.cases == 1 and not summary.metrics:  # there is nothing else to see
        output.out()
        show_case(group, comparisons.cases_of(group)[0], None)
    _advise(summary)


def _show_sides(summary: Summary, format: str | None) -> None:
    headings = {"variant": "variant", "answers": "answers"}
    headings |= {f"metric {name}": short(name) for name in summary.metrics}
    repeats = max((max(side.metrics[0].pass_at, default=0) for side in summary.sides if side.metrics), default=0)
    if repeats:
        headings |= {"pass_at": f"pass@{repeats}", "pass_all": f"pass^{repeats}"}
    headings |= {f"derived {name}": name for side in summary.sides[:1] for name in side.derived}
    headings |= {
        "median_ms": "median ms",
        "p95_ms": "p95 ms",
        "median_usd": "median $",
        "p95_usd": "p95 $",
        "usd": "cost",
    }
    if any(side.rating is not None for side in summary.sides):
        headings["rating"] = "rating"
    rows = [_side_line(side) for side in summary.sides]
    spare = ("p95_usd", "median_usd", "p95_ms", "median_ms")
    widths = (max(len(str(row.get(key, ""))) for row in (headings, *rows)) + 2 for key in headings)
    if sum(widths) <= output.columns() or len(summary.metrics) < 2:
        output.show_rows(rows, format or "table", Layout(headings, "variant", spare))
        return
    kept = {key: name for key, name in headings.items() if not key.startswith(("metric ", "pass_"))}
    output.show_rows(rows, format or "table", Layout(kept, "variant", spare))
    output.out()
    long = [row for side in summary.sides for row in _metric_lines(side)]
    output.show_rows(long, format or "table", Layout({key: key for key in long[0]}, "variant") if long else None)


def _side_line(side: Side) -> Row:
    latency, cost = side.figures["latency_ms"], side.figures["cost_usd"]
    found: Row = {
        "variant": short(side.variant.name), "answers": f"{side.answered:,}/{side.cells:,}",
        "median_ms": _figure(latency.median), "p95_ms": _figure(latency.p95), "median_usd": _money(cost.median),
        "p95_usd": _money(cost.p95), "usd": f"{'≥' if cost.unknown and cost.n else ''}{_money(cost.total)}",
        "rating": "" if side.rating is None else f"{side.rating:.0f}",
    }  # fmt: skip
    for one in side.metrics:
        found[f"metric {one.metric}"] = _metric(one)
    for k, rates in (
        (("pass_at", side.metrics[0].pass_at), ("pass_all", side.metrics[0].pass_all)) if side.metrics else ()
    ):
        found[k] = f"{rates[max(rates)]:.2f}" if rates else ""
    for name, value in side.derived.items():
        found[f"derived {name}"] = "unknown" if value is None else f"{value:.4g}"
    return found


def _metric_lines(side: Side) -> list[Row]:
    """Return a line for each metric of a variant, where they do not fit beside each other."""
    lines = []
    for one in side.metrics:
        row = {"variant": short(side.variant.name), "metric": short(one.metric), "mean": _metric(one)}
        if one.pass_at:
            k = max(one.pass_at)
            row |= {f"pass@{k}": f"{one.pass_at[k]:.2f}", f"pass^{k}": f"{one.pass_all[k]:.2f}"}
        lines.append(row)
    return lines


def _metric(one: answering.Metric) -> str:
    """Return a mean with its interval, and what was left out of it."""
    interval = "" if one.mean is None or one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
    odd = [counted(one.errors, "error") if one.errors else "", f"{one.not_run:,} not run" if one.not_run else ""]
    mean = "not scored" if one.mean is None else f"{one.mean:.2f}"
    return ", ".join(filter(None, (f"{mean}{interval}", *odd)))


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _money(value: float | None) -> str:
    return "unknown" if value is None else output.money(round(value * 1e9))


def _ballot_line(one: Ballot) -> str:
    who = "Votes" if one.kind == "human" else "Judgements"
    ties = f"{one.ties:,} ties" + (f", {one.both_bad:,} both bad" if one.both_bad else "")
    bias = "" if one.bias is None else f"; position bias {one.bias:.0%} (another winner in the other order)"
    first = "" if one.first is None else f"; the first shown won {one.first:.0%}"
    agreed = "" if one.agreement is None else f"; agreement {one.agreement:.2f} (alpha)"
    rated = ", ".join(
        f"{name} {rating:.0f}" + (f" ({interval.low:.0f} to {interval.high:.0f})" if interval else "")
        for name, (rating, interval) in one.ratings.items()
    )  # fmt: skip
    ratings = f"; ratings: {rated}" if rated else "; no ratings: not everyone has won and lost against the others"
    return output.cell(f"{who} of {', '.join(one.voters)}: {one.pairs:,} pairs, {ties}{bias}{first}{agreed}{ratings}")


def _difference_line(one: answering.Difference) -> str:
    assert one.difference is not None and one.low is not None and one.high is not None
    shown = [_signed(value, one.figure) for value in (one.difference, one.low, one.high)]
    what = "latency" if one.figure == "latency_ms" else "cost of an answer"
    size = f"{shown[0]} (95% {shown[1]} to {shown[2]}, n={one.n:,}"
    return output.cell(f"{what}: {one.variant} vs {one.baseline}: median difference {size}, bootstrap)")


def _signed(value: float, figure: str) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else ""
    return f"{sign}{abs(value):,.0f} ms" if figure == "latency_ms" else f"{sign}{output.money(round(abs(value) * 1e9))}"


def _advise(summary: Summary) -> None:
    for note in summary.notes:
        output.notice(f"Note: {note}", fg="yellow")
    name = f"'{summary.group.name}'" if " " in summary.group.name else summary.group.name
    waiting = summary.cells - summary.answered - summary.failed
    if waiting:
        output.notice(f"{counted(waiting, 'answer')} not there yet: llmsess compare run {name}")
    if summary.failed:
        output.notice(
            f"Failed: llmsess compare show {name} --failing; again: llmsess compare run {name} --retry-errors"
        )


def show_case(group: ComparisonGroup, case: Any, format: str | None) -> None:
    """Show the answers to one case, beside each other where there is room."""
    rows = list(reports.cell_records(group, case=case.key))
    if format is not None and format not in ("plain", "table"):
        output.show_rows(rows, format)
        return
    output.out(style(output.cell(f"{case.line}. {comparisons.title_of(case)}"), bold=True))
    for name, value in case.variables.items():
        output.out(f"{output.cell(name)}: {output.cell(value)}")
    for repeat in sorted({row["repeat"] for row in rows}):
        ours = [row for row in rows if row["repeat"] == repeat]
        if len({row["repeat"] for row in rows}) > 1:
            output.out(f"\nRepeat {repeat + 1}")
        _show_answers(ours)


def _show_answers(rows: list[Row]) -> None:
    heads = [_heading(row) for row in rows]
    texts = [row["answer"] if row["answer"] is not None else row["error"] or "no answer yet" for row in rows]
    wide = output.columns()
    if output.is_terminal() and len(rows) > 1 and wide // len(rows) >= NARROW // 2:
        output.out()
        output.out(table.beside(heads, texts, wide))
    else:
        for head, text in zip(heads, texts, strict=True):
            output.out(f"\n{style(head, bold=True)}")
            output.show_text(text)
    reasons = [f"{row['variant']}: {reports.why_of(row)}" for row in rows if reports.why_of(row)]
    output.out() if reasons else None
    for reason in reasons:
        output.out(output.wrapped(output.cell(reason)))


def _heading(row: Row) -> str:
    marks = [
        f"{one['metric']} {one['score']:.2g}" if one["outcome"] == "scored" else f"{one['metric']} {one['outcome']}"
        for one in row["results"]
    ]  # fmt: skip
    return output.cell(f"{row['variant']} [{', '.join(marks) or row['status']}]")


# Runs


def run(source: Any, changed: dict[str, Any], format: str | None, *, gates: Sequence[str], **how: Any) -> None:
    """Run a comparison with its progress on a terminal, show what it says, and raise where it did not end well."""
    group = comparisons.plan(source, project=how.pop("project"), limits=how.pop("limits"), **changed)
    check_known(group, gates)
    job = comparisons.job_of(group)
    if job is not None and job.todo:
        batchviews.tell_plan(batches.estimate(job))
    progress = batchviews.Progress(job.total_items if job is not None else 0)
    callbacks = {"on_interrupt": progress.interrupted, "on_wait": progress.waiting}
    try:
        if job is not None and job.todo:
            progress.start(job)
        report = comparisons.ask(group, progress.tell, callbacks=callbacks, **how)
    finally:
        progress.clear()
    summary = comparisons.summary(report.group)
    show(summary, format)
    if report.scored is not None:
        tell_scored(report.scored)
    _check(report, summary)
    hold(summary, gates)


def tell_scored(scored: Scored) -> None:
    """Say what scoring came to where some could not be scored."""
    odd = [f"{scored.errors:,} could not be scored" if scored.errors else "",
           f"{scored.not_run:,} were not run" if scored.not_run else ""]  # fmt: skip
    if any(odd):
        output.notice(
            f"Of {scored.scored + scored.errors + scored.not_run:,} assertions {' and '.join(filter(None, odd))}."
        )


def _check(report: RunReport, summary: Summary) -> None:
    if report.status == "interrupted":
        raise KeyboardInterrupt
    if report.batch.error is not None:
        raise report.batch.error
    if report.scored is not None:
        check_judging(report.scored.judging)
    name = report.group.name
    if report.batch.status == "paused":
        raise SomeFailed(f'the comparison "{name}" is paused: {report.batch.reason or "answers are left"}')
    if summary.failed:
        raise SomeFailed(f"{summary.failed:,} of {counted(summary.cells, 'answer')} failed")


def check_judging(report: batches.RunReport | None) -> None:
    """Raise what says that judges were not asked to the end."""
    if report is None:
        return
    if report.status == "interrupted":
        raise KeyboardInterrupt
    if report.error is not None:
        raise report.error
    if report.status == "paused":
        raise SomeFailed(f"the judge was not asked to the end: {report.reason or 'questions are left'}")


def hold(summary: Summary, gates: Sequence[str]) -> None:
    """Raise SomeFailed where a gate does not hold."""
    broken = [gate for gate in comparisons.check(summary, gates) if not gate.holds]
    if broken:
        reasons = [f"{gate.expression}: {'; '.join(gate.reasons[:3])}" for gate in broken]
        raise SomeFailed(f"{counted(len(broken), 'gate')} not met: {'; '.join(reasons)}")


def check_gates(gates: Sequence[str]) -> None:
    """Raise InvalidInput for what is no gate, before anything is spent."""
    from llmsess.comparisons.gates import parse

    for gate in gates:
        parse(gate)


def tell_judged(done: comparisons.Judged) -> None:
    """Say what a judge came to; raises where it was stopped, or some of its answers were no verdicts."""
    check_judging(done.judging)
    output.notice(f"{counted(done.pairs, 'pair')}, {counted(done.asked, 'question')} put now.")
    if not done.pairs:
        output.notice("There are no two different answers to a case to judge.")
    if done.unread:
        raise SomeFailed(
            f"{counted(done.unread, 'answer')} of the judge were no verdict: {'; '.join(done.problems[:2])}"
        )


SUFFIXES = {".html": "html", ".htm": "html", ".csv": "csv", ".jsonl": "jsonl", ".md": "markdown", ".xml": "junit"}


def format_of(file: str | None) -> str:
    """Return the format that a file's name asks for."""
    name = (file or "").removesuffix(".gz")
    return next((found for suffix, found in SUFFIXES.items() if name.endswith(suffix)), "json")
