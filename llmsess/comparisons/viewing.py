"""Comparisons, their variants, cases and cells, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llmsess import door, listing
from llmsess.comparisons.cases import EXPECTED, Case, default_prompt
from llmsess.comparisons.specs import Variant
from llmsess.db import database
from llmsess.errors import NotFound
from llmsess.models import ComparisonCase, ComparisonGroup, ComparisonVariant, usd
from llmsess.references import resolve
from llmsess.scorers import Answer
from llmsess.scorers.assertions import Assertion, parse
from llmsess.texts import one_line, whole
from llmsess.writing import blocks, message_by_id

READ_AT_ONCE = 500
_status = door.one_of(("created", "running", "paused", "done", "failed", "cancelled"))
ANSWERED, FAILED = "answered", "failed"
_STATES = {"done": ANSWERED, "failed": FAILED, "unknown": FAILED, "cancelled": FAILED, "skipped": FAILED}


def get(reference: str | ComparisonGroup) -> ComparisonGroup:
    """Return the comparison of a uuid or its beginning, a name, or @last (the newest); raises NotFound, Ambiguous."""
    latest = ComparisonGroup.created_at
    return resolve(ComparisonGroup, reference, "comparison", name=ComparisonGroup.name, latest=latest)


@dataclass(frozen=True)
class Groups:
    """A page of comparisons and the cursor of the next one, None at the end."""

    rows: list[dict[str, Any]]
    cursor: str | None


_LISTED = """
    SELECT g.uuid, g.name, g.status, g.created_at,
        (SELECT count(*) FROM comparison_variants v WHERE v.group_id = g.id),
        (SELECT count(*) FROM comparison_cases c WHERE c.group_id = g.id),
        (SELECT count(*) FROM comparison_sessions s WHERE s.group_id = g.id),
        (SELECT count(message_id) FROM comparison_sessions s WHERE s.group_id = g.id),
        coalesce(j.spent_cost, 0) + coalesce(k.spent_cost, 0), coalesce(j.unpriced, 0) + coalesce(k.unpriced, 0)
    FROM comparison_groups g LEFT JOIN batch_jobs j ON j.id = g.batch_job_id
    LEFT JOIN batch_jobs k ON k.id = g.judge_job_id WHERE g.id = ?
"""


def find(*, status: str | None = None, limit: int | None = 50, cursor: str | None = None) -> Groups:
    """Return comparisons, the newest first, each with id, name, status, created_at and counts.

    `cost` is nano-USD of its answers and its judges. Raises InvalidInput.
    """
    chosen = None if status is None else _status(status, "status of a comparison")
    ids, following = listing.newest_made("comparison_groups", chosen, limit, cursor)
    names = ("id", "name", "status", "created_at", "variants", "cases", "cells", "answered", "cost", "unpriced")
    rows = [dict(zip(names, database.execute_sql(_LISTED, (one,)).fetchone(), strict=True)) for one in ids]
    return Groups(rows, following)


def count(status: str | None = None) -> int:
    """Return how many comparisons there are, with a status, or of any."""
    return listing.count_with("comparison_groups", status)


# What is compared, and over what


def variants_of(group: ComparisonGroup) -> list[Variant]:
    """Return the variants in the order of the definition."""
    rows = ComparisonVariant.select().where(ComparisonVariant.group == group.id).order_by(ComparisonVariant.position)
    return [Variant(row.name, row.model, row.prompt, row.system_prompt, row.parameters or {}) for row in rows]


def baseline_of(group: ComparisonGroup, names: list[str]) -> str | None:
    """Return the variant that the others are compared with: the one that was named, else the first."""
    return group.baseline if group.baseline in names else names[0] if names else None


def cases_of(group: ComparisonGroup) -> list[Case]:
    """Return the cases in the order of the definition."""
    rows = ComparisonCase.select().where(ComparisonCase.group == group.id).order_by(ComparisonCase.position)
    return [
        Case(
            row.variables or {}, row.messages, tuple(map(_assertion, row.assertions or ())), row.description,
            row.threshold, row.metadata or {}, row.position + 1, row.case_key,
        )
        for row in rows
    ]  # fmt: skip


def case_of(group: ComparisonGroup, key: str) -> Case:
    """Return the case of a key, of its beginning, or of its number from 1; raises NotFound."""
    wanted = door.text(key, "a case").strip()
    found = [
        one for one in cases_of(group) if (len(wanted) >= 4 and one.key.startswith(wanted)) or str(one.line) == wanted
    ]
    if len(found) != 1:
        raise NotFound("case", one_line(wanted, 40), hint=f'llmsess compare show "{group.name}" --cases lists them')
    return found[0]


def group_assertions(group: ComparisonGroup) -> list[Assertion]:
    """Return the assertions that hold for every case."""
    return [_assertion(one) for one in group.assertions or ()]


def _assertion(given: Mapping[str, Any]) -> Assertion:
    return parse(given, lenient=True)  # a scorer of a package that is gone


def title_of(case: Case) -> str:
    """Return what a case is called: a person's words, else what it asks."""
    if case.description:
        return one_line(case.description, 1000)
    asked = default_prompt(case)
    if isinstance(asked, str):
        return one_line(asked, 1000)
    if isinstance(asked, list):
        return one_line(str(asked[-1].get("content", "")), 1000)
    shown = [f"{value}" for name, value in case.variables.items() if not name.startswith("_") and name not in EXPECTED]
    return one_line(" · ".join(shown), 1000) or "(the prompt alone)"


