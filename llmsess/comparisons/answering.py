"""What a comparison says: figures of each variant, verdicts on each metric, ratings from votes. Nothing is NaN.

A cell's score on a metric is the weighted mean of its assertions of that name; a case's is the mean over its repeats;
a variant's the mean over cases. What failed, could not be scored or could not be run is left out, and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmsess import sandbox, statistics
from llmsess.comparisons import balloting, judging, verdicts, viewing
from llmsess.comparisons.balloting import Ballot
from llmsess.comparisons.cases import Case
from llmsess.comparisons.specs import Variant
from llmsess.comparisons.verdicts import Verdict
from llmsess.comparisons.viewing import ANSWERED, FAILED, Cell
from llmsess.errors import InvalidInput
from llmsess.models import ComparisonGroup, usd
from llmsess.scorers.assertions import weighted
from llmsess.statistics import SEED, Interval
from llmsess.statistics.intervals import median

PASS = "pass"  # the metric of whether an answer passes all that is to hold
FIGURES = ("latency_ms", "cost_usd", "output_tokens")
Scores = dict[str, dict[str, list[float]]]  # variant: case: the scores of its repeats


@dataclass
class Metric:
    """A variant's figures on a metric; `mean` over `n` cases, of cells `passed` and `failed`, None where unknown.

    `errors` could not be scored, `not_run` could not be run. `pass_at[k]` is the chance that one of k repeats passes,
    `pass_all[k]` that all do.
    """

    metric: str
    n: int = 0
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    passed: int = 0
    failed: int = 0
    errors: int = 0
    not_run: int = 0
    pass_at: dict[int, float] = field(default_factory=dict)
    pass_all: dict[int, float] = field(default_factory=dict)


@dataclass
class Figure:
    """The middle and the 95th percentile of what answers took; `n` of them are known, `unknown` are not."""

    n: int
    unknown: int
    median: float | None
    p95: float | None
    total: float | None


@dataclass
class Side:
    """A variant with its figures; `cells` are asked for, of which some are `answered` and some `failed`."""

    variant: Variant
    cells: int
    answered: int
    failed: int
    metrics: list[Metric]
    figures: dict[str, Figure]
    derived: dict[str, float | None]
    rating: float | None = None
    rating_interval: Interval | None = None


@dataclass(frozen=True)
class Difference:
    """The median of paired differences of a figure, variant less baseline, with its bootstrap interval."""

    figure: str
    baseline: str
    variant: str
    n: int
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """Everything that a comparison says."""

    group: ComparisonGroup
    baseline: str | None
    cases: int
    repeats: int
    cells: int
    answered: int
    failed: int
    metrics: tuple[str, ...]
    sides: tuple[Side, ...]
    verdicts: tuple[Verdict, ...]
    differences: tuple[Difference, ...]
    ballots: tuple[Ballot, ...]
    notes: tuple[str, ...]


def summary(reference: str | ComparisonGroup) -> Summary:
    """Return what a comparison says; raises NotFound."""
    group = viewing.get(reference)
    known = viewing.cases_of(group)
    sides = viewing.variants_of(group)
    names = [variant.name for variant in sides]
    base = viewing.baseline_of(group, names)
    cells = list(viewing.stream_cells(group, texts=False))
    metrics = metrics_of(cells)
    tables = {metric: table(cells, metric) for metric in metrics}
    votes = judging.votes(group)
    ballots = tuple(balloting.ballots(votes, names))
    found = [_side(variant, [cell for cell in cells if cell.variant == variant.name], metrics) for variant in sides]
    for side in found:
        side.derived = _derived(group, side)
    clusters = _clusters(group, known)
    judged = [
        one for metric in metrics for one in _verdicts(metric, base, names, tables[metric], cells, clusters)
    ] + balloting.verdicts_of(votes, base, names)  # fmt: skip
    _rate(found, ballots)
    return Summary(
        group, base, len(known), max((cell.repeat for cell in cells), default=0) + 1, len(cells),
        sum(cell.status == ANSWERED for cell in cells), sum(cell.status == FAILED for cell in cells), tuple(metrics),
        tuple(found), tuple(judged), tuple(_differences(cells, base, names)), ballots, tuple(group.notes or ()),
    )  # fmt: skip


# Scores


def metrics_of(cells: Iterable[Cell]) -> list[str]:
    """Return the metrics in the order of the assertions; whether all holds is one of them where there are several."""
    named: dict[str, None] = {}
    several = False
    for cell in cells:
        several = several or sum(one.weight > 0 for one in cell.results) > 1
        named.update(dict.fromkeys(one.metric for one in cell.results))
    return [PASS, *(name for name in named if name != PASS)] if several or len(named) > 1 else list(named)


def score_of(cell: Cell, metric: str) -> float | None:
    """Return a cell's score on a metric, None where it has none."""
    own = [(one.score, one.weight) for one in cell.results if one.metric == metric and one.outcome == "scored"]
    if own or metric != PASS:
        return weighted(own)
    known = cell.passed is not None and all(one.outcome == "scored" for one in cell.results if one.weight > 0)
    return float(bool(cell.passed)) if known else None  # where some are known only to fail, a rate of them would lie


