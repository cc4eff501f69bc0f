"""The tree that a session is a branch of, with the sessions that share messages with it, as runs between forks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llmsess import sessions
from llmsess.db import database
from llmsess.models import Message, Session, SessionSnapshot
from llmsess.rows import readable
from llmsess.writing import SELECT, read


@dataclass
class Branch:
    """A run of messages without a fork, and what comes after it.

    `heads` are the sessions whose head is its last message, `marks` the snapshots of it; `main` is whether the asked
    session's path runs through.
    """

    messages: list[Message]
    heads: list[Session]
    marks: list[SessionSnapshot]
    main: bool
    children: list[Branch] = field(default_factory=list)


IDS_AT_ONCE = 10_000  # SQLite takes 32,766 values in a statement
_FAMILY = f"""
    WITH RECURSIVE family (id) AS (
        SELECT ?
        UNION
        SELECT other.session_id FROM family f JOIN messages m ON m.session_id = f.id
        JOIN messages other ON (other.parent_id = m.id OR other.id = m.parent_id) AND other.session_id <> f.id
        UNION
        SELECT s.id FROM family f JOIN messages m ON m.session_id = f.id JOIN sessions s ON s.head_id = m.id
    )
    SELECT {SELECT} FROM messages m WHERE m.session_id IN (SELECT id FROM family)
    ORDER BY m.position, m.created_at, m.id
"""


def branches(session: str | Session) -> list[Branch]:
    """Return all messages of a session and of the sessions that share messages with it, as runs between forks."""
    with database.atomic("DEFERRED"), readable("a part of the tree"):  # one moment for all of it
        return _branches(sessions.get(session))


def _branches(found: Session) -> list[Branch]:
    start = {found.id}
    if found.head_id is not None:
        start.add(sessions.path(found)[0].session_id)
    rows = {row[0]: read(row) for root in start for row in database.execute_sql(_FAMILY, (root,)).fetchall()}
    children: dict[int | None, list[Message]] = {}
    for message in rows.values():
        children.setdefault(message.parent_id if message.parent_id in rows else None, []).append(message)
    heads = _at(Session.select().where(sessions.VISIBLE), list(rows))
    marks = _at(SessionSnapshot.select(*_MARK), list(rows))
    return _runs(children, heads, marks, {message.id for message in sessions.path(found)})


_MARK = (  # not the settings, which may be damaged
    SessionSnapshot.id, SessionSnapshot.uuid, SessionSnapshot.name, SessionSnapshot.snapshot_type, SessionSnapshot.head,
)  # fmt: skip


def _at(query: Any, ids: list[int]) -> dict[int, list[Any]]:
    """Return the sessions or snapshots of a query whose heads are among these messages, by that."""
    found: dict[int, list[Any]] = {}
    for first in range(0, len(ids), IDS_AT_ONCE):
        some = query.model.head << ids[first : first + IDS_AT_ONCE]
        for row in query.where(some).order_by(query.model.id):
            found.setdefault(row.head_id, []).append(row)
    return found


def _runs(
    children: dict[int | None, list[Message]], heads: dict[int, list[Any]], marks: dict[int, list[Any]], main: set[int]
) -> list[Branch]:
    """Cut the tree into runs, without recursion: a conversation may fork at every message."""
    top: list[Branch] = []
    waiting = [(root, top) for root in children.get(None, [])]
    while waiting:
        first, siblings = waiting.pop(0)
        run = [first]
        while len(children.get(run[-1].id, [])) == 1 and run[-1].id not in heads and run[-1].id not in marks:
            run.append(children[run[-1].id][0])
        last = run[-1].id
        branch = Branch(run, heads.get(last, []), marks.get(last, []), first.id in main)
        siblings.append(branch)
        waiting.extend((child, branch.children) for child in children.get(last, []))
    return top
