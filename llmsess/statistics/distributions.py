"""Probabilities and quantiles of the normal, Student's t, chi-square (one degree) and binomial distributions."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_SMALL = 1e-300
_STEPS = 500


def normal_quantile(probability: float) -> float:
    """Return the z below which that share of a standard normal lies."""
    return _NORMAL.inv_cdf(probability)


def normal_two_sided(z: float) -> float:
    """Return the chance of a standard normal at least that far from 0."""
    return math.erfc(abs(z) / math.sqrt(2))


def chi_square_tail(value: float) -> float:
    """Return the chance of a chi-square of one degree of freedom of at least that value."""
    return math.erfc(math.sqrt(max(value, 0.0) / 2))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function, by its continued fraction (Lentz's way of summing it)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1 / _far(1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, _STEPS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _far(1 + numerator * d)
            c = _far(1 + numerator / c)
            total *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return min(1.0, front * total / a)


def _far(value: float) -> float:
    """Return a divisor that is not 0."""
    return value if abs(value) > _SMALL else _SMALL


def t_two_sided(t: float, degrees: float) -> float:
    """Return the chance of Student's t at least that far from 0."""
    return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: float) -> float:
    """Return the t below which that share of Student's distribution lies, for a probability over one half."""
    low, high = 0.0, 1.0
    while t_two_sided(high, degrees) / 2 > 1 - probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if t_two_sided(middle, degrees) / 2 > 1 - probability:
            low = middle
        else:
            high = middle
        if high - low < 1e-13 * high:
            break
    return (low + high) / 2


def binomial_probability(successes: int, trials: int) -> float:
    """Return the chance of that many heads of a fair coin."""
    if trials < 1000:
        return float(math.comb(trials, successes) / 2**trials)
    logarithm = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    return math.exp(logarithm - trials * math.log(2))


def binomial_cdf(successes: int, trials: int) -> float:
    """Return the chance of at most that many heads of a fair coin."""
    if successes >= trials:
        return 1.0
    if trials < 1000:
        return float(sum(math.comb(trials, k) for k in range(successes + 1)) / 2**trials)
    return incomplete_beta(trials - successes, successes + 1, 0.5)
