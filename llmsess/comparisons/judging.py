"""Pairwise judgements: which of two answers to a case is better, by a model in both orders, or by a person, blind.

Each judgement is a vote that keeps what was shown first. A model is asked twice, the second time in the other order;
where it then prefers another answer, that pair counts as a tie, and the position-bias rate says how often that was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from llmsess import batches, crashpoints, door, routing
from llmsess.comparisons import scoring, viewing
from llmsess.comparisons.cases import Case
from llmsess.comparisons.viewing import ANSWERED, Cell
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import ComparisonGroup, ComparisonVote, now
from llmsess.rows import insert_row
from llmsess.scorers import NotRun, Unscored
from llmsess.scorers.judges import ask_pair, object_of, read_pair
from llmsess.texts import clean, one_line

WINNERS = ("a", "b", "tie", "both_bad")
ORDERS = ("a", "b")


@dataclass(frozen=True)
class Pair:
    """Two answers to the same repeat of a case; `first` is which is shown first, a or b."""

    case: Case
    a: Cell
    b: Cell
    first: str = "a"

    @property
    def repeat(self) -> int:
        """Return which repeat of the case it is."""
        return self.a.repeat

    def shown(self) -> tuple[str, str]:
        """Return the two answers in the order in which they are shown."""
        texts = self.a.content or "", self.b.content or ""
        return texts if self.first == "a" else (texts[1], texts[0])

    def winner(self, shown: str) -> str:
        """Return who has won, a or b, by who was better of those shown, first or second; others stay."""
        return {"first": self.first, "second": "b" if self.first == "a" else "a"}.get(shown, shown)


def pairs(group: ComparisonGroup, *, everyone: bool = False) -> Iterator[Pair]:
    """Yield the pairs of answers to compare: each variant with the baseline, or everyone with everyone.

    Equal answers are left out: nobody can prefer one of them.
    """
    names = [variant.name for variant in viewing.variants_of(group)]
    base = viewing.baseline_of(group, names)
    known = {case.key: case for case in viewing.cases_of(group)}
    waiting: dict[tuple[str, int], dict[str, Cell]] = {}
    for cell in viewing.stream_cells(group, results=False):
        if cell.status == ANSWERED:
            waiting.setdefault((cell.case, cell.repeat), {})[cell.variant] = cell
    for (key, _), cells in waiting.items():
        chosen = combinations(names, 2) if everyone else ((base, name) for name in names if name != base)
        for a, b in chosen:
            if a in cells and b in cells and cells[a].content != cells[b].content:
                yield Pair(known[key], cells[a], cells[b])


# Votes


@dataclass(frozen=True)
class Judged:
    """What judges came to: questions put now, pairs, and answers that were no verdict, with some of the reasons."""

    asked: int
    pairs: int
    unread: int
    problems: tuple[str, ...]
    judging: batches.RunReport | None


def judge(
    reference: str | ComparisonGroup, *, model: str | None = None, criteria: str | None = None, everyone: bool = False,
    retry: bool = False, on_item: scoring.OnItem | None = None, **callbacks: Any,
) -> Judged:  # fmt: skip
    """Have a model say which of two answers is better, each pair in both orders, and keep its votes.

    The same call again puts no question twice. Votes of that model on a pair are replaced by new ones, where both
    orders have a verdict; `retry` asks again where the model gave none. Raises InvalidInput, NotFound.
    """
    group = viewing.get(reference)
    chosen = routing.callable_model(model or scoring.judge_of(group)).reference
    found = [[replace(pair, first=order) for order in ORDERS] for pair in pairs(group, everyone=everyone)]
    questions = [(chosen, _question(shown, criteria)) for both in found for shown in both]
    again = _without_verdict(scoring.replies(group), questions) if retry else []
    asked, report = scoring.put(group, questions, on_item, callbacks, again)
    replies, problems = scoring.replies(group), []
    read: list[list[tuple[Pair, str, str | None]]] = []
    for both in found:
        judged = []
        for shown in both:
            try:
                judged.append((shown, *_verdict(scoring.said(replies, chosen, _question(shown, criteria)))))
            except (Unscored, NotRun) as why:
                problems.append(str(why))
        read += [judged] if len(judged) == len(both) else []
    with database.atomic():
        for judged in read:
            _replace(group, judged, chosen)
        crashpoints.reach("comparison.voting")
    return Judged(asked, len(found), len(problems), tuple(dict.fromkeys(problems))[:5], report)


def _without_verdict(replies: scoring.Replies, questions: list[tuple[str, str]]) -> list[str]:
    """Return the keys of the questions to which there is an answer, or a failure, and no verdict."""
    found = []
    for model, prompt in questions:
        try:
            _verdict(scoring.said(replies, model, prompt))
        except NotRun:
            continue
        except Unscored:
            found.append(scoring.question_key(model, prompt))
    return found


def _question(shown: Pair, criteria: str | None) -> str:
    return ask_pair(asked_of(shown), *shown.shown(), criteria)


def _verdict(words: str) -> tuple[str, str | None]:
    """Return who is better of the two that were shown, and why; raises Unscored."""
    return read_pair(words), str(object_of(words, "winner").get("reason") or "") or None


_FORMER = """
    DELETE FROM comparison_votes WHERE group_id = ? AND voter = ? AND voter_kind = 'llm' AND case_key = ?
    AND repeat = ? AND variant_a = ? AND variant_b = ?
