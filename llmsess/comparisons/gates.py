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
from llmsess.comparisons.answering import Summary
from llmsess.comparisons.verdicts import WORSE
from llmsess.errors import InvalidInput
from llmsess.models import ComparisonGroup
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
    """Return what finds the reasons against a gate; raises InvalidInput."""
    text = expression.strip()
    below = _BELOW.fullmatch(text)
    if below:
        least = float(below[2]) / (100 if below[3] else 1)
        return lambda summary: _below(summary, below[1], least)
    word, _, name = text.partition(":")
    if word == "worse":
        return lambda summary: _worse(summary, name or None)
    if word == "worse-than" and name:
        return lambda summary: _worse_than(summary, viewing.get(name))
    if text == "errors":
        return _errors
    raise InvalidInput(f'"{one_line(text, 60)}" is no gate', hint=WAYS)


def _known(summary: Summary, metric: str) -> None:
    known = {*summary.metrics, *(one.metric for one in summary.verdicts)}
    if metric not in known:
        raise InvalidInput(
            f'there is no metric "{one_line(metric, 60)}"', hint=f"there is {', '.join(sorted(known)) or 'none'}"
        )


def _below(summary: Summary, metric: str, least: float) -> list[str]:
    _known(summary, metric)
    reasons = []
    for side in summary.sides:
        for one in side.metrics:
            if one.metric == metric and (one.mean is None or one.mean < least):
                shown = "has no score" if one.mean is None else f"is {one.mean:.4g}"
                reasons.append(f"{metric} of {side.variant.name} {shown}, not {least:g} or more")
    return reasons


def _worse(summary: Summary, metric: str | None) -> list[str]:
    if metric is not None:
        _known(summary, metric)
    chosen = [one for one in summary.verdicts if metric in (None, one.metric)]
    if not chosen or all(not one.n for one in chosen):
        return ["nothing is known of a difference"]
    return [f"{one.metric}: {one.sentence}" for one in chosen if one.verdict == WORSE]


def _worse_than(summary: Summary, other: ComparisonGroup) -> list[str]:
    """Return where a variant is worse than the one of its name in another comparison."""
    now, before = (list(viewing.stream_cells(group, texts=False)) for group in (summary.group, other))
    reasons, compared = [], 0
    for metric in summary.metrics:
        ours, theirs = answering.table(now, metric), answering.table(before, metric)
        found = []
        for name in (side.variant.name for side in summary.sides):
            pairs = {
                case: (sum(theirs[name][case]) / len(theirs[name][case]), sum(scores) / len(scores))
                for case, scores in ours.get(name, {}).items() if case in theirs.get(name, {})
            }  # fmt: skip
            compared += len(pairs)
            binary = all(one in (0.0, 1.0) for pair in pairs.values() for one in pair)
            label = f"{name} in {other.name}"
            found.append(verdicts.compare(metric, label, name, pairs, contrasts=len(summary.sides), binary=binary))
        reasons += [f"{one.metric}: {one.sentence}" for one in verdicts.adjusted(found) if one.verdict == WORSE]
    return reasons if compared else [f'it has no variant and case in common with "{other.name}"']


def _errors(summary: Summary) -> list[str]:
    reasons = [f"{summary.failed:,} of {summary.cells:,} answers failed"] if summary.failed else []
    waiting = summary.cells - summary.answered - summary.failed
    if waiting:
        reasons.append(f"{waiting:,} of {summary.cells:,} answers are not there yet")
    for side in summary.sides:
        unscored = sum(one.errors for one in side.metrics) - side.failed * len(side.metrics)
        if unscored:
            reasons.append(f"{unscored:,} scores of {side.variant.name} could not be had")
    return reasons
