"""A comparison written out: as JSON, JSON lines, CSV, Markdown, JUnit XML for CI, and one HTML page."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

from llmsess import door
from llmsess.comparisons import answering, viewing
from llmsess.comparisons.answering import Figure, Metric, Side, Summary
from llmsess.comparisons.balloting import Ballot
from llmsess.comparisons.cases import Case
from llmsess.comparisons.verdicts import Verdict
from llmsess.comparisons.viewing import ANSWERED, FAILED, Cell
from llmsess.models import ComparisonGroup, time_text
from llmsess.spreadsheets import harmless
from llmsess.texts import one_line

FORMATS = ("json", "jsonl", "csv", "markdown", "junit", "html")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ANSWER_CHARACTERS = 200


# Records


def record(summary: Summary) -> dict[str, Any]:
    """Return what a comparison says as the object that `compare show --json` has."""
    group = summary.group
    return {
        "id": group.uuid, "name": group.name, "status": group.status, "cells": summary.cells, "errors": summary.failed,
        "answered": summary.answered, "cases": summary.cases, "repeats": summary.repeats, "baseline": summary.baseline,
        "created_at": time_text(group.created_at), "metrics": list(summary.metrics),
        "variants": [side_record(side) for side in summary.sides],
        "verdicts": [verdict_record(one) for one in summary.verdicts],
        "differences": [vars(one) for one in summary.differences],
        "votes": [ballot_record(one) for one in summary.ballots], "notes": list(summary.notes),
    }  # fmt: skip


def verdict_record(one: Verdict) -> dict[str, Any]:
    """Return a verdict as an object."""
    names = ("metric", "baseline", "variant", "n", "difference", "low", "high", "p", "p_adjusted", "test", "verdict",
             "wins", "losses", "ties", "missing", "errors", "not_run", "partial", "effect_name", "effect", "detectable",
             "seed",
             "sentence")  # fmt: skip
    return {name: getattr(one, name) for name in names}


def side_record(side: Side) -> dict[str, Any]:
    """Return a variant with its figures as an object."""
    variant = side.variant
    interval = side.rating_interval
    return {
        "name": variant.name, "model": variant.model, "prompt": variant.prompt, "system": variant.system,
        "parameters": dict(variant.parameters), "cells": side.cells, "answered": side.answered, "errors": side.failed,
        "metrics": [metric_record(one) for one in side.metrics], "derived": side.derived,
        "latency_ms": _figure(side.figures["latency_ms"]), "cost_usd": _figure(side.figures["cost_usd"], money=True),
        "output_tokens": _figure(side.figures["output_tokens"]), "rating": side.rating,
        "rating_low": interval.low if interval else None, "rating_high": interval.high if interval else None,
    }  # fmt: skip


def metric_record(one: Metric) -> dict[str, Any]:
    """Return a variant's figures on a metric as an object."""
    named = {"pass_at": one.pass_at, "pass_all": one.pass_all}
    return {**vars(one), **{name: {str(k): value for k, value in found.items()} for name, found in named.items()}}


def _figure(figure: Figure, *, money: bool = False) -> dict[str, Any]:
    found = dict(vars(figure))
    if money:
        found |= {name: _usd(found[name]) for name in ("median", "p95", "total")}
    return found


def _usd(value: float | None) -> str | None:
    """Return USD as a decimal text to the nano-USD."""
    if value is None:
        return None
    text = format(round(Decimal(value), 9).normalize(), "f")
    return "0" if text == "-0" else text


def ballot_record(one: Ballot) -> dict[str, Any]:
    """Return what votes came to as an object."""
    ratings = {
        name: {"rating": rating, "low": interval.low if interval else None, "high": interval.high if interval else None}
        for name, (rating, interval) in one.ratings.items()
    }  # fmt: skip
    return {
        "kind": one.kind, "votes": one.votes, "pairs": one.pairs, "ties": one.ties, "both_bad": one.both_bad,
        "voters": list(one.voters), "position_bias": one.bias, "first_preferred": one.first,
        "agreement": one.agreement, "connected": one.connected, "ratings": ratings,
    }  # fmt: skip