"""


def _replace(group: ComparisonGroup, judged: list[tuple[Pair, str, str | None]], voter: str) -> None:
    """Keep a model's votes on a pair, in both orders, in the place of those before."""
    pair, other = judged[0][0], None
    database.execute_sql(
        _FORMER, (group.id, voter, pair.case.key, pair.repeat, pair.a.variant, pair.b.variant)
    )  # fmt: skip
    for shown, better, reason in judged:
        vote = cast(group, shown, shown.winner(better), voter, kind="llm", reason=reason, swapped=other)
        other = other or vote


def asked_of(pair: Pair) -> str:
    """Return what was asked, where both were asked the same, else what the case is."""
    prompts = {pair.a.asked, pair.b.asked}
    return prompts.pop() if len(prompts) == 1 else viewing.title_of(pair.case)


def cast(
    group: ComparisonGroup, pair: Pair, winner: str, voter: str, *, kind: str = "human", reason: str | None = None,
    swapped: int | None = None,
) -> int:  # fmt: skip
    """Keep a judgement of a pair and return its inner id; raises InvalidInput."""
    if winner not in WINNERS:
        raise InvalidInput(f'"{one_line(str(winner), 40)}" is no winner', hint=", ".join(WINNERS))
    sessions = dict(database.execute_sql(
        "SELECT id, session_id FROM comparison_sessions WHERE id IN (?, ?)", (pair.a.id, pair.b.id)
    ).fetchall())  # fmt: skip
    return insert_row(
        ComparisonVote, group_id=group.id, case_key=pair.case.key, session_a_id=sessions[pair.a.id],
        session_b_id=sessions[pair.b.id], shown_first=pair.first, winner=winner, voter=door.text(voter, "a voter"),
        voter_kind=kind, swapped_pair_id=swapped, variant_a=pair.a.variant, variant_b=pair.b.variant,
        repeat=pair.repeat, reason=None if reason is None else clean(one_line(reason, 1000)), created_at=now(),
    )  # fmt: skip


_CURRENT = """EXISTS (
    SELECT 1 FROM comparison_sessions c WHERE c.group_id = v.group_id AND c.session_id = v.session_{0}_id
)"""  # a vote is on answers that still are those of their cells
_OF_NOW = f"{_CURRENT.format('a')} AND {_CURRENT.format('b')}"
_VOTED = f"""
    SELECT case_key, repeat, variant_a, variant_b FROM comparison_votes v
    WHERE group_id = ? AND voter = ? AND voter_kind = 'human' AND {_OF_NOW}
"""


def to_vote(group: ComparisonGroup, voter: str, *, everyone: bool = False, seed: int | None = None) -> list[Pair]:
    """Return the pairs that a person has not judged yet, in random order, and each with a random one first."""
    done = {tuple(row) for row in database.execute_sql(_VOTED, (group.id, voter)).fetchall()}
    chance = random.Random(seed)
    left = [
        pair for pair in pairs(group, everyone=everyone)
        if (pair.case.key, pair.repeat, pair.a.variant, pair.b.variant) not in done
    ]  # fmt: skip
    chance.shuffle(left)
    return [Pair(pair.case, pair.a, pair.b, chance.choice(ORDERS)) for pair in left]


def undo(group: ComparisonGroup, voter: str) -> Mapping[str, Any] | None:
    """Take back a person's last vote and return it, None where there is none."""
    with database.atomic():
        query = ComparisonVote.select().where(
            (ComparisonVote.group == group.id)
            & (ComparisonVote.voter == voter)
            & (ComparisonVote.voter_kind == "human")
        )
        vote = query.order_by(ComparisonVote.id.desc()).first()
        if vote is None:
            return None
        vote.delete_instance()
    return {"case": vote.case_key, "repeat": vote.repeat, "winner": vote.winner}


@dataclass(frozen=True)
class Vote:
    """A judgement read back: who compared which variants over which case, what was shown first, and who won."""

    case: str
    repeat: int
    a: str
    b: str
    first: str
    winner: str
    voter: str
    kind: str
    id: int
    swapped: int | None


_VOTES = f"""
    SELECT case_key, repeat, variant_a, variant_b, shown_first, winner, voter, voter_kind, id, swapped_pair_id
    FROM comparison_votes v WHERE group_id = ? AND variant_a IS NOT NULL AND variant_b IS NOT NULL AND {_OF_NOW}
    ORDER BY id
"""


def votes(group: ComparisonGroup) -> list[Vote]:
    """Return the judgements of a comparison in the order in which they were made."""
    return [Vote(*row) for row in database.execute_sql(_VOTES, (group.id,)).fetchall()]