# Cells


@dataclass(frozen=True)
class Result:
    """One score of a cell, as it is stored; `outcome` is scored, error or not_run."""

    metric: str
    scorer: str
    position: str
    outcome: str
    score: float | None
    passed: bool | None
    reason: str | None
    weight: float


@dataclass
class Cell:
    """One answer: which variant, case and repeat, how it stands, what it says, what it took.

    `status` is answered, failed or waiting; `cost` is nano-USD, None where no price is known; `asked` is the prompt.
    """

    id: int
    variant: str
    case: str
    repeat: int
    status: str
    error: str | None
    session: str | None
    message_id: int | None
    content: str | None
    model: str | None
    finish_reason: str | None
    latency_ms: int | None
    cost: int | None
    input_tokens: int | None
    output_tokens: int | None
    has_parts: bool
    score: float | None
    passed: bool | None
    asked: str = ""
    results: list[Result] = field(default_factory=list)

    @property
    def cost_usd(self) -> Decimal | None:
        """Return what the answer cost, None where no price is known."""
        return usd(self.cost)


_CELLS = """
    SELECT c.id, c.variant, c.case_key, c.repeat, i.status, i.error_kind, i.error, s.uuid, m.id,
        {content}, l.provider || '/' || l.model_name, m.finish_reason, m.latency_ms, m.cost,
        m.input_tokens, m.output_tokens, m.parts IS NOT NULL, c.score, c.passed, m.status,
        v.model IS NOT NULL AND c.session_id IS NULL AND c.message_id IS NULL, {asked}
    FROM comparison_sessions c LEFT JOIN batch_items i ON i.id = c.item_id
    LEFT JOIN comparison_variants v ON v.group_id = c.group_id AND v.name = c.variant
    LEFT JOIN messages m ON m.id = CASE WHEN i.status = 'done' THEN i.result_id ELSE c.message_id END
    LEFT JOIN sessions s ON s.id = coalesce(i.session_id, c.session_id)
    LEFT JOIN models l ON l.id = m.model_id LEFT JOIN messages p ON p.id = m.parent_id
    WHERE c.group_id = ? AND c.id > ? {wheres} ORDER BY c.id LIMIT ?
"""
_CONTENT, _ASKED = whole("m", "content"), f"substr({whole('p', 'content')}, 1, 100000)"
_RESULTS = """
    SELECT comparison_session_id, metric, scorer, position, outcome, score, passed, coalesce(reason, error), weight
    FROM comparison_results WHERE comparison_session_id IN (SELECT value FROM json_each(?)) ORDER BY id
"""


def stream_cells(
    group: ComparisonGroup, *, case: str | None = None, texts: bool = True, results: bool = True
) -> Iterator[Cell]:  # fmt: skip
    """Yield the cells of a comparison, or of one of its cases, read a few hundred at a time."""
    wheres, values = (" AND c.case_key = ?", [case]) if case is not None else ("", [])
    content, asked = (_CONTENT, _ASKED) if texts else ("NULL", "''")
    sql, after = _CELLS.format(content=content, asked=asked, wheres=wheres), 0
    while rows := database.execute_sql(sql, (group.id, after, *values, READ_AT_ONCE)).fetchall():
        cells = [_cell(row) for row in rows]
        if results:
            _add_results(cells)
        yield from cells
        after = cells[-1].id


def _cell(row: Any) -> Cell:
    number, variant, case, repeat, state, kind, error, session, message = row[:9]
    *figures, passed, stored, unasked, asked = row[9:]
    status = "waiting" if state is None and unasked else _STATES.get(state or "done", "waiting")
    if message is not None and stored == "complete":
        status = ANSWERED
    elif status == ANSWERED:
        status, kind, error = FAILED, None, "the answer was deleted"
    why = None if status == ANSWERED else f"{kind}: {error}" if kind and error else error
    decided = None if passed is None else bool(passed)
    return Cell(*(number, variant, case, repeat, status, why, session, message, *figures, decided, asked or ""))


def _add_results(cells: list[Cell]) -> None:
    known = {cell.id: cell for cell in cells}
    for number, *fields in database.execute_sql(_RESULTS, (json.dumps(list(known)),)).fetchall():
        metric, scorer, position, outcome, score, passed, reason, weight = fields
        said = None if passed is None else bool(passed)
        known[number].results.append(Result(metric, scorer, position, outcome, score, said, reason, weight))


def answer_of(cell: Cell, variables: Mapping[str, Any], *, nunjucks: bool = False) -> Answer:
    """Return a cell's answer as scorers see it."""
    return Answer(
        cell.content or "", variables, cell.asked, cell.model, cell.finish_reason, cell.latency_ms,
        cell.cost_usd, cell.input_tokens, cell.output_tokens, _calls(cell.message_id) if cell.has_parts else (),
        nunjucks,
    )  # fmt: skip


def _calls(message_id: int | None) -> list[dict[str, Any]]:
    """Return the calls of tools of a message."""
    found = blocks(message_by_id(message_id)) if message_id is not None else None
    return [block for block in found or () if isinstance(block, dict) and block.get("type") == "tool_use"]
