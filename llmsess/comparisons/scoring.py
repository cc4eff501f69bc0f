"""Scores: every answer held against the assertions of its case, now or later, as often as one likes, without new calls.

What a model judges is asked for once: the judge's batch has an item for each question that was put, so that scoring
again reads the answers that are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from llmsess import batches, crashpoints, routing
from llmsess.comparisons import prompting, viewing
from llmsess.comparisons.cases import Case
from llmsess.comparisons.promptfoo_variants import model_of
from llmsess.comparisons.scheduling import JOB, grown, job_named, withdraw_others
from llmsess.comparisons.viewing import ANSWERED, Cell
from llmsess.db import database
from llmsess.models import NANO, ComparisonGroup, dump_json, now, time_text
from llmsess.routing import Options
from llmsess.rows import update_row
from llmsess.scorers import Answer, NotRun, Unscored
from llmsess.scorers import assertions as asserting
from llmsess.scorers.assertions import Assertion, Outcome
from llmsess.texts import clean, one_line, whole

JUDGE_JOB = "judge/{}"  # the name of the batch of a comparison's questions to judges
WRITTEN_AT_ONCE = 200
OnItem = Callable[[Any], object]


@dataclass(frozen=True)
class Scored:
    """What scoring came to: answers, and assertions by how they ended; `asked` are questions put to judges now."""

    answers: int
    scored: int
    errors: int
    not_run: int
    asked: int = 0
    judging: batches.RunReport | None = None


class Measured(NamedTuple):
    """The outcome of an assertion of a cell: its place among the case's, and what it counts."""

    position: str
    assertion: Assertion
    outcome: Outcome
    weight: float


def score(
    reference: str | ComparisonGroup, *, new: Iterable[Any] | None = None, python: bool = False,
    judge: str | None = None, retry: bool = False, on_item: OnItem | None = None, **callbacks: Any,
) -> Scored:  # fmt: skip
    """Hold every answer against its assertions and return how that went; `new` replaces those that hold for all cases.

    `python` lets a person's own functions run, `retry` asks judges again where they gave no verdict. `on_item` and the
    other callbacks are those of `batches.run()`, for the questions to judges, which `judge` (a model) answers. Raises
    InvalidInput, NotFound.
    """
    group = viewing.get(reference)
    changed: dict[str, Any] = {}
    if new is not None:
        changed["assertions"] = [asserting.parse(one).as_json() for one in new] or None
    if judge is not None:
        changed["judge"] = judge
    if changed:
        update_row(ComparisonGroup, group.id, **changed)
        group = viewing.get(group.uuid)
    asked, report = _ask(group, retry, on_item, callbacks)
    reader = _reader(group)
    counts = dict.fromkeys(("scored", "error", "not_run"), 0)
    answers = 0
    rounds = _answers(group)
    while chunk := list(islice(rounds, WRITTEN_AT_ONCE)):
        measured = [
            (cell, case, list(_measured(checks, answer, python, reader))) for cell, case, checks, answer in chunk
        ]
        with database.atomic():
            for cell, case, outcomes in measured:
                _write(cell, case, outcomes)
            crashpoints.reach("comparison.scoring")
        answers += len(chunk)
        for _, _, outcomes in measured:
            for one in outcomes:
                counts[one.outcome.status] += 1
    crashpoints.reach("comparison.scored")
    return Scored(answers, counts["scored"], counts["error"], counts["not_run"], asked, report)


def _answers(group: ComparisonGroup) -> Iterator[tuple[Cell, Case, list[Assertion], Answer]]:
    """Yield each answer with its case and what is to hold."""
    shared = viewing.group_assertions(group)
    known = {case.key: case for case in viewing.cases_of(group)}
    for cell in viewing.stream_cells(group, results=False):
        if cell.status == ANSWERED:
            case = known[cell.case]
            values = prompting.resolved(case.variables) if group.lenient else case.variables
            answer = viewing.answer_of(cell, values, nunjucks=group.lenient)
            yield cell, case, [*shared, *case.assertions], answer


Reader = Callable[[Assertion, str], str]


