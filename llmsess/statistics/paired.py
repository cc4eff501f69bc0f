"""Tests of paired answers: is the difference between two variants over the same cases more than chance?"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from llmsess.statistics.distributions import (
    binomial_cdf,
    binomial_probability,
    chi_square_tail,
    normal_two_sided,
    t_quantile,
    t_two_sided,
)
from llmsess.statistics.intervals import CONFIDENCE, Interval, clustered_error, mean, standard_error

SEED = 20_260_101
EXACT_UP_TO = 14  # pairs of which all 2^n changes of sign are tried
DRAWS = 10_000  # changes of sign that are drawn of more
_CHUNK = 8  # pairs whose partial sums are looked up together


class Test(NamedTuple):
    """What a test found: its name, the two-sided p, and the interval of the mean difference that fits it, if any."""

    name: str
    p: float
    interval: Interval | None = None


# Two answers that are right or wrong


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p of McNemar's test (1947); only pairs in which one is right count."""
    return min(1.0, 2 * binomial_cdf(min(gained, lost), gained + lost)) if gained + lost else 1.0


def mcnemar_mid_p(gained: int, lost: int) -> float:
    """Return the mid-p of McNemar's test, which is less careful than the exact one."""
    if gained == lost:
        return 1.0
    return mcnemar(gained, lost) - binomial_probability(min(gained, lost), gained + lost)


def mcnemar_chi_square(gained: int, lost: int) -> tuple[float, float]:
    """Return McNemar's chi-square with continuity correction, and its p; for many pairs."""
    if gained + lost == 0:
        return 0.0, 1.0
    value = max(abs(gained - lost) - 1, 0) ** 2 / (gained + lost)
    return value, chi_square_tail(value)


def sign(wins: int, losses: int) -> float:
    """Return the exact two-sided p of the sign test; ties are left out before."""
    return mcnemar(wins, losses)


# Scores


