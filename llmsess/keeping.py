"""What a snapshot keeps: the messages that no session and no other snapshot reaches.

They stay stored while the session that wrote them does, off every path; those of a deleted session go with the last
snapshot that reaches them.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmsess.db import database

_NAMED = """
    (EXISTS (SELECT 1 FROM sessions s WHERE s.head_id = {0}.id)
    OR EXISTS (SELECT 1 FROM session_snapshots p WHERE p.head_id = {0}.id AND p.id <> :snapshot))
"""  # whether a session or another snapshot ends at a message
_FREE = f"""
    NOT {_NAMED.format("m")} AND NOT EXISTS (SELECT 1 FROM messages c WHERE c.parent_id = m.id AND c.id IS NOT {{0}})
"""  # whether nothing ends at a message, and nothing but what we come from goes on from it
_RUN = f"""
    WITH RECURSIVE run (id, parent_id, position) AS (
        SELECT m.id, m.parent_id, m.position FROM messages m WHERE m.id = :message AND {_FREE.format(":below")}
        UNION ALL
        SELECT m.id, m.parent_id, m.position FROM run r JOIN messages m ON m.id = r.parent_id
        WHERE m.position < r.position AND {_FREE.format("r.id")}
    ) SELECT id, parent_id FROM run
"""
_REACHED = f"""
    WITH RECURSIVE under (id, position) AS (
        SELECT id, position FROM messages WHERE id = :message
        UNION ALL
        SELECT c.id, c.position FROM under u JOIN messages c ON c.parent_id = u.id
        WHERE c.position > u.position AND c.id IS NOT :below
    ) SELECT 1 FROM under u WHERE {_NAMED.format("u")} LIMIT 1
"""  # whether something ends at a message or below it, on another way than ours
_PATH = """
    WITH RECURSIVE path (id, parent_id, position) AS (
        SELECT m.id, m.parent_id, m.position FROM sessions s JOIN messages m ON m.id = s.head_id WHERE s.id = :session
        UNION ALL
        SELECT m.id, m.parent_id, m.position FROM path p JOIN messages m
        ON m.id = p.parent_id AND m.position < p.position AND m.position >= :first
    ) SELECT id FROM path
"""


def kept(snapshots: Sequence[tuple[int, int, int | None, int]]) -> dict[int, int]:
    """Return how many messages each snapshot keeps, by its inner id.

    A snapshot is (inner id, inner id of its session, inner id of its head, position of that).
    """
    found = {snapshot: 0 for snapshot, *_ in snapshots}
    by_session: dict[int, list[tuple[int, int, int]]] = {}
    for snapshot, session, head, position in snapshots:
        if head is not None:
            by_session.setdefault(session, []).append((snapshot, head, position))
    for session, given in by_session.items():
        first = min(position for _, _, position in given)
        values = {"session": session, "first": first}
        path = {row[0] for row in database.execute_sql(_PATH, values).fetchall()}  # most snapshots lie on it
        found |= {snapshot: _kept(snapshot, head) for snapshot, head, _ in given if head not in path}
    return found


def _kept(snapshot: int, head: int) -> int:
    """Return how many messages only this snapshot reaches, walking up from its head."""
    counted: set[int] = set()
    below: int | None = None
    message: int | None = head
    while message is not None and message not in counted:  # damage may have made a circle
        values = {"snapshot": snapshot, "message": message, "below": below}
        run = database.execute_sql(_RUN, values).fetchall()
        if not run:
            if database.execute_sql(_REACHED, values).fetchone() is not None:
                break
            parent = database.execute_sql("SELECT parent_id FROM messages WHERE id = ?", (message,)).fetchone()
            run = [(message, parent[0] if parent else None)]
        counted.update(row[0] for row in run)
        below, message = run[-1]
    return len(counted)
