"""Jobs and items read back: by reference, in pages, in the order of the input."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from llmsess import door, listing
from llmsess.db import database
from llmsess.errors import InvalidInput, NotFound
from llmsess.models import BatchJob, parse_time
from llmsess.references import resolve
from llmsess.texts import one_line, whole

READ_AT_ONCE = 500
SHORTEST = 4  # characters of the beginning of a key that name an item
STATES = ("todo", "claimed", "sent", "done", "failed", "unknown", "cancelled", "skipped")
_job_status = door.one_of(("created", "running", "paused", "done", "failed", "cancelled"))
_state = door.one_of(STATES)


def get(reference: str | BatchJob) -> BatchJob:
    """Return the job of a uuid or its beginning, a name, or @last (the newest); raises NotFound, Ambiguous."""
    return resolve(BatchJob, reference, "batch", name=BatchJob.name, latest=BatchJob.created_at)


@dataclass(frozen=True)
class Jobs:
    """A page of jobs and the cursor of the next one, None at the end."""

    rows: list[BatchJob]
    cursor: str | None


def find(*, status: str | None = None, limit: int | None = 50, cursor: str | None = None) -> Jobs:
    """Return jobs, the newest first; raises InvalidInput for no cursor. No item is read."""
    chosen = None if status is None else _job_status(status, "status of a batch")
    ids, following = listing.newest_made("batch_jobs", chosen, limit, cursor)
    found = {job.id: job for job in BatchJob.select().where(BatchJob.id << ids)}
    return Jobs([found[row_id] for row_id in ids], following)


def count(status: str | None = None) -> int:
    """Return how many jobs there are, with a status, or of any."""
    return listing.count_with("batch_jobs", status)


@dataclass(frozen=True)
class Item:
    """An item of a job: its input, its state, and, once there is one, its session and its answer.

    `attempts` are requests sent; `cost` is nano-USD, None where no price is known; `session` and `message` are uuids.
    """

    key: str
    position: int
    status: str
    input: dict[str, Any]
    attempts: int
    error: str | None
    error_kind: str | None
    session: str | None
    message: str | None
    content: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cost: int | None
    latency_ms: int | None
    finish_reason: str | None
    message_id: int | None
    has_parts: bool
    answered_at: datetime | None
    http_status: int | None
    request_id: str | None


_FIELDS = [field.name for field in fields(Item)]
_ITEMS = f"""
    SELECT i.item_key, i.position, i.status, i.input, i.attempts, i.error, i.error_kind, s.uuid, m.uuid,
        CASE WHEN m.status = 'complete' THEN {whole("m", "content")} END,
        l.provider || '/' || l.model_name, m.input_tokens, m.output_tokens,
        iif(m.session_id = i.session_id, m.cost, 0), m.latency_ms, m.finish_reason, m.id,
        m.parts IS NOT NULL, m.completed_at,
        c.http_status, c.provider_request_id
    FROM batch_items i LEFT JOIN sessions s ON s.id = i.session_id LEFT JOIN messages m ON m.id = i.result_id
    LEFT JOIN models l ON l.id = m.model_id
    LEFT JOIN calls c ON c.id = (SELECT max(id) FROM calls WHERE message_id = m.id)
    WHERE i.job_id = ? AND i.position > ? {{wheres}} ORDER BY i.position LIMIT ?
"""


def stream_items(
    job: str | BatchJob, *, status: str | None = None, kinds: Iterable[str] = (), after: int = -1
) -> Iterator[Item]:
    """Yield items of a job in the order of the input, read a few hundred at a time; raises NotFound, InvalidInput."""
    found = get(job)
    wheres, values = "", []
    if status is not None:
        wheres += " AND i.status = ?"
        values.append(_state(status, "status of an item"))
    condition, chosen = any_of("i.error_kind", kinds)
    wheres, values = f"{wheres} AND {condition}", [*values, *chosen]
    return _stream(found.id, _ITEMS.format(wheres=wheres), values, after)


def any_of(column: str, values: Iterable[str]) -> tuple[str, list[str]]:
    """Return the SQL condition that a column has one of these values, of none that it may have any, and the values."""
    chosen = [door.text(value, column) for value in door.words(values)]
    return (f"{column} IN ({', '.join('?' * len(chosen))})", chosen) if chosen else ("1", [])


def _stream(job_id: int, sql: str, values: list[Any], after: int) -> Iterator[Item]:
    while rows := database.execute_sql(sql, (job_id, after, *values, READ_AT_ONCE)).fetchall():
        for row in rows:
            values_of = dict(zip(_FIELDS, row, strict=True))
            at = values_of["answered_at"]
            yield Item(
                **values_of | {"input": json.loads(row[3] or "{}"), "answered_at": parse_time(at) if at else None}
            )
        after = rows[-1][1]


@dataclass(frozen=True)
class Page:
    """A page of items and the cursor of the next one, None at the end."""

    rows: list[Item]
    cursor: str | None


def items(
    job: str | BatchJob, *, status: str | None = None, kinds: Iterable[str] = (), limit: int | None = 50,
    cursor: str | None = None,
) -> Page:  # fmt: skip
    """Return items of a job in the order of the input; raises NotFound, InvalidInput."""
    after = -1 if cursor is None else _place(door.text(cursor, "a cursor"))
    if limit is not None and door.count(limit, "limit") < 1:
        raise InvalidInput("a page has one item at least")
    rows: list[Item] = []
    for one in stream_items(job, status=status, kinds=kinds, after=after):
        if limit is not None and len(rows) == limit:
            return Page(rows, str(rows[-1].position))
        rows.append(one)
    return Page(rows, None)


def _place(cursor: str) -> int:
    if not cursor.isdecimal() or len(cursor) > 15:
        raise InvalidInput(f'"{cursor}" is no cursor', hint="take it from the end of the page before")
    return int(cursor)


def item(job: str | BatchJob, key: str) -> Item:
    """Return the item of a key, or of its beginning where only one has it; raises NotFound."""
    found = get(job)
    sql = (
        "SELECT position FROM batch_items WHERE job_id = ? AND item_key >= ? AND item_key < ? ORDER BY item_key LIMIT 2"
    )
    wanted = door.text(key, "a key")
    rows = database.execute_sql(sql, (found.id, wanted, wanted + "\U0010ffff")).fetchall()
    exact = database.execute_sql(
        "SELECT position FROM batch_items WHERE job_id = ? AND item_key = ?", (found.id, wanted)
    ).fetchone()
    place = exact or (rows[0] if len(rows) == 1 and len(wanted) >= SHORTEST else None)
    if place is None:
        raise NotFound("item", one_line(wanted, 60), hint=f"llmsess batch show {found.name}")
    return next(stream_items(found, after=place[0] - 1))
