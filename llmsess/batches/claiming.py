"""Who works on which item: claims by one statement, leases, and what a process that is gone has left.

A claimed item is held by a process (`lease_owner`) until it lets go; the lease matters where the owner is on another
host, or stopped. What a lost process had claimed is free again; what it had sent is `unknown`, for the answer is lost
and may have been billed, or, where the job says resend, `todo`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmsess import crashpoints, owners
from llmsess.db import database
from llmsess.models import BatchJob, Message, parse_time, time_text
from llmsess.recovering import interrupt

LOST = "the process ended before the answer came"


@dataclass
class Item:
    """An item that this process holds; `reply` is its row while an attempt has no end."""

    id: int
    key: str
    position: int
    row: dict[str, Any]
    attempts: int
    session_id: int | None
    result_id: int | None
    reply: Message | None = None


COLUMNS = "id, item_key, position, input, attempts, session_id, result_id"  # that `item_of()` reads
_CLAIM = f"""
    UPDATE batch_items SET status = 'claimed', lease_owner = ?, lease_expires_at = ? WHERE id IN (
        SELECT id FROM batch_items WHERE job_id = ? AND status = 'todo' ORDER BY position LIMIT ?
    ) RETURNING {COLUMNS}
"""


def item_of(row: Sequence[Any]) -> Item:
    """Return the item of a row that begins with COLUMNS."""
    return Item(row[0], row[1], row[2], json.loads(row[3] or "{}"), *row[4:7])


def claim(job_id: int, count: int) -> list[Item]:
    """Claim the next items of a job and return them, inside a transaction."""
    values = (owners.me(), time_text(owners.lease()), job_id, count)
    rows = sorted(database.execute_sql(_CLAIM, values).fetchall(), key=lambda row: row[2])
    return [item_of(row) for row in rows]


def claimed(job_id: int) -> set[int]:
    """Return the inner ids of the items of a job that this process has claimed still."""
    sql = "SELECT id FROM batch_items WHERE job_id = ? AND status = 'claimed' AND lease_owner = ?"
    return {row[0] for row in database.execute_sql(sql, (job_id, owners.me())).fetchall()}


_FREE = "status = 'todo', lease_owner = NULL, lease_expires_at = NULL"


def release(items: Sequence[Item]) -> None:
    """Give claimed items back, inside a transaction."""
    sql = f"UPDATE batch_items SET {_FREE} WHERE id = ? AND status = 'claimed' AND lease_owner = ?"
    for item in items:
        database.execute_sql(sql, (item.id, owners.me()))


def renew(job_id: int) -> None:
    """Renew the leases of what this process holds of a job, and of the replies that it waits for."""
    until, me = time_text(owners.lease()), owners.me()
    with database.atomic():
        database.execute_sql(
            "UPDATE batch_items SET lease_expires_at = ? WHERE job_id = ? AND status IN ('claimed', 'sent') "
            "AND lease_owner = ?",
            (until, job_id, me),
        )
        database.execute_sql("UPDATE messages SET lease_expires_at = ? WHERE owner = ?", (until, me))


_OWNERS = """
    SELECT lease_owner, min(lease_expires_at) FROM batch_items
    WHERE job_id = ? AND status IN ('claimed', 'sent') AND lease_owner IS NOT NULL GROUP BY lease_owner
"""
_SENT = """
    SELECT i.id, m.id, m.status FROM batch_items i LEFT JOIN messages m ON m.id = i.result_id
    WHERE i.job_id = ? AND i.status = 'sent' AND i.lease_owner = ?
"""


_ADOPT = """
    UPDATE batch_items SET status = 'done', error = NULL, error_kind = NULL WHERE job_id = ? AND status = 'unknown'
    AND result_id IN (SELECT id FROM messages WHERE status = 'complete')
"""  # replies that lay in side files


def take_over(job: BatchJob, *, mine: bool = False) -> int:
    """Free what lost processes held of a job, with `mine` what this one left in an earlier run; return how many."""
    freed = 0
    if job.unknown:
        database.execute_sql(_ADOPT, (job.id,))
    for owner, expires in database.execute_sql(_OWNERS, (job.id,)).fetchall():
        lost = mine if owner == owners.me() else owners.has_let_go(owner, parse_time(expires) if expires else None)
        if lost:
            with database.atomic():
                freed += _free(job, owner)
    return freed


def _free(job: BatchJob, owner: str) -> int:
    run = database.execute_sql
    sent = run(_SENT, (job.id, owner)).fetchall()
    for item_id, message_id, status in sent:
        if status in ("pending", "streaming"):
            interrupt(message_id, owner)
        _lose_call(message_id)
        lose(job.on_unknown, item_id, answered=status == "complete")
    crashpoints.reach("batch.recovering")
    sql = f"UPDATE batch_items SET {_FREE} WHERE job_id = ? AND status = 'claimed' AND lease_owner = ?"
    return len(sent) + int(run(sql, (job.id, owner)).rowcount)


def lose_sent(job: BatchJob, items: Sequence[Item]) -> None:
    """Give up attempts whose answers have not come, inside a transaction: they may have been billed."""
    sql = "SELECT 1 FROM batch_items WHERE id = ? AND attempts = ? AND status = 'sent' AND lease_owner = ?"
    for item in items:  # one whose attempt could not be written is not among them
        if database.execute_sql(sql, (item.id, item.attempts, owners.me())).fetchone() is not None:
            _lose_call(item.result_id)
            lose(job.on_unknown, item.id)


def _lose_call(message_id: int | None) -> None:
    database.execute_sql(
        "UPDATE calls SET outcome = 'unknown' WHERE message_id = ? AND outcome = 'sent'", (message_id,)
    )


def lose(on_unknown: str, item_id: int, *, answered: bool = False) -> None:
    """Settle an item whose answer is lost, unless its reply was stored another way."""
    status = "done" if answered else "todo" if on_unknown == "resend" else "unknown"
    database.execute_sql(
        "UPDATE batch_items SET status = ?, error = ?, error_kind = ?, lease_owner = NULL, lease_expires_at = NULL "
        "WHERE id = ?",
        (status, *((LOST, "lost") if status == "unknown" else (None, None)), item_id),
    )


def is_held(job_id: int, *, besides: str = "") -> bool:
    """Return whether any process, or any but that owner, holds an item of a job."""
    sql = "SELECT 1 FROM batch_items WHERE job_id = ? AND status IN ('claimed', 'sent') AND lease_owner <> ? LIMIT 1"
    return database.execute_sql(sql, (job_id, besides)).fetchone() is not None  # NULL is no other either
