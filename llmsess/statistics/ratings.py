"""Ratings from pairwise judgements (Bradley-Terry, Elo), and how far judges agree (kappa, alpha)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from llmsess.statistics.distributions import normal_quantile
from llmsess.statistics.intervals import CONFIDENCE, Interval

SCALE, MIDDLE = 400 / math.log(10), 1000.0  # a rating 400 higher wins ten times as often
_STEPS = 100_000


@dataclass(frozen=True)
class Ratings:
    """Ratings of players in the order given; none, and not `connected`, where wins do not bound them.

    An interval is None where all games were ties.
    """

    strengths: list[float]
    ratings: list[float]
    intervals: list[Interval | None]
    connected: bool


def connected(wins: Sequence[Sequence[float]]) -> bool:
    """Return whether each player can be reached from each other by wins: else some rating has no bound."""
    count = len(wins)

    def reached(beats: Sequence[Sequence[float]]) -> int:
        seen, todo = {0}, [0]
        while todo:
            at = todo.pop()
            new = {other for other in range(count) if beats[at][other] > 0} - seen
            seen |= new
            todo += new
        return len(seen)

    turned = [[wins[j][i] for j in range(count)] for i in range(count)]
    return count > 1 and reached(wins) == count == reached(turned)


Game = tuple[int, int, float]  # i and j have met; the score of i: 1, 0, or something between for a tie


def wins_of(games: Iterable[Game], players: int) -> list[list[float]]:
    """Return how often each beat each, a tie as half a win of both."""
    wins = [[0.0] * players for _ in range(players)]
    for i, j, score in games:
        wins[i][j] += score
        wins[j][i] += 1 - score
    return wins


def bradley_terry(wins: Sequence[Sequence[float]], games: Sequence[Sequence[Game]] | None = None) -> Ratings:
    """Return ratings by the likelihood of who beat whom how often (`wins[i][j]`: i beat j; a tie is half a win each).

    Strengths have a geometric mean of 1, ratings one of 1000. Intervals are the sandwich estimator's, as in
    arena-rank; with `games`, the same in groups that are independent of each other (the games over one case), its
    middle is summed by group. Bradley and Terry 1952; the steps are Hunter's (2004).
    """
    count = len(wins)
    if not connected(wins):
        return Ratings([], [], [None] * count, connected=False)
    won = [math.fsum(row) for row in wins]
    met = [[wins[i][j] + wins[j][i] for j in range(count)] for i in range(count)]
    strengths = [1.0] * count
    for _ in range(_STEPS):
        new = [
            won[i] / math.fsum(met[i][j] / (strengths[i] + strengths[j]) for j in range(count) if met[i][j])
            for i in range(count)
        ]
        scale = math.exp(math.fsum(map(math.log, new)) / count)
        new = [one / scale for one in new]
        moved = max(abs(math.log(a / b)) for a, b in zip(new, strengths, strict=True))
        strengths = new
        if moved < 1e-13:
            break
    errors = _errors(wins, strengths, games if games is not None else list(_alone(wins)))
    ratings = [MIDDLE + SCALE * math.log(one) for one in strengths]
    z = normal_quantile((1 + CONFIDENCE) / 2) * SCALE
    bounds = [
        Interval(at - z * error, at + z * error) if error > 1e-9 else None  # ties alone bound nothing
        for at, error in zip(ratings, errors, strict=True)
    ]
    return Ratings(strengths, ratings, bounds, connected=True)


def _alone(wins: Sequence[Sequence[float]]) -> Iterable[Sequence[Game]]:
    """Yield counted wins as games, each independent of the others; what is left over of a whole one counts as that."""
    for i, j in permutations(range(len(wins)), 2):
        yield from [[(i, j, 1.0)]] * math.ceil(wins[i][j])


def _errors(
    wins: Sequence[Sequence[float]], strengths: Sequence[float], games: Sequence[Sequence[Game]]
) -> list[float]:  # fmt: skip
    """Return the standard errors of the logarithms of strengths that sum to 0, by the sandwich H^-1 V H^-1.

    H is made invertible by 1/n in each place: what sums to 0 it leaves as it is.
    """
    count = len(strengths)
    bread = [[1 / count] * count for _ in range(count)]
    meat = [[0.0] * count for _ in range(count)]
    for i, j in permutations(range(count), 2):
        chance = strengths[i] / (strengths[i] + strengths[j])
        for at, of, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            bread[at][of] += sign * wins[i][j] * chance * (1 - chance)
    for group in games:
        misses = [0.0] * count  # the gradient of the group's likelihood
        for i, j, score in group:
            miss = score - strengths[i] / (strengths[i] + strengths[j])
            misses[i] += miss
            misses[j] -= miss
        for at, of in product(range(count), repeat=2):
            meat[at][of] += misses[at] * misses[of]
    inverse = _inverse(bread)
    half = _product(inverse, meat)
    return [math.sqrt(max(_product(half, inverse)[i][i], 0.0)) for i in range(count)]


def _product(left: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    turned = list(zip(*right, strict=True))
    return [[math.fsum(a * b for a, b in zip(row, column, strict=True)) for column in turned] for row in left]


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Return the inverse of a small matrix, by elimination."""
    count = len(matrix)
    rows = [list(row) + [float(i == j) for j in range(count)] for i, row in enumerate(matrix)]
    for at in range(count):
        pivot = max(range(at, count), key=lambda i: abs(rows[i][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for other in range(count):
            if other != at and rows[other][at]:
                factor = rows[other][at]
                rows[other] = [a - factor * b for a, b in zip(rows[other], rows[at], strict=True)]
    return [row[count:] for row in rows]


def elo(games: Iterable[tuple[int, int, float]], players: int, k: float = 4.0) -> list[float]:
    """Return Elo ratings after games (i, j, score of i) in the order given, on which they depend."""
    ratings = [MIDDLE] * players
    for i, j, score in games:
        step = k * (score - 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
        ratings[i] += step
        ratings[j] -= step
    return ratings


# Agreement


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return how far two judges of the same things agree beyond chance; None where chance alone makes them agree."""
    count = len(first)
    if not count or len(second) != count:
        return None
    same = sum(a == b for a, b in zip(first, second, strict=True)) / count
    one, other = Counter(first), Counter(second)
    chance = sum(one[label] * other[label] for label in one) / count**2
    return None if chance == 1 else (same - chance) / (1 - chance)


def krippendorff_alpha(judged: Iterable[Sequence[float | str]], level: str = "nominal") -> float | None:
    """Return how far any number of judges agree; each item has the values it was given, by one judge or more.

    `level` is nominal or interval. None where nothing was judged twice, or all judged the same.
    """
    weights: dict[tuple[float | str, float | str], float] = {}
    for values in judged:
        if len(values) < 2:
            continue
        for a, b in permutations(range(len(values)), 2):
            pair = (values[a], values[b])
            weights[pair] = weights.get(pair, 0.0) + 1 / (len(values) - 1)
    totals: dict[float | str, float] = {}
    for (value, _), weight in weights.items():
        totals[value] = totals.get(value, 0.0) + weight
    count = math.fsum(totals.values())

    def apart(a: float | str, b: float | str) -> float:
        return float(a != b) if level == "nominal" else (float(a) - float(b)) ** 2

    expected = math.fsum(totals[a] * totals[b] * apart(a, b) for a in totals for b in totals)
    if count < 2 or expected == 0:
        return None
    observed = math.fsum(weight * apart(a, b) for (a, b), weight in weights.items())
    return 1 - (count - 1) * observed / expected
