"""What votes come to: the sign test over cases, Bradley-Terry ratings, position bias, agreement.

A judgement is one vote of a person, or the two of a model that saw both orders; where these disagree it is a tie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from llmsess import statistics
from llmsess.comparisons import verdicts
from llmsess.comparisons.judging import Vote
from llmsess.comparisons.verdicts import Verdict
from llmsess.statistics import Interval
from llmsess.statistics.ratings import Game

METRIC_OF_VOTES = {"human": "votes", "llm": "judge"}


@dataclass(frozen=True)
class Ballot:
    """What votes of one kind (human, llm) came to; `bias` is the share of pairs judged in both orders that changed."""

    kind: str
    votes: int
    pairs: int
    ties: int
    both_bad: int
    voters: tuple[str, ...]
    bias: float | None
    first: float | None
    agreement: float | None
    connected: bool
    ratings: Mapping[str, tuple[float, Interval | None]]


def judgements(votes: list[Vote]) -> list[list[Vote]]:
    """Return the votes by judgement: one of a person, or the two of a model that saw both orders."""
    found: dict[int, list[Vote]] = {}
    for vote in votes:
        found.setdefault(vote.swapped or vote.id, []).append(vote)
    return list(found.values())


def winner_of(judgement: list[Vote]) -> str | None:
    """Return the variant that a judgement prefers, None for neither: where two orders disagree it is a tie."""
    winners = {{"a": vote.a, "b": vote.b}.get(vote.winner) for vote in judgement}
    return winners.pop() if len(winners) == 1 else None


def verdicts_of(votes: list[Vote], base: str | None, names: list[str]) -> list[Verdict]:
    """Return the verdicts of people's votes and of models' judgements, each variant against the baseline."""
    found: list[Verdict] = []
    for kind, metric in METRIC_OF_VOTES.items():
        judged = [one for one in judgements([vote for vote in votes if vote.kind == kind]) if _whole(one, kind)]
        contrasts = [
            name for name in names if name != base and any({base, name} == {one[0].a, one[0].b} for one in judged)
        ]
        of_metric = []
        for name in contrasts:
            by_case: dict[str, list[float]] = defaultdict(list)
            for one in judged:
                if {base, name} == {one[0].a, one[0].b}:
                    won = winner_of(one)
                    by_case[one[0].case].append(0.0 if won is None else 1.0 if won == name else -1.0)
            assert base is not None
            sums = [sum(values) for values in by_case.values()]
            of_metric.append(verdicts.preferred(metric, base, name, sums, contrasts=len(contrasts)))
        found += verdicts.adjusted(of_metric)
    return found


def _whole(judgement: list[Vote], kind: str) -> bool:
    """Return whether a judgement counts: that of a model has both orders."""
    return kind == "human" or len(judgement) == 2


def ballots(votes: list[Vote], names: list[str]) -> Iterable[Ballot]:
    """Yield what the votes of people, and the judgements of models, came to, where there are any."""
    for kind in METRIC_OF_VOTES:
        cast = [vote for vote in votes if vote.kind == kind]
        if not cast:
            continue
        judged = [one for one in judgements(cast) if _whole(one, kind)]
        swapped = [one for one in judged if len(one) == 2]
        turned = [one for one in swapped if one[0].winner != one[1].winner]
        decided = [vote for vote in cast if vote.winner in ("a", "b")]
        games = _games(judged, names)
        wins = statistics.wins_of([game for group in games for game in group], len(names))
        ratings = statistics.bradley_terry(wins, games)
        rated = dict(zip(names, zip(ratings.ratings, ratings.intervals, strict=True), strict=True)) if (
            ratings.connected
        ) else {}  # fmt: skip
        yield Ballot(
            kind, len(cast), len(judged), sum(winner_of(one) is None for one in judged),
            sum(vote.winner == "both_bad" for vote in cast), tuple(sorted({vote.voter for vote in cast})),
            len(turned) / len(swapped) if swapped else None,
            sum(vote.winner == vote.first for vote in decided) / len(decided) if decided else None,
            _agreement(judged), ratings.connected, rated,
        )  # fmt: skip


def _games(judged: list[list[Vote]], names: list[str]) -> list[list[Game]]:
    """Return who met whom over each case, and with what score: one game a pair, however often it was judged."""
    place = {name: number for number, name in enumerate(names)}
    scores: dict[str, dict[tuple[int, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in judged:
        if {one[0].a, one[0].b} <= place.keys():
            first, second = sorted((one[0].a, one[0].b), key=place.__getitem__)
            won = winner_of(one)
            scores[one[0].case][place[first], place[second]].append(0.5 if won is None else float(won == first))
    return [[(*pair, statistics.mean(values)) for pair, values in case.items()] for case in scores.values()]


def _agreement(judged: list[list[Vote]]) -> float | None:
    """Return Krippendorff's alpha of judges of the same pairs."""
    found: dict[Hashable, list[float | str]] = defaultdict(list)
    for one in judged:
        vote = one[0]
        found[vote.case, vote.repeat, *sorted((vote.a, vote.b))].append(winner_of(one) or "tie")
    return statistics.krippendorff_alpha(found.values())