def paired_t(differences: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Test:
    """Return the t test of a mean difference, of two pairs or more; its error is that of clusters where there are some.

    Miller 2024, arXiv 2411.00640.
    """
    middle = mean(differences)
    if clusters is None:
        error, degrees, name = standard_error(differences), len(differences) - 1, "paired t"
    else:
        error, degrees = clustered_error(differences, clusters), len(set(clusters)) - 1
        name = f"paired t of {degrees + 1:,} clusters"
    if degrees < 1 or error == 0:
        return Test(name, 1.0 if middle == 0 or degrees < 1 else 0.0, Interval(middle, middle))
    reach = t_quantile((1 + CONFIDENCE) / 2, degrees) * error
    return Test(name, t_two_sided(middle / error, degrees), Interval(middle - reach, middle + reach))


def permutation(
    differences: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = SEED, draws: int = DRAWS
) -> Test:  # fmt: skip
    """Return the test that changes signs (Fisher), and the interval of the mean that it does not refuse.

    The pairs of a cluster change together. Up to 14 pairs, or clusters, every change of sign is tried, of more so many
    are drawn, p = (1 + #) / (1 + draws). A change of sign is the choice of a subset; the means of the subsets bound the
    interval (Hartigan 1969).
    """
    units = [(value, 1) for value in differences] if clusters is None else _by_cluster(differences, clusters)
    exact = len(units) <= EXACT_UP_TO
    total = math.fsum(value for value, _ in units)
    tolerance = 1e-12 * math.fsum(map(abs, differences))  # sums of the same numbers in another order
    sums, means = [], []
    alone = clusters is None
    for part, size in _all_subsets(units) if exact else _some_subsets(units, seed, draws, alone=alone):
        sums.append(abs(total - 2 * part) >= abs(total) - tolerance)
        if size:
            means.append(part / size)
    p = sum(sums) / len(sums) if exact else (1 + sum(sums)) / (1 + draws)
    of = "" if clusters is None else f" of {len(units):,} clusters"
    name = f"permutation{of} ({'exact' if exact else f'{draws:,} draws'})"
    return Test(name, p, _bounds(sorted(means), len(sums)))


def _by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> list[tuple[float, int]]:
    """Return the sum and the size of each cluster."""
    found: dict[Hashable, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        found.setdefault(cluster, []).append(value)
    return [(math.fsum(one), len(one)) for one in found.values()]


def _bounds(means: list[float], subsets: int) -> Interval | None:
    """Return the interval between the means of subsets, None where so few pairs bound nothing."""
    place = int((1 - CONFIDENCE) / 2 * (subsets + 1))
    return Interval(means[place - 1], means[-place]) if place >= 1 else None


def _all_subsets(units: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the sum and the size of every subset."""
    found = [(0.0, 0)]
    for value, weight in units:
        found += [(part + value, size + weight) for part, size in found]
    return found


def _some_subsets(
    units: Sequence[tuple[float, int]], seed: int, draws: int, *, alone: bool
) -> list[tuple[float, int]]:  # fmt: skip
    """Return the sum and the size of subsets that are drawn: each unit is in one of two, and `alone` of size 1."""
    chance = random.Random(seed)
    chunks = [_all_subsets(units[i : i + _CHUNK]) for i in range(0, len(units), _CHUNK)]
    sums, sizes = ([[pair[at] for pair in chunk] for chunk in chunks] for at in (0, 1))
    rest = (1 << (len(units) % _CHUNK or _CHUNK)) - 1  # of the last byte
    found = []
    for _ in range(draws):
        chosen = bytearray(chance.randbytes(len(chunks)))
        chosen[-1] &= rest
        part = sum([table[byte] for table, byte in zip(sums, chosen, strict=True)])
        size = sum([table[byte] for table, byte in zip(sizes, chosen, strict=True)]) if not alone else 0
        found.append((part, int(size) if not alone else int.from_bytes(chosen).bit_count()))
    return found


def wilcoxon(differences: Sequence[float], *, exact: bool | None = None) -> tuple[float, float]:
    """Return W and the two-sided p of Wilcoxon's signed-rank test (1945); zeros are dropped.

    It is exact up to 25 pairs without ties, else a normal approximation, corrected for ties and continuity.
    """
    kept = sorted((abs(value), value > 0) for value in differences if value != 0)
    count = len(kept)
    if not count:
        return 0.0, 1.0
    ranks, ties = _ranks([round(size, 12) for size, _ in kept])
    plus = math.fsum(rank for rank, (_, positive) in zip(ranks, kept, strict=True) if positive)
    smaller = min(plus, count * (count + 1) / 2 - plus)
    if exact if exact is not None else count <= 25 and not ties:
        return smaller, min(1.0, 2 * _signed_rank_cdf(int(smaller), count))
    middle = count * (count + 1) / 4
    variance = count * (count + 1) * (2 * count + 1) / 24 - ties / 48
    if variance <= 0:
        return smaller, 1.0
    return smaller, min(1.0, normal_two_sided(max(0.0, middle - smaller - 0.5) / math.sqrt(variance)))


def _ranks(ordered: Sequence[float]) -> tuple[list[float], float]:
    """Return the ranks of sorted values, those of equal ones shared, and the sum of t^3 - t over these."""
    ranks: list[float] = []
    ties = 0.0
    for _, group in itertools.groupby(ordered):
        size = len(list(group))
        ranks += [len(ranks) + (size + 1) / 2] * size
        ties += size**3 - size
    return ranks, ties


def _signed_rank_cdf(value: int, count: int) -> float:
    ways = [1] + [0] * (count * (count + 1) // 2)
    for rank in range(1, count + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return float(sum(ways[: value + 1]) / 2**count)


# Several tests


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values adjusted for being several, so that one false alarm at all stays rare (Holm 1979)."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for place, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Return p values adjusted so that the share of false alarms stays low (Benjamini and Hochberg 1995)."""
    adjusted, lowest = [0.0] * len(ps), 1.0
    for place, index in reversed(list(enumerate(sorted(range(len(ps)), key=lambda i: ps[i]), 1))):
        lowest = min(lowest, len(ps) * ps[index] / place)
        adjusted[index] = lowest
    return adjusted