def cell_records(group: ComparisonGroup, *, case: str | None = None, failing: bool = False) -> Iterator[dict[str, Any]]:
    """Yield each answer with its case and its scores as an object; with `failing` those that fail or did not come."""
    known = {one.key: one for one in viewing.cases_of(group)}
    for cell in viewing.stream_cells(group, case=case):
        if not failing or is_failing(cell):
            yield cell_record(cell, known[cell.case])


def is_failing(cell: Cell) -> bool:
    """Return whether an answer failed, did not come, or does not pass."""
    return cell.status == FAILED or cell.passed is False or any(one.outcome == "error" for one in cell.results)


def cell_record(cell: Cell, case: Case) -> dict[str, Any]:
    """Return an answer as an object."""
    results = [
        {"metric": one.metric, "type": one.scorer, "outcome": one.outcome, "score": one.score, "passed": one.passed,
         "reason": one.reason, "weight": one.weight}
        for one in cell.results
    ]  # fmt: skip
    return {
        "case": case.key, "number": case.line, "title": viewing.title_of(case), "variables": dict(case.variables),
        "variant": cell.variant, "repeat": cell.repeat, "status": cell.status, "error": cell.error,
        "answer": cell.content, "score": cell.score, "passed": cell.passed, "results": results, "model": cell.model,
        "latency_ms": cell.latency_ms, "cost_usd": None if cell.cost is None else _usd(float(cell.cost_usd or 0)),
        "input_tokens": cell.input_tokens, "output_tokens": cell.output_tokens, "finish_reason": cell.finish_reason,
        "session": cell.session, "metadata": dict(case.metadata),
    }  # fmt: skip


# Formats


def export(reference: str | ComparisonGroup, format: str, out: IO[str]) -> int:
    """Write a comparison in one of FORMATS and return how many answers there are; raises NotFound, InvalidInput."""
    group = viewing.get(reference)
    return _WRITERS[door.one_of(FORMATS)(format, "format of a comparison")](group, out)


def _write_json(group: ComparisonGroup, out: IO[str]) -> int:
    head = json.dumps(record(answering.summary(group)), ensure_ascii=False, indent=1)
    out.write(head.rstrip("}\n") + ',\n "results": [')
    count = 0
    for row in cell_records(group):
        count += 1
        out.write(("," if count > 1 else "") + "\n  " + json.dumps(row, ensure_ascii=False))
    out.write("\n ]\n}\n")
    return count


def _write_jsonl(group: ComparisonGroup, out: IO[str]) -> int:
    count = 0
    for row in cell_records(group):
        count += 1
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def _write_csv(group: ComparisonGroup, out: IO[str]) -> int:
    metrics = list(answering.summary(group).metrics)
    variables = list(dict.fromkeys(name for case in viewing.cases_of(group) for name in case.variables))
    figures = ("latency_ms", "cost_usd", "input_tokens", "output_tokens", "finish_reason", "session")
    heading = [
        "case",
        "number",
        *variables,
        "variant",
        "repeat",
        "status",
        "error",
        "answer",
        "passed",
        *metrics,
        *figures,
    ]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_plain(name) for name in heading])
    known = {one.key: one for one in viewing.cases_of(group)}
    count = 0
    for cell in viewing.stream_cells(group):
        count += 1
        row = cell_record(cell, known[cell.case])
        scores = [answering.score_of(cell, metric) for metric in metrics]
        values = [row["variables"].get(name) for name in variables]
        told = [row[name] for name in ("variant", "repeat", "status", "error", "answer", "passed")]
        line = [row["case"], row["number"], *values, *told, *scores, *(row[name] for name in figures)]
        writer.writerow([_plain(value) for value in line])
    return count


def _plain(value: Any) -> Any:
    """Return a value as a cell of a CSV, which cannot start a formula."""
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    return harmless(value)


