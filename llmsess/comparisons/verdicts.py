"""Is a variant better than the baseline, or is it noise: the test that fits, its interval, and one sentence.

Cases are the evidence: repeats of a case are averaged first. Right or wrong answers are held against each other by
McNemar's exact test with Tango's interval, scores by changing signs (over 2,000 cases by the paired t test),
preferences by the sign test. The cases of a cluster change signs together. Several variants against one baseline are
adjusted for by Holm's way, for each metric.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from llmsess import statistics
from llmsess.statistics import CONFIDENCE, SEED, Interval

ALPHA = 1 - CONFIDENCE
MANY = 2_000  # pairs from which on the mean of differences is as good as normal
BETTER, WORSE, NO_EVIDENCE, NOT_ENOUGH = "better", "worse", "no_evidence", "not_enough"


@dataclass(frozen=True)
class Verdict:
    """What is known of a difference, variant less baseline; None is what cannot be said.

    `n` cases have both; `wins`, `losses` and `ties` are theirs. `missing` cases lack one: `errors` had no answer or no
    score, `not_run` could not be scored; of `partial` cases some repeats lack one. `low` and `high` are the 95 %
    interval, `p_adjusted` is for several variants, `effect` is of the kind `effect_name`, `detectable` the least
    difference that n finds 8 times of 10.
    """

    metric: str
    baseline: str
    variant: str
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    test: str | None
    verdict: str
    wins: int = 0
    losses: int = 0
    ties: int = 0
    missing: int = 0
    errors: int = 0
    not_run: int = 0
    partial: int = 0
    effect_name: str | None = None
    effect: float | None = None
    detectable: float | None = None
    in_points: bool = True
    least: int = 0
    units: int | None = None  # what varies by itself: clusters, else cases
    seed: int | None = None

    @property
    def sentence(self) -> str:
        """Return the verdict in words."""
        return _sentence(self)


def compare(
    metric: str, baseline: str, variant: str, pairs: Mapping[str, tuple[float, float]], *,
    clusters: Mapping[str, Hashable] | None = None, contrasts: int = 1,
) -> Verdict:  # fmt: skip
    """Return the verdict on paired scores by case, (the baseline's, the variant's); `contrasts` are tested together."""
    return _compared(metric, baseline, variant, pairs, clusters, contrasts, _is_binary(pairs) and clusters is None)


def _is_binary(pairs: Mapping[str, tuple[float, float]]) -> bool:
    return all(one in (0.0, 1.0) for pair in pairs.values() for one in pair)


def _compared(
    metric: str, baseline: str, variant: str, pairs: Mapping[str, tuple[float, float]],
    clusters: Mapping[str, Hashable] | None, contrasts: int, binary: bool,
) -> Verdict:  # fmt: skip
    differences = [after - before for before, after in pairs.values()]
    tolerance = 1e-12
    wins = sum(one > tolerance for one in differences)
    losses = sum(one < -tolerance for one in differences)
    count = len(differences)
    known = Verdict(
        metric, baseline, variant, count, None, None, None, None, None, None, NOT_ENOUGH, wins, losses,
        count - wins - losses, in_points=all(0 <= one <= 1 for pair in pairs.values() for one in pair),
        least=least_pairs(contrasts),
    )  # fmt: skip
    if not count:
        return known
    known = replace(known, difference=statistics.mean(differences))
    if count < 2:
        return known
    if binary:
        found = _binary(known, contrasts)
    else:
        groups = [clusters[key] for key in pairs] if clusters is not None else None
        found = _scored(known, differences, groups, contrasts)
    return adjusted([found])[0]


def preferred(
    metric: str, baseline: str, variant: str, preferences: Sequence[float], *, contrasts: int = 1
) -> Verdict:  # fmt: skip
    """Return the verdict on preferences by case: over 0 for the variant, under 0 for the baseline, 0 for neither."""
    pairs = {str(number): (0.0, float((one > 0) - (one < 0))) for number, one in enumerate(preferences)}
    found = _compared(metric, baseline, variant, pairs, None, contrasts, True)
    return replace(found, in_points=True, test=None if found.test is None else "sign test")


def least_pairs(contrasts: int) -> int:
    """Return how many pairs could show a difference at all, were all of them to say the same."""
    return math.ceil(math.log2(2 * contrasts / ALPHA) - 1e-9)


def _binary(known: Verdict, contrasts: int) -> Verdict:
    count, wins, losses = known.n, known.wins, known.losses
    low, high = statistics.paired_rates(wins, losses, count)
    share = (wins + losses) / count - ((wins - losses) / count) ** 2
    deviation = math.sqrt(max(share, 0.0) * count / (count - 1))
    least = max(_detectable(deviation, count, contrasts), known.least / count)
    odds = wins / losses if losses else None
    return replace(
        known, low=low, high=high, p=statistics.mcnemar(wins, losses), test="McNemar exact",
        effect_name="odds ratio", effect=odds, detectable=min(1.0, least),
    )  # fmt: skip


def _detectable(deviation: float, units: int, contrasts: int) -> float:
    """Return the least difference that so many cases, or clusters, detect 8 times of 10, beside other contrasts."""
    found = statistics.detectable(deviation, units, 1 - ALPHA / contrasts, few=True)
    if units > least_pairs(contrasts):
        return found
    return max(found, deviation * statistics.normal_quantile(0.8 ** (1 / units)))  # they must all say the same


def _scored(
    known: Verdict, differences: list[float], clusters: list[Hashable] | None, contrasts: int
) -> Verdict:  # fmt: skip
    units = known.n if clusters is None else len(set(clusters))
    known = replace(known, units=units)
    if units < 2:
        return known
    many = statistics.paired_t if units > MANY else statistics.permutation
    test, spread = many(differences, clusters), statistics.standard_deviation(differences)
    apart = spread if clusters is None else statistics.clustered_error(differences, clusters) * math.sqrt(units)
    assert known.difference is not None
    interval = test.interval or Interval(*_hull(known, differences))
    return replace(
        known, low=interval.low, high=interval.high, p=test.p, test=test.name,
        seed=SEED if "draws" in test.name else None, effect_name="Cohen's d",
        effect=known.difference / spread if spread else None,
        detectable=_detectable(apart, units, contrasts) if apart else None,
    )  # fmt: skip


def _hull(known: Verdict, differences: list[float]) -> tuple[float, float]:
    """Return the widest interval that scores of 0 to 1 have, or what was seen: too few pairs bound no more."""
    return (-1.0, 1.0) if known.in_points else (min(differences), max(differences))


def adjusted(found: Sequence[Verdict]) -> list[Verdict]:
    """Return verdicts on one metric with their p adjusted for being several."""
    tested = [one for one in found if one.p is not None]
    ps = iter(statistics.holm([one.p for one in tested if one.p is not None]))
    return [one if one.p is None else _judged(one, next(ps)) for one in found]


def _judged(one: Verdict, p: float) -> Verdict:
    assert one.difference is not None
    word = NO_EVIDENCE if (one.n if one.units is None else one.units) >= one.least else NOT_ENOUGH
    if p < ALPHA and one.difference:
        word = BETTER if one.difference > 0 else WORSE
    return replace(one, p_adjusted=p, verdict=word)


# Words


def _sentence(one: Verdict) -> str:
    names = f"{one.variant} vs {one.baseline}"
    left_out = _left_out(one)
    if one.verdict in (BETTER, WORSE):
        assert one.difference is not None and one.low is not None and one.high is not None
        low, high = (one.low, one.high) if one.verdict == BETTER else (-one.high, -one.low)
        size = f"{_size(abs(one.difference), one)} (95% {_bare(low, one)} to {_bare(high, one)}"
        return f"{one.variant} is {one.verdict} than {one.baseline} by {size}, n={one.n:,}, {_p(one)}{left_out})"
    if one.verdict == NO_EVIDENCE:
        found = f"; could have detected {_size(one.detectable, one)}" if one.detectable else ""
        return f"No evidence of a difference: {names} (n={one.n:,}, {_p(one)}{found}{left_out})"
    if not one.n:
        return f"No evidence of a difference: {names} (n=0: no case has a score of both{left_out})"
    what = "cases" if one.units in (None, one.n) else "clusters"
    few = f"too few {what} to tell, at least {one.least:,} are needed"
    return f"No evidence of a difference: {names} (n={one.n:,}: {few}{left_out})"


def _left_out(one: Verdict) -> str:
    """Return what to say beside n: ties of votes, cases that are left out, or that have fewer repeats."""
    ties = f", {one.ties:,} ties" if one.test == "sign test" and one.ties else ""
    partial = f"; {one.partial:,} with fewer repeats" if one.partial else ""
    return f"{ties}{_missing(one)}{partial}"


def _missing(one: Verdict) -> str:
    if not one.missing:
        return ""
    errors = f"{one.errors:,} error{'' if one.errors == 1 else 's'}"
    why = [errors if one.errors else "", f"{one.not_run:,} not run" if one.not_run else ""]
    words = ", ".join(filter(None, why))
    return f"; {one.missing:,} left out{f': {words}' if words else ''}"


def _p(one: Verdict) -> str:
    p = one.p_adjusted if one.p_adjusted is not None else one.p
    return f"p{p_text(p)}" if p is not None else "p unknown"


def p_text(p: float) -> str:
    """Return a p for a person, with its sign: =0.04, <0.001."""
    if p < 0.001:
        return "<0.001"
    return f"={p:.3f}".rstrip("0") if p < 0.1 else f"={p:.2g}"


def _size(value: float | None, one: Verdict) -> str:
    return f"{_bare(value or 0.0, one)} points" if one.in_points else _bare(value or 0.0, one)


def _bare(value: float, one: Verdict) -> str:
    return f"{value * 100:.1f}" if one.in_points else f"{value:.3g}"