def table(cells: Iterable[Cell], metric: str) -> Scores:
    """Return the scores on a metric by variant and case."""
    found: Scores = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        score = score_of(cell, metric) if cell.status == ANSWERED else None
        if score is not None:
            found[cell.variant][cell.case].append(score)
    return found


def _means(scores: Mapping[str, list[float]]) -> dict[str, float]:
    return {case: statistics.mean(values) for case, values in scores.items()}


def _metric(metric: str, cells: list[Cell]) -> Metric:
    scores = table(cells, metric)
    by_case = next(iter(scores.values()), {})
    means = list(_means(by_case).values())
    found = Metric(metric, len(means))
    for cell in cells:
        outcome = outcome_of(cell, metric)
        if outcome == "passed":
            found.passed += 1
        elif outcome == "failed":
            found.failed += 1
        elif outcome == "error":
            found.errors += 1
        elif outcome == "not_run":
            found.not_run += 1
    if means:
        found.mean = statistics.mean(means)
        interval = statistics.score_interval(means)
        found.low, found.high = interval or (None, None)
    _add_repeats(found, cells)
    return found


def outcome_of(cell: Cell, metric: str) -> str | None:
    """Return how an answer fared on a metric: passed, failed, error, not_run; None where there is nothing to say."""
    if cell.status == FAILED:
        return "error"
    own = [one for one in cell.results if one.metric == metric]
    if not own and metric == PASS:
        own = [one for one in cell.results if one.weight > 0]
        if score_of(cell, metric) is not None:
            return "passed" if cell.passed else "failed"
    if not own:
        return None
    for outcome in ("error", "not_run"):
        if any(one.outcome == outcome for one in own):
            return outcome
    return "passed" if all(one.passed for one in own) else "failed"


def _add_repeats(found: Metric, cells: list[Cell]) -> None:
    """Add pass@k and pass^k, over the cases of which as many repeats are known as of the others."""
    tries: dict[str, list[bool]] = defaultdict(list)
    for cell in cells:
        outcome = outcome_of(cell, found.metric)
        if outcome in ("passed", "failed"):
            tries[cell.case].append(outcome == "passed")
    most = max(map(len, tries.values()), default=0)
    if most < 2:
        return
    for k in range(1, most + 1):
        enough = [one for one in tries.values() if len(one) >= k]
        if enough:
            found.pass_at[k] = statistics.mean([statistics.pass_at(k, len(one), sum(one)) for one in enough])
            found.pass_all[k] = statistics.mean([statistics.pass_all(k, len(one), sum(one)) for one in enough])


# Variants


def _side(variant: Variant, cells: list[Cell], metrics: list[str]) -> Side:
    answered = [cell for cell in cells if cell.status == ANSWERED]
    failed = sum(cell.status == FAILED for cell in cells)
    figures = {name: _figure([figure_of(cell, name) for cell in answered]) for name in FIGURES}
    return Side(
        variant, len(cells), len(answered), failed, [_metric(metric, cells) for metric in metrics], figures, {}
    )  # fmt: skip


def figure_of(cell: Cell, name: str) -> float | None:
    """Return a figure of an answer, None where it is not known."""
    if name == "cost_usd":
        cost = usd(cell.cost)
        return None if cost is None else float(cost)
    value = getattr(cell, name)
    return None if value is None else float(value)


