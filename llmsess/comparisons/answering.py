"""What a comparison says: figures of each variant, verdicts on each metric, ratings from votes. Nothing is NaN.

A cell's score on a metric is the weighted mean of its assertions of that name; a case's is the mean over its repeats;
a variant's the mean over cases. What failed, could not be scored or could not be run is left out, and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from llmsess import sandbox, statistics
from llmsess.comparisons import balloting, judging, verdicts, viewing
from llmsess.comparisons.balloting import Ballot
from llmsess.comparisons.cases import Case
from llmsess.comparisons.specs import Variant
from llmsess.comparisons.verdicts import Verdict
from llmsess.comparisons.viewing import ANSWERED, FAILED, Cell
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import ComparisonGroup, usd
from llmsess.scorers.assertions import PASS, weighted
from llmsess.statistics import SEED, Interval
from llmsess.statistics.intervals import median

FIGURES = ("latency_ms", "cost_usd", "output_tokens")
FEWEST_DRAWN = 6  # cases, or clusters, of which a bootstrap says something
Clusters = Mapping[str, Hashable]  # case: its cluster
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
    clusters = clusters_of(group, known)
    ours = {name: [cell for cell in cells if cell.variant == name] for name in names}
    found = [_side(group, variant, ours[variant.name], tables, clusters) for variant in sides]
    judged = [
        one for metric in metrics for one in _verdicts(metric, base, names, tables[metric], cells, clusters)
    ] + balloting.verdicts_of(votes, base, names)  # fmt: skip
    _rate(found, ballots)
    return Summary(
        group, base, len(known), max((cell.repeat for cell in cells), default=0) + 1, len(cells),
        sum(cell.status == ANSWERED for cell in cells), sum(cell.status == FAILED for cell in cells), tuple(metrics),
        tuple(found), tuple(judged), tuple(_differences(cells, base, names, clusters)), ballots,
        (*(group.notes or ()), *_kept_aside(group)),
    )  # fmt: skip


_ASIDE = """
    SELECT count(*) FROM batch_items i WHERE i.job_id = ? AND i.status = 'done'
    AND NOT EXISTS (SELECT 1 FROM comparison_sessions s WHERE s.item_id = i.id)
