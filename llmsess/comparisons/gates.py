"""Gates for CI: what must not be, said in a word, held against what a comparison says.

pass<0.9          the mean of a metric, of any variant, is below a rate (90% is as good)
worse             a variant is worse than the baseline on any metric; worse:METRIC on this one
worse-than:RUN    a variant is worse than the variant of its name in another comparison, over the cases of both
errors            an answer failed, or could not be scored
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmsess.comparisons import answering, verdicts, viewing
from llmsess.comparisons.answering import Side, Summary
from llmsess.comparisons.balloting import METRIC_OF_VOTES
from llmsess.comparisons.verdicts import WORSE
from llmsess.errors import InvalidInput
from llmsess.models import ComparisonGroup
from llmsess.scorers.assertions import PASS
from llmsess.texts import one_line

_BELOW = re.compile(r"(.+?)\s*<\s*(\d*\.?\d+)\s*(%?)")
WAYS = "METRIC<0.9, worse, worse:METRIC, worse-than:COMPARISON or errors"


@dataclass(frozen=True)
class Gate:
    """A gate, whether it holds, and why it does not."""

    expression: str
    holds: bool
    reasons: tuple[str, ...] = ()


def check(summary: Summary, expressions: Iterable[str]) -> list[Gate]:
    """Return what became of each gate; one that nothing is known of does not hold. Raises InvalidInput, NotFound."""
    found = []
    for expression in expressions:
        reasons = tuple(parse(expression)(summary))
        found.append(Gate(expression, not reasons, reasons))
    return found


def parse(expression: str) -> Callable[[Summary], list[str]]:
    """Return what finds the reasons against a gate; raises InvalidInput, NotFound."""
    text = expression.strip()
    below = _BELOW.fullmatch(text)
    if below:
        least = float(below[2]) / (100 if below[3] else 1)
        return lambda summary: _below(summary, below[1], least)
    word, _, name = text.partition(":")
    if word == "worse":
        return lambda summary: _worse(summary, name or None)
    if word == "worse-than" and name:
        other = viewing.get(name)
        return lambda summary: _worse_than(summary, other)
    if text == "errors":
        return _errors
    raise InvalidInput(f'"{one_line(text, 60)}" is no gate', hint=WAYS)


def check_known(group: ComparisonGroup, expressions: Iterable[str]) -> None:
    """Raise InvalidInput where a gate names a metric that the assertions of a comparison do not have."""
    checks = [*viewing.group_assertions(group), *(one for case in viewing.cases_of(group) for one in case.assertions)]
    known = {PASS, *METRIC_OF_VOTES.values(), *(part.name for one in checks for part in (one, *one.parts))}
    for expression in expressions:
        below, (word, _, name) = _BELOW.fullmatch(expression.strip()), expression.strip().partition(":")
        metric = below[1] if below else name if word == "worse" else None
        if metric:
            _check_metric(known, metric)


def _check_metric(known: set[str], metric: str) -> None:
    if metric not in known:
        raise InvalidInput(
            f'there is no metric "{one_line(metric, 60)}"', hint=f"there is {', '.join(sorted(known)) or 'none'}"
        )


def _known(summary: Summary) -> set[str]:
    return {PASS, *summary.metrics, *(one.metric for one in summary.verdicts)}


def _below(summary: Summary, metric: str, least: float) -> list[str]:
    _check_metric(_known(summary), metric)
    reasons = []
    for side in summary.sides:
        mean = _mean(side, metric)
        if mean is None or mean < least:
            shown = "has no score" if mean is None else f"is {mean:.4g}"
            reasons.append(f"{metric} of {side.variant.name} {shown}, not {least:g} or more")
    return reasons


def _mean(side: Side, metric: str) -> float | None:
    """Return a variant's mean on a metric; where there is one metric alone, what passes it is what passes all."""
    for one in side.metrics:
        if one.metric == metric:
            return one.mean
        if metric == PASS and len(side.metrics) == 1:
            return one.passed / (one.passed + one.failed) if one.passed + one.failed else None
    return None


def _worse(summary: Summary, metric: str | None) -> list[str]:
    if metric is not None:
        _check_metric(_known(summary), metric)
    chosen = [one for one in summary.verdicts if metric in (None, one.metric)]
    others = [side.variant.name for side in summary.sides if side.variant.name != summary.baseline]
    unknown = [name for name in others if not any(one.n for one in chosen if one.variant == name)]
    if unknown or not others:
        return [f"nothing is known of a difference{f' of {name}' if name else ''}" for name in unknown or [""]]
    return [f"{one.metric}: {one.sentence}" for one in chosen if one.verdict == WORSE]


def _worse_than(summary: Summary, other: ComparisonGroup) -> list[str]:
    """Return where a variant is worse than the one of its name in another comparison."""
    now, before = (list(viewing.stream_cells(group, texts=False)) for group in (summary.group, other))
    clusters = answering.clusters_of(summary.group, viewing.cases_of(summary.group))
    reasons, compared = [], 0
    for metric in summary.metrics:
        ours, theirs = answering.table(now, metric), answering.table(before, metric)
        found = []
        for name in (side.variant.name for side in summary.sides):
            pairs = answering.paired(theirs.get(name, {}), ours.get(name, {}))
            compared += len(pairs)
            label, count = f"{name} in {other.name}", len(summary.sides)
            found.append(verdicts.compare(metric, label, name, pairs, clusters=clusters, contrasts=count))
        reasons += [f"{one.metric}: {one.sentence}" for one in verdicts.adjusted(found) if one.verdict == WORSE]
    return reasons if compared else [f'it has no variant and case in common with "{other.name}"']


def _errors(summary: Summary) -> list[str]:
    reasons = [f"{summary.failed:,} of {summary.cells:,} answers failed"] if summary.failed else []
    waiting = summary.cells - summary.answered - summary.failed
    if waiting:
        reasons.append(f"{waiting:,} of {summary.cells:,} answers are not there yet")
    for side in summary.sides:
        scored = [one for one in side.metrics if one.metric != PASS or len(side.metrics) == 1]
        unscored = sum(one.errors for one in scored) - side.failed * len(scored)
        if unscored:
            reasons.append(f"{unscored:,} scores of {side.variant.name} could not be had")
    return reasons
