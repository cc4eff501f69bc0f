"""Taking snapshots away: one by one, or by a rule. What only they kept of deleted sessions goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmsess import door, marking, sessions
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import Session, SessionSnapshot, dump_json, time_text

PRUNED_TYPES = ("checkpoint", "auto_save", "pre_restore")  # unless types are named: what a person made stays
_CHOSEN = """
    WITH chosen AS (
        SELECT id, session_id, created_at, row_number() OVER (
            PARTITION BY session_id ORDER BY created_at DESC, id DESC
        ) AS place FROM session_snapshots WHERE snapshot_type IN (SELECT value FROM json_each(:types)) {session}
    ) SELECT id FROM chosen WHERE place > :keep {before} ORDER BY id
"""
_ELSEWHERE = """
    SELECT 1 FROM json_each(?) w JOIN session_snapshots p ON p.id = w.value
    JOIN messages m ON m.id = p.head_id WHERE m.session_id <> p.session_id LIMIT 1
"""  # only a head that another session wrote can be what keeps a deleted session's messages


@dataclass(frozen=True)
class Removal:
    """Which snapshots go, by inner id, of how many sessions, and how many messages of deleted sessions go with them."""

    snapshots: list[int]
    sessions: int
    messages: int


def delete(snapshots: str | SessionSnapshot | Iterable[str | SessionSnapshot], *, dry_run: bool = False) -> Removal:
    """Delete snapshots and say what went; a dry run only says. Raises NotFound, Ambiguous."""
    with database.atomic() as transaction:
        given = [snapshots] if isinstance(snapshots, (str, SessionSnapshot)) else snapshots
        removal = remove(list(dict.fromkeys(map(marking.id_of, given))))
        if dry_run:
            transaction.rollback()
    return removal


def prune(
    session: str | Session | None = None, *, before: datetime | None = None, types: Iterable[str] = (),
    keep: int | None = None, dry_run: bool = False,
) -> Removal:  # fmt: skip
    """Delete the snapshots (of one session) that a rule lets go, and say what went; a dry run only says.

    Those go that were made before a time, are of these types (default: all but manual ones), and are not among the
    newest `keep` of their session. Raises InvalidInput where no rule is given.
    """
    if before is None and keep is None and not types:
        raise InvalidInput("no rule says which snapshots go", hint="--older-than 30d, --keep 10, --type auto_save")
    kinds = [door.snapshot_type(kind, "type of snapshot") for kind in door.words(types)] or list(PRUNED_TYPES)
    values: dict[str, Any] = {"types": dump_json(kinds), "keep": 0 if keep is None else door.count(keep, "keep")}
    if session is not None:
        values["session"] = sessions.id_of(session)
    if before is not None:
        values["before"] = time_text(door.moment(before, "before"))
    sql = _CHOSEN.format(
        session="AND session_id = :session" if "session" in values else "",
        before="AND created_at < :before" if "before" in values else "",
    )
    with database.atomic() as transaction:
        removal = remove([row[0] for row in database.execute_sql(sql, values).fetchall()])
        if dry_run:
            transaction.rollback()
    return removal


def remove(ids: list[int]) -> Removal:
    """Delete the snapshots of these inner ids, inside a transaction."""
    chosen = dump_json(ids)
    of = "SELECT count(DISTINCT session_id) FROM session_snapshots WHERE id IN (SELECT value FROM json_each(?))"
    touched = int(database.execute_sql(of, (chosen,)).fetchone()[0])
    is_keeper = database.execute_sql(_ELSEWHERE, (chosen,)).fetchone() is not None
    database.execute_sql("DELETE FROM session_snapshots WHERE id IN (SELECT value FROM json_each(?))", (chosen,))
    return Removal(ids, touched, sessions.collect_unreached() if is_keeper else 0)