def _measured(checks: list[Assertion], answer: Answer, python: bool, judge: Reader) -> Iterator[Measured]:
    """Yield what comes of each assertion, and of the parts of a set that are metrics of their own."""
    for number, one in enumerate(checks):
        outcome = asserting.measure(one, answer, python=python, judge=judge)
        yield Measured(str(number), one, outcome, one.weight)
        for place, part in enumerate(one.parts):
            if part.metric is not None:
                told = asserting.measure(part, answer, python=python, judge=judge)
                yield Measured(f"{number}.{place}", part, told, 0.0)


_INSERT = """
    INSERT INTO comparison_results (comparison_session_id, metric, scorer, score, passed, reason, error, evaluated_at,
    position, outcome, weight) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


def _write(cell: Cell, case: Case, measured: list[Measured]) -> None:
    """Store the scores of a cell in the place of those before, and what they come to."""
    run = database.execute_sql
    run("DELETE FROM comparison_results WHERE comparison_session_id = ?", (cell.id,))
    moment = time_text(now())
    for position, one, outcome, weight in measured:
        why = None if outcome.reason is None else clean(outcome.reason)
        reason, error = (why, None) if outcome.status == "scored" else (None, why)
        passed = None if outcome.passed is None else int(outcome.passed)
        fields = (
            one.name,
            one.full_type,
            outcome.score,
            passed,
            reason,
            error,
            moment,
            position,
            outcome.status,
            weight,
        )
        run(_INSERT, (cell.id, *fields))
    score, passed = total(measured, case.threshold)
    sql = "UPDATE comparison_sessions SET score = ?, passed = ? WHERE id = ?"
    run(sql, (score, None if passed is None else int(passed), cell.id))


def total(measured: list[Measured], threshold: float | None) -> tuple[float | None, bool | None]:
    """Return the weighted mean of scores, and whether the answer passes: None where what could not be run decides.

    All that counts must pass, or, with a threshold, the mean must reach it.
    """
    counting = [one for one in measured if one.weight > 0]
    ran = [one for one in counting if one.outcome.status == "scored"]
    score = asserting.weighted([(one.outcome.score, one.weight) for one in ran])
    whole = len(ran) == len(counting) > 0
    if threshold is not None:
        return score, score >= threshold - 1e-12 if whole and score is not None else None
    if any(one.outcome.passed is False for one in ran):
        return score, False
    return score, True if whole else None


# Judges


def _ask(
    group: ComparisonGroup, retry: bool, on_item: OnItem | None, callbacks: Mapping[str, Any]
) -> tuple[int, batches.RunReport | None]:  # fmt: skip
    """Put the questions to judges that were not put before; return how many, and how that ended."""
    if not any(True for one in _all(group) for _ in asserting.judged(one)):
        return 0, None
    again: list[str] = []
    return put(group, _questions(group, again if retry else None), on_item, callbacks, again)


def _all(group: ComparisonGroup) -> Iterator[Assertion]:
    yield from viewing.group_assertions(group)
    for case in viewing.cases_of(group):
        yield from case.assertions


def _questions(group: ComparisonGroup, again: list[str] | None) -> Iterator[tuple[str, str]]:
    """Yield the model and the prompt of each question to a judge; note the keys of those that got no verdict."""
    found: list[tuple[str, str]] = []
    read = _reader(group) if again is not None else None

    def noting(assertion: Assertion, prompt: str) -> str:
        found.append((judge_of(group, assertion), prompt))
        if read is None:
            raise NotRun("to be asked")
        return read(assertion, prompt)

    for _, _, checks, answer in _answers(group):
        for one in checks:
            for part in asserting.judged(one):
                found.clear()
                outcome = asserting.measure(part, answer, judge=noting)
                yield from found
                if again is not None and outcome.status == "error":
                    again += [question_key(*question) for question in found]


def judge_of(group: ComparisonGroup, assertion: Assertion | None = None) -> str:
    """Return the reference of the model that judges: the assertion's, the comparison's, else the default one."""
    own = assertion.options.get("provider") if assertion is not None else None
    if isinstance(own, Mapping):
        own = own.get("id")
    if isinstance(own, str) and ":" in own and "/" not in own.partition(":")[0]:
        own = model_of(own)
    chosen = own or group.judge
    return str(chosen) if chosen else str(routing.choose_model(None, Options()))


def put(
    group: ComparisonGroup, questions: Iterable[tuple[str, str]], on_item: OnItem | None, callbacks: Mapping[str, Any],
    again: Iterable[str] = (),
) -> tuple[int, batches.RunReport | None]:  # fmt: skip
    """Have questions (model, prompt) answered, each once; return how many are new, and how that ended.

    `again` are keys of questions that are put once more. Questions that are open and put no more are withdrawn.
    """
    rows = {question_key(model, prompt): (model, prompt) for model, prompt in questions}
    if not rows:
        return 0, None
    listed = [{"custom_id": key, "model": model, "prompt": prompt} for key, (model, prompt) in rows.items()]
    limits, spent = _limits_left(group)
    job, new = grown(JUDGE_JOB.format(group.name), lambda: listed, **limits)
    with database.atomic():
        update_row(ComparisonGroup, group.id, judge_job_id=job.id)
        database.execute_sql(_AGAIN, (job.id, dump_json(list(again))))
        withdraw_others(job, list(rows))  # what an earlier rubric asked
    job = batches.get(job.uuid)
    if spent:
        state = batches.status_of(job)
        return new, batches.RunReport("paused", state, 0, "the budget has nothing left for judges")
    open_ = job.total_items - sum(getattr(job, state) for state in ("done", "failed", "cancelled", "skipped"))
    return new, batches.run(job, on_item, **callbacks) if open_ else None


_AGAIN = """
    UPDATE batch_items SET status = 'todo' WHERE job_id = ? AND status IN ('done', 'failed')
    AND item_key IN (SELECT value FROM json_each(?))