def _write_markdown(group: ComparisonGroup, out: IO[str]) -> int:
    summary = answering.summary(group)
    out.write(f"# {_md(group.name)}\n\n")
    for one in summary.verdicts:
        out.write(f"- **{_md(one.metric)}**: {_md(one.sentence)}\n")
    headings = ["variant", "answers", *summary.metrics, "median ms", "p95 ms", "cost USD"]
    out.write(f"\n| {' | '.join(map(_md, headings))} |\n|{' --- |' * len(headings)}\n")
    for side in summary.sides:
        cells = [side.variant.name, f"{side.answered}/{side.cells}", *(rate_text(one) for one in side.metrics)]
        latency = side.figures["latency_ms"]
        cells += [_number(latency.median), _number(latency.p95), _usd(side.figures["cost_usd"].total) or "unknown"]
        out.write(f"| {' | '.join(map(_md, cells))} |\n")
    out.write("\n## Failing\n\n| case | variant | answer | why |\n| --- | --- | --- | --- |\n")
    failing = 0
    for row in cell_records(group, failing=True):
        failing += 1
        answer = one_line(row["answer"] or "", ANSWER_CHARACTERS)
        cells = [row["title"][:ANSWER_CHARACTERS], row["variant"], answer, why_of(row)]
        out.write(f"| {' | '.join(map(_md, cells))} |\n")
    if not failing:
        out.write("| none | | | |\n")
    for note in summary.notes:
        out.write(f"\nNote: {_md(note)}\n")
    return summary.cells


def why_of(row: dict[str, Any]) -> str:
    """Return why an answer fails, on one line."""
    reasons = [row["error"]] if row["error"] else []
    reasons += [
        f"{one['metric']}: {one['reason'] or one['outcome']}" for one in row["results"]
        if one["outcome"] == "error" or one["passed"] is False
    ]  # fmt: skip
    return one_line("; ".join(reasons), 500)


def rate_text(one: Metric) -> str:
    """Return a metric's mean with its interval: `0.85 (0.64 to 0.95, n=20)`."""
    if one.mean is None:
        return "not scored"
    interval = "" if one.low is None else f"{one.low:.2f} to {one.high:.2f}, "
    return f"{one.mean:.3g} ({interval}n={one.n:,})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _md(text: str) -> str:
    shown = one_line(str(text), 2000)
    for sign in "\\|`*_<>[]#":
        shown = shown.replace(sign, f"\\{sign}")
    return shown


def _write_junit(group: ComparisonGroup, out: IO[str]) -> int:
    rows = list(cell_records(group))
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write(f'<testsuites name={_attribute(group.name)} tests="{len(rows)}">\n')
    for variant in viewing.variants_of(group):
        ours = [row for row in rows if row["variant"] == variant.name]
        kinds = [_kind(row) for row in ours]
        counts = " ".join(f'{name}="{kinds.count(kind)}"' for name, kind in _COUNTED)
        out.write(f'<testsuite name={_attribute(variant.name)} tests="{len(ours)}" {counts}>\n')
        for row, kind in zip(ours, kinds, strict=True):
            seconds = (row["latency_ms"] or 0) / 1000
            repeat = f" #{row['repeat'] + 1}" if row["repeat"] else ""
            name = f"{row['number']}. {row['title'][:ANSWER_CHARACTERS]}{repeat}"
            out.write(f'<testcase classname={_attribute(variant.name)} name={_attribute(name)} time="{seconds:.3f}">')
            if kind == "skipped":
                out.write(f"<skipped message={_attribute(_skipped(row))}/>")
            elif kind:
                why = why_of(row)
                text = escape(_NO_XML.sub("", row["answer"] or ""))
                out.write(f"<{kind} message={_attribute(why)}>{text}</{kind}>")
            out.write("</testcase>\n")
        out.write("</testsuite>\n")
    out.write("</testsuites>\n")
    return len(rows)


_COUNTED = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def _kind(row: dict[str, Any]) -> str:
    """Return what an answer is to JUnit: error, failure, skipped, or nothing where it passes."""
    outcomes = {one["outcome"] for one in row["results"]}
    if row["status"] == FAILED or "error" in outcomes:
        return "error"
    if row["passed"] is False:
        return "failure"
    return "skipped" if row["status"] != ANSWERED or "not_run" in outcomes else ""


def _skipped(row: dict[str, Any]) -> str:
    reasons = [one["reason"] for one in row["results"] if one["outcome"] == "not_run"]
    return str(reasons[0]) if reasons else "there is no answer yet"


def _attribute(text: str) -> str:
    return quoteattr(_NO_XML.sub("", text))


def _write_html(group: ComparisonGroup, out: IO[str]) -> int:
    from llmsess.comparisons import page

    return page.write(group, out)


_WRITERS = {
    "json": _write_json, "jsonl": _write_jsonl, "csv": _write_csv, "markdown": _write_markdown, "junit": _write_junit,
    "html": _write_html,
}  # fmt: skip