def _figure(values: list[float | None]) -> Figure:
    known = [value for value in values if value is not None]
    if not known:
        return Figure(0, len(values), None, None, None)
    p95 = statistics.quantile(known, 0.95)
    return Figure(len(known), len(values) - len(known), median(known), p95, sum(known))


def _derived(group: ComparisonGroup, side: Side) -> dict[str, float | None]:
    """Return the metrics that are formulas over the sums of the others; None where one cannot be computed."""
    sums: dict[str, Any] = {"__count": side.answered}
    for one in side.metrics:
        if one.mean is not None:
            sums[one.metric.replace("-", "_").replace(" ", "_")] = one.mean * one.n
    found: dict[str, float | None] = {}
    for formula in group.derived or ():
        name = str(formula["name"])
        try:
            value = float(sandbox.render(f"{{{{ {formula['value']} }}}}", sums))
            found[name] = value if abs(value) != float("inf") and value == value else None
        except (InvalidInput, ValueError):
            found[name] = None
        if found[name] is not None:
            sums[name] = found[name]
    return found


# Verdicts


def _clusters(group: ComparisonGroup, cases: list[Case]) -> dict[str, Hashable] | None:
    if group.cluster is None:
        return None
    return {
        case.key: str(case.metadata.get(group.cluster, case.variables.get(group.cluster, case.key))) for case in cases
    }  # fmt: skip


def _verdicts(
    metric: str, base: str | None, names: list[str], scores: Scores, cells: list[Cell],
    clusters: Mapping[str, Hashable] | None,
) -> list[Verdict]:  # fmt: skip
    if base is None:
        return []
    others = [name for name in names if name != base]
    before = _means(scores.get(base, {}))
    judged = []
    for name in others:
        after = _means(scores.get(name, {}))
        pairs = {case: (before[case], after[case]) for case in before if case in after}
        binary = clusters is None and all(one in (0.0, 1.0) for pair in pairs.values() for one in pair)
        one = verdicts.compare(
            metric, base, name, pairs, clusters=clusters, contrasts=len(others), binary=binary and bool(pairs)
        )
        judged.append(_with_missing(one, metric, cells, set(pairs), {base, name}))
    return verdicts.adjusted(judged)


def _with_missing(
    one: Verdict, metric: str, cells: list[Cell], paired: set[str], names: set[str]
) -> Verdict:  # fmt: skip
    """Return a verdict with the cases that it leaves out, and why."""
    why: dict[str, set[str | None]] = defaultdict(set)
    for cell in cells:
        if cell.variant in names and cell.case not in paired:
            why[cell.case].add(outcome_of(cell, metric))
    errors = sum("error" in reasons for reasons in why.values())
    not_run = sum("not_run" in reasons and "error" not in reasons for reasons in why.values())
    return replace(one, missing=len(why), errors=errors, not_run=not_run)


def _differences(cells: list[Cell], base: str | None, names: list[str]) -> Iterable[Difference]:
    """Yield how the figures of answers differ from the baseline's, over cases that both have."""
    if base is None:
        return
    for figure in FIGURES:
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for cell in cells:
            one = figure_of(cell, figure) if cell.status == ANSWERED else None
            if one is not None:
                values[cell.variant][cell.case].append(one)
        means = {name: _means(by_case) for name, by_case in values.items()}
        for name in names:
            if name == base:
                continue
            before, after = means.get(base, {}), means.get(name, {})
            paired = [after[case] - before[case] for case in before if case in after]
            interval = None
            if len(paired) >= 6:
                draws = max(200, min(2_000, 2_000_000 // len(paired)))
                interval = statistics.bootstrap(paired, median, seed=SEED, draws=draws)
            yield Difference(
                figure, base, name, len(paired), median(paired) if paired else None, *(interval or (None, None))
            )


def _rate(sides: list[Side], ballots: tuple[Ballot, ...]) -> None:
    """Give the variants the ratings of people's votes, else of a model's."""
    for ballot in ballots:
        if ballot.ratings:
            for side in sides:
                side.rating, side.rating_interval = ballot.ratings[side.variant.name]
            return