"""


def _kept_aside(group: ComparisonGroup) -> list[str]:
    """Return the note on answers of earlier definitions, which count again where a definition asks for them again."""
    (count,) = database.execute_sql(_ASIDE, (group.batch_job_id,)).fetchone()
    return [f"{count:,} answers of earlier definitions are kept, and not counted"] if count else []


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
    own = [one for one in cell.results if one.metric == metric]
    if own or metric != PASS:  # where one of several could not be had, a mean of the others would be another figure
        whole = all(one.outcome == "scored" for one in own)
        return weighted([(one.score, one.weight) for one in own]) if whole else None
    known = cell.passed is not None and all(one.outcome == "scored" for one in cell.results if one.weight > 0)
    return float(bool(cell.passed)) if known else None  # where some are known only to fail, a rate of them would lie


def table(cells: Iterable[Cell], metric: str) -> Scores:
    """Return the scores on a metric by variant and case."""
    return _by_variant_and_case(cells, lambda cell: score_of(cell, metric))


def _by_variant_and_case(cells: Iterable[Cell], value_of: Callable[[Cell], float | None]) -> Scores:
    """Return what is known of answers by variant and case, a value for each repeat."""
    found: Scores = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        value = value_of(cell) if cell.status == ANSWERED else None
        if value is not None:
            found[cell.variant][cell.case].append(value)
    return found


def _means(scores: Mapping[str, list[float]]) -> dict[str, float]:
    return {case: statistics.mean(values) for case, values in scores.items()}


def _metric(metric: str, cells: list[Cell], scores: Mapping[str, list[float]], clusters: Clusters | None) -> Metric:
    by_case = _means(scores)
    means, groups = list(by_case.values()), None if clusters is None else [clusters[case] for case in by_case]
    fared = Counter(outcome_of(cell, metric) for cell in cells)
    found = Metric(
        metric, len(means), passed=fared["passed"], failed=fared["failed"], errors=fared["error"],
        not_run=fared["not_run"],
    )  # fmt: skip
    if means:
        found.mean = statistics.mean(means)
        interval = statistics.score_interval(means, groups)
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
    """Add pass@k and pass^k, for every k over the same cases: those of which most repeats are known."""
    tries: dict[str, list[bool]] = defaultdict(list)
    for cell in cells:
        outcome = outcome_of(cell, found.metric)
        if outcome in ("passed", "failed"):
            tries[cell.case].append(outcome == "passed")
    most = max(map(len, tries.values()), default=0)
    if most < 2:
        return
    enough = [one for one in tries.values() if len(one) == most]
    for k in range(1, most + 1):
        found.pass_at[k] = statistics.mean([statistics.pass_at(k, most, sum(one)) for one in enough])
        found.pass_all[k] = statistics.mean([statistics.pass_all(k, most, sum(one)) for one in enough])


# Variants


def _side(
    group: ComparisonGroup, variant: Variant, cells: list[Cell], tables: Mapping[str, Scores], clusters: Clusters | None
) -> Side:  # fmt: skip
    answered = [cell for cell in cells if cell.status == ANSWERED]
    failed = sum(cell.status == FAILED for cell in cells)
    figures = {name: _figure([figure_of(cell, name) for cell in answered]) for name in FIGURES}
    metrics = [
        _metric(metric, cells, scores.get(variant.name, {}), clusters) for metric, scores in tables.items()
    ]  # fmt: skip
    return Side(variant, len(cells), len(answered), failed, metrics, figures, _derived(group, answered, list(tables)))


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


def _derived(group: ComparisonGroup, answered: list[Cell], metrics: list[str]) -> dict[str, float | None]:
    """Return the metrics that are formulas over the sums of the others; None where one cannot be computed."""
    sums: dict[str, Any] = {"__count": len(answered)}
    for metric in metrics:
        scores = [score for cell in answered if (score := score_of(cell, metric)) is not None]
        if scores:
            sums[metric.replace("-", "_").replace(" ", "_")] = sum(scores)
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


def clusters_of(group: ComparisonGroup, cases: list[Case]) -> Clusters | None:
    """Return which cluster each case is of, None where they are not clustered; one that is of none is by itself."""
    if group.cluster is None:
        return None
    named = {case.key: case.metadata.get(group.cluster, case.variables.get(group.cluster)) for case in cases}
    return {key: ("alone", key) if name is None else ("cluster", str(name)) for key, name in named.items()}


def _verdicts(
    metric: str, base: str | None, names: list[str], scores: Scores, cells: list[Cell],
    clusters: Mapping[str, Hashable] | None,
) -> list[Verdict]:  # fmt: skip
    if base is None:
        return []
    others = [name for name in names if name != base]
    judged = []
    for name in others:
        pairs = paired(scores.get(base, {}), scores.get(name, {}))
        one = verdicts.compare(metric, base, name, pairs, clusters=clusters, contrasts=len(others))
        judged.append(_with_missing(one, metric, cells, set(pairs), {base, name}))
    return verdicts.adjusted(judged)


def paired(before: Mapping[str, list[float]], after: Mapping[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Return the scores of the cases that both have, each the mean over its repeats."""
    first, second = _means(before), _means(after)
    return {case: (first[case], second[case]) for case in first if case in second}


def _with_missing(
    one: Verdict, metric: str, cells: list[Cell], both: set[str], names: set[str]
) -> Verdict:  # fmt: skip
    """Return a verdict with the cases that it leaves out, and why."""
    why: dict[str, set[str | None]] = defaultdict(set)
    some = set()
    for cell in cells:
        if cell.variant in names and cell.case not in both:
            why[cell.case].add(outcome_of(cell, metric))
        elif cell.variant in names and (cell.status != ANSWERED or score_of(cell, metric) is None):
            some.add(cell.case)
    errors = sum("error" in reasons for reasons in why.values())
    not_run = sum("not_run" in reasons and "error" not in reasons for reasons in why.values())
    return replace(one, missing=len(why), errors=errors, not_run=not_run, partial=len(some))


def _differences(
    cells: list[Cell], base: str | None, names: list[str], clusters: Clusters | None
) -> Iterable[Difference]:  # fmt: skip
    """Yield how the figures of answers differ from the baseline's, over cases that both have."""
    if base is None:
        return
    for figure in FIGURES:
        values = _by_variant_and_case(cells, partial(figure_of, name=figure))
        for name in names:
            if name == base:
                continue
            pairs = paired(values.get(base, {}), values.get(name, {}))
            apart = [after - before for before, after in pairs.values()]
            groups = None if clusters is None else [clusters[case] for case in pairs]
            interval = None
            if len(apart if groups is None else set(groups)) >= FEWEST_DRAWN:
                draws = max(200, min(2_000, 2_000_000 // len(apart)))
                interval = statistics.bootstrap(apart, median, seed=SEED, draws=draws, clusters=groups)
            yield Difference(
                figure, base, name, len(apart), median(apart) if apart else None, *(interval or (None, None))
            )


def _rate(sides: list[Side], ballots: tuple[Ballot, ...]) -> None:
    """Give the variants the ratings of people's votes, else of a model's."""
    for ballot in ballots:
        if ballot.ratings:
            for side in sides:
                side.rating, side.rating_interval = ballot.ratings[side.variant.name]
            return