"""


def _limits_left(group: ComparisonGroup) -> tuple[dict[str, Any], bool]:
    """Return the limits of a comparison's batch as those of its judge's, and whether a budget has nothing left.

    What its answers have left of a budget is for the judges; 0 takes a limit away, as it does of any batch.
    """
    asks = job_named(JOB.format(group.name))
    if asks is None:
        return {}, False
    found: dict[str, Any] = {name: getattr(asks, name) or 0 for name in ("rpm", "tpm")}
    found |= {name: getattr(asks, name) for name in ("concurrency", "retries", "allow_unpriced")}
    left = {
        name: None if cap is None else cap - spent
        for name, cap, spent in (
            ("budget_usd", asks.budget, asks.spent_cost), ("budget_tokens", asks.budget_tokens, asks.spent_tokens),
            ("budget_requests", asks.budget_requests, asks.calls),
        )
    }  # fmt: skip
    for name, rest in left.items():
        found[name] = max(rest or 0, 0) if name != "budget_usd" else Decimal(max(rest or 0, 0)) / NANO
    return found, any(rest is not None and rest <= 0 for rest in left.values())


def question_key(model: str, prompt: str) -> str:
    """Return the key of a question: what is asked of whom."""
    return hashlib.sha256(f"{model}\n{prompt}".encode(errors="replace")).hexdigest()[:32]


_SAID = f"""
    SELECT i.item_key, i.status, i.error, CASE WHEN m.status = 'complete' THEN {whole("m", "content")} END
    FROM batch_items i LEFT JOIN messages m ON m.id = i.result_id WHERE i.job_id = ?
"""
Replies = Mapping[str, tuple[str, str | None, str | None]]  # question: status, error, what the judge said


def replies(group: ComparisonGroup) -> Replies:
    """Return what judges have said to the questions of a comparison."""
    job = job_named(JUDGE_JOB.format(group.name))
    rows = database.execute_sql(_SAID, (job.id,)).fetchall() if job is not None else ()
    return {key: (status, error, said) for key, status, error, said in rows}


def said(found: Replies, model: str, prompt: str) -> str:
    """Return what a judge said to a question; raises NotRun where it was not asked, Unscored for no answer."""
    status, error, words = found.get(question_key(model, prompt), ("todo", None, None))
    if status in ("todo", "claimed", "sent"):
        raise NotRun(f"{model} was not asked")
    if words is None:
        raise Unscored(f"{model} gave no answer: {one_line(error or 'it is gone', 200)}")
    return words


def _reader(group: ComparisonGroup) -> Reader:
    found = replies(group)

    def read(assertion: Assertion, prompt: str) -> str:
        return said(found, judge_of(group, assertion), prompt)

    return read
