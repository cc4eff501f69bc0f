"""Intervals: of a rate, a mean, the difference of two paired rates, anything by bootstrap; and what n could detect."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import NamedTuple

from llmsess.statistics.distributions import normal_quantile, t_quantile

CONFIDENCE = 0.95
DRAWS = 2_000  # of a bootstrap
POWER = 0.8


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return math.fsum(values) / len(values)


def standard_deviation(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample (n - 1), 0 for one value."""
    if len(values) < 2:
        return 0.0
    middle = mean(values)
    spread = math.sqrt(math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1))
    return spread if spread > 1e-12 * max(1.0, abs(middle)) else 0.0  # rounding alone is no spread


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return standard_deviation(values) / math.sqrt(len(values))


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Return the standard error of a mean of values that come in clusters, with the correction G/(G-1).

    Miller 2024, arXiv 2411.00640.
    """
    middle, sums = mean(values), defaultdict[Hashable, float](float)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += value - middle
    count = len(sums)
    if count < 2:
        return 0.0
    error = math.sqrt(count / (count - 1) * math.fsum(one * one for one in sums.values())) / len(values)
    return error if error > 1e-12 * max(1.0, abs(middle)) else 0.0


def wilson(successes: float, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's interval of a rate (1927), of at least one trial; it holds for few, and near 0 or 1."""
    z = normal_quantile((1 + confidence) / 2)
    rate, share = successes / trials, z * z / trials
    middle = rate + share / 2
    reach = z * math.sqrt(max(rate * (1 - rate), 0.0) / trials + share / (4 * trials))
    return Interval(max(0.0, (middle - reach) / (1 + share)), min(1.0, (middle + reach) / (1 + share)))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the t interval of a mean, of at least two values."""
    middle = mean(values)
    reach = t_quantile((1 + confidence) / 2, len(values) - 1) * standard_error(values)
    return Interval(middle - reach, middle + reach)


def score_interval(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Interval | None:  # fmt: skip
    """Return the interval of a mean of scores, None where too few say anything of the spread.

    Wilson's where all are 0 or 1, or all the same within 0 and 1 (no score of that range varies more than a rate
    does); else the t interval, kept within 0 and 1 where the scores are. With clusters the t interval by their error.
    """
    bounded = all(0 <= value <= 1 for value in values)
    if clusters is not None:
        error, degrees = clustered_error(values, clusters), len(set(clusters)) - 1
        if degrees < 1 or error == 0:
            return None
        reach = t_quantile((1 + confidence) / 2, degrees) * error
        low, high = mean(values) - reach, mean(values) + reach
        return Interval(max(0.0, low), min(1.0, high)) if bounded else Interval(low, high)
    spread = standard_deviation(values)
    if bounded and (spread == 0 or all(value in (0, 1) for value in values)):
        return wilson(math.fsum(values), len(values), confidence)
    if len(values) < 2:
        return None
    low, high = mean_interval(values, confidence)
    return Interval(max(0.0, low), min(1.0, high)) if bounded else Interval(low, high)


def paired_rates(gained: float, lost: float, pairs: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Tango's score interval (1998) of the difference of two paired rates.

    `gained` pairs have the second alone right, `lost` the first alone. Where McNemar's test finds a difference the
    interval leaves 0 out.
    """
    z = normal_quantile((1 + confidence) / 2)
    estimate = (gained - lost) / pairs

    def score(difference: float) -> float:
        b = -gained - lost + (2 * pairs - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        other = (math.sqrt(max(b * b - 8 * pairs * c, 0.0)) - b) / (4 * pairs)
        spread = pairs * (2 * other + difference * (1 - difference))
        return (gained - lost - pairs * difference) / math.sqrt(spread) if spread > 1e-15 else math.inf

    low = estimate if estimate <= -1 else _root(lambda at: score(at) - z, -1.0, estimate)
    high = estimate if estimate >= 1 else _root(lambda at: score(at) + z, estimate, 1.0)
    return Interval(low, high)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function crosses 0."""
    for _ in range(100):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that at least that share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle value, the mean of the two in the middle of an even number."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def bootstrap(
    values: Sequence[float], statistic: Callable[[Sequence[float]], float], *, seed: int, draws: int = DRAWS,
    clusters: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE,
) -> Interval:  # fmt: skip
    """Return the percentile interval of a statistic of cases that are drawn again with replacement (Efron 1979).

    The cases of a cluster are drawn together.
    """
    chance = random.Random(seed)
    if clusters is None:
        drawn = sorted(statistic(chance.choices(values, k=len(values))) for _ in range(draws))
    else:
        grouped = defaultdict[Hashable, list[float]](list)
        for value, cluster in zip(values, clusters, strict=True):
            grouped[cluster].append(value)
        groups = list(grouped.values())
        drawn = sorted(statistic([*chain.from_iterable(chance.choices(groups, k=len(groups)))]) for _ in range(draws))
    tail = (1 - confidence) / 2
    return Interval(drawn[int(tail * draws)], drawn[min(draws - 1, math.ceil((1 - tail) * draws) - 1)])


def detectable(
    deviation: float, pairs: int, confidence: float = CONFIDENCE, power: float = POWER, *, few: bool = False
) -> float:  # fmt: skip
    """Return the least difference that so many pairs detect with that power; `deviation` is that of the differences.

    Miller 2024, arXiv 2411.00640. With `few` the quantiles are Student's, which holds for few pairs too.
    """
    if few and pairs > 1:
        reach = t_quantile((1 + confidence) / 2, pairs - 1) + t_quantile(power, pairs - 1)
        return reach * deviation / math.sqrt(pairs)
    return _reach(confidence, power) * deviation / math.sqrt(pairs)


def needed(deviation: float, difference: float, confidence: float = CONFIDENCE, power: float = POWER) -> int:
    """Return how many pairs detect a difference with that power."""
    return math.ceil((_reach(confidence, power) * deviation / difference) ** 2)


def _reach(confidence: float, power: float) -> float:
    return normal_quantile((1 + confidence) / 2) + normal_quantile(power)
