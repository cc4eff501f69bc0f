"""Snapshots as rows of llmsess' own format: written with all settings of then, entered with those that still differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmsess import door, marking, sessions, writing
from llmsess.db import database
from llmsess.dumping import DAMAGED, columns, row_of
from llmsess.errors import DamagedConversation, InvalidInput
from llmsess.importers.reading import number_or_none
from llmsess.models import SessionSnapshot
from llmsess.rowchecks import checked
from llmsess.rows import insert_row

Row = dict[str, Any]
_OF = "SELECT p.id FROM session_snapshots p WHERE p.session_id = ? ORDER BY p.created_at, p.uuid"
_ROW = f"""
    SELECT {", ".join(f"p.{name}" for name in columns(SessionSnapshot))}, s.uuid AS session, m.uuid AS head,
        m.external_id AS head_external_id
    FROM session_snapshots p JOIN sessions s ON s.id = p.session_id LEFT JOIN messages m ON m.id = p.head_id
    WHERE p.id = ?
"""
_HEAD = "SELECT id FROM messages WHERE uuid = :uuid OR (session_id = :session AND external_id = :external_id)"
_TAKEN = "SELECT 1 FROM session_snapshots WHERE session_id = ? AND name = ?"
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "model": door.text,
    "system_prompt": door.text,
    "temperature": lambda value, name: number_or_none(value),
    "max_tokens": door.count,
    "parameters": door.json_object,
}


def rows(session_ids: Sequence[int], masked: Callable[[Any], Any]) -> Iterator[Row]:
    """Yield the snapshots of sessions, in the order of their making; what people wrote is masked."""
    for session_id in session_ids:
        for (row_id,) in database.execute_sql(_OF, (session_id,)).fetchall():
            try:
                snapshot = marking.by_id(row_id)
                then = marking.settings(snapshot)
                writing.check_head(snapshot.head_id)
                row = row_of(SessionSnapshot, database.execute_sql(_ROW, (row_id,)))
            except (DamagedConversation, ValueError, TypeError):
                yield DAMAGED
                continue
            settings = {name: value for name, value in then.items() if value is not None}
            yield ({"type": "snapshot"} | masked(row) | {"settings": masked(settings)})


def enter(values: Row, session_id: int) -> str:
    """Make the snapshot of a row, for a session of ours, unless it is there; return what became of it.

    Raises InvalidInput for what a snapshot cannot be, or where its message is not there.
    """
    given = checked(SessionSnapshot, values)
    door.snapshot_type(given.setdefault("snapshot_type", "manual"), "type of snapshot")
    there = database.execute_sql("SELECT 1 FROM session_snapshots WHERE uuid = ?", (given["uuid"],)).fetchone()
    if there is not None:
        return "duplicate"
    head = _head(values, session_id)
    given["name"] = _free_name(given.get("name"), given["uuid"], session_id)
    state = _state(values.get("settings"), session_id)
    insert_row(SessionSnapshot, **given, session_id=session_id, head_id=head, session_state=state)
    return "imported"


def _free_name(name: str | None, uuid: str, session_id: int) -> str | None:
    """Return the name of a row, or one like it where another snapshot has it; None where nobody could type it."""
    try:
        label = marking.label_of(name)
    except InvalidInput:
        return None
    wanted = (label, f"{label} ({uuid[:8]})", f"{label} ({uuid})", None)
    return next(one for one in wanted if one is None or not database.execute_sql(_TAKEN, (session_id, one)).fetchone())


def _head(values: Row, session_id: int) -> int | None:
    """Return the inner id of the tagged message, None for a snapshot of nothing."""
    if values.get("head") is None:
        return None
    named = {"uuid": door.text(values["head"], "head"), "session": session_id, "external_id": None}
    if isinstance(values.get("head_external_id"), str):
        named["external_id"] = values["head_external_id"]
    row = database.execute_sql(_HEAD, named).fetchone()
    if row is None:
        raise InvalidInput("the message of a snapshot is not there")
    return int(row[0])


def _state(given: Any, session_id: int) -> Row | None:
    """Return those settings of a row that are not the session's now."""
    told = given if isinstance(given, dict) else {}
    wanted = {name: None if told.get(name) is None else check(told[name], name) for name, check in _CHECKS.items()}
    present = marking.settings_of(sessions.by_id(session_id))
    return {name: value for name, value in wanted.items() if value != present[name]} or None
