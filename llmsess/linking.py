"""What an import can only settle when more has come: late parents, parents of sessions, titles told in other files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Set

from llmsess.db import database
from llmsess.importers.base import TitleRecord
from llmsess.matching import family, line_of
from llmsess.models import dump_json
from llmsess.writing import collect, held_by

WAITING = "waiting for its session: "  # begins the problem of a title whose session has not come; the title follows

# CROSS JOIN keeps the order of the tables, each found by its index: without it one of them is scanned.
_WAITING = """
    SELECT child.id, parent.id, child.external_id, child.session_id
    FROM messages child CROSS JOIN sessions s ON s.id = child.session_id {by}
    WHERE child.parent_external_id IS NOT NULL AND s.source = :source
    AND parent.session_id IN (s.id, s.parent_session_id)
"""
_BY_ID = "CROSS JOIN messages parent ON parent.external_id = child.parent_external_id"
_BY_LINE = """
    CROSS JOIN import_records r ON r.external_id = child.parent_external_id
    CROSS JOIN messages parent ON parent.id = r.message_id
"""
_CHILDREN = f"{_WAITING.format(by=_BY_ID)} UNION {_WAITING.format(by=_BY_LINE)} ORDER BY 1"
_ABOVE = """
    WITH RECURSIVE above (id) AS (
        SELECT ? UNION SELECT m.parent_id FROM above a JOIN messages m ON m.id = a.id WHERE m.parent_id IS NOT NULL
    ) SELECT 1 FROM above WHERE id = ?
"""
_PLACE = """
    WITH RECURSIVE place (id, position) AS (
        SELECT m.id, coalesce(p.position, 0) + 1 FROM messages m LEFT JOIN messages p ON p.id = m.parent_id
        WHERE m.session_id = ? AND (p.id IS NULL OR p.session_id <> m.session_id)
        UNION
        SELECT m.id, place.position + 1 FROM place JOIN messages m ON m.parent_id = place.id
    )
    UPDATE messages SET position = place.position FROM place
    WHERE place.id = messages.id AND messages.position <> place.position
"""
_HEAD = """
    UPDATE sessions SET head_id = (
        SELECT m.id FROM messages m WHERE m.session_id = :session
        AND NOT EXISTS (SELECT 1 FROM messages c WHERE c.parent_id = m.id AND c.session_id = :session)
        ORDER BY m.created_at DESC, m.sequence_number DESC LIMIT 1
    )
    WHERE id = :session AND EXISTS (SELECT 1 FROM messages h WHERE h.id = head_id AND h.external_id IS NOT NULL)
"""  # the newest end of its tree, unless a person has gone on from another
_ORPHANS = """
    SELECT id FROM sessions WHERE parent_external_id IS NOT NULL AND source = ? AND EXISTS (
        SELECT 1 FROM sessions p WHERE p.source = sessions.source AND p.external_id = sessions.parent_external_id
    )
"""
_TWINS = """
    SELECT a.id, a.session_id, b.id, b.session_id FROM json_each(:family) f
    CROSS JOIN messages a ON a.session_id = f.value CROSS JOIN messages b ON b.external_id = a.external_id
    WHERE b.session_id IN (SELECT value FROM json_each(:family)) AND a.id < b.id AND a.role = b.role
    AND a.content = b.content AND coalesce(a.tool_text, '') = coalesce(b.tool_text, '') ORDER BY a.position
"""
_REFERENCES = (("messages", "parent_id"), ("sessions", "head_id"), ("import_records", "message_id"),
               ("session_snapshots", "head_id"), ("annotations", "message_id"), ("calls", "message_id"))  # fmt: skip
_PARENTS = """
    UPDATE sessions SET
        parent_session_id = (SELECT p.id FROM sessions p WHERE p.source = sessions.source
            AND p.external_id = sessions.parent_external_id),
        parent_external_id = NULL
    WHERE parent_external_id IS NOT NULL AND source = ? AND EXISTS (
        SELECT 1 FROM sessions p WHERE p.source = sessions.source AND p.external_id = sessions.parent_external_id
    )
"""


def link(source: str) -> Iterator[tuple[int, str]]:
    """Settle what waits in a format; yield (line, problem) of each circle, whose messages stay roots.

    Call it inside a transaction.
    """
    families = [row[0] for row in database.execute_sql(_ORPHANS, (source,)).fetchall()]
    database.execute_sql(_PARENTS, (source,))
    for session in families:
        _unite(session)
    moved = set()
    for child, parent, external_id, session in database.execute_sql(_CHILDREN, {"source": source}).fetchall():
        if is_above(child, parent):
            yield _line_of(child), f"message {external_id} is its own ancestor: it stays a root"
        else:
            hang = "UPDATE messages SET parent_id = ?, parent_external_id = NULL WHERE id = ?"
            database.execute_sql(hang, (parent, child))
            moved.add(session)
    for session in sorted(moved):
        place(session)
        database.execute_sql(_HEAD, {"session": session})
    _give_waiting_titles(source)


def _unite(session: int) -> None:
    """Make one of messages that related sessions have twice, for they came when nothing told that they are related.

    It stays with the session that stands above the other, else with the one that came first.
    """
    related = sorted(family(session))
    depth = {one: len(line_of(one)) for one in related}
    gone: set[int] = set()
    for first, here, second, there in database.execute_sql(_TWINS, {"family": dump_json(related)}).fetchall():
        if here == there or first in gone or second in gone:
            continue
        kept, left_over = (second, first) if depth[there] < depth[here] else (first, second)
        for table, column in _REFERENCES:
            database.execute_sql(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {column} = ?", (kept, left_over))
        held = held_by(str(left_over))
        database.execute_sql("DELETE FROM messages WHERE id = ?", (left_over,))
        collect(held)
        gone.add(left_over)


def is_above(message: int, other: int) -> bool:
    """Return whether a message is another or one of its ancestors; both are inner ids."""
    return database.execute_sql(_ABOVE, (other, message)).fetchone() is not None


def place(session: int) -> None:
    """Set the positions of a session's messages anew, from the roots down, once for all."""
    database.execute_sql(_PLACE, (session,))


def _line_of(message: int) -> int:
    row = database.execute_sql("SELECT min(line) FROM import_records WHERE message_id = ?", (message,)).fetchone()
    return int(row[0] or 0)


# Titles


def title_key(item: TitleRecord) -> str:
    """Return what identifies a title record: what it titles, and the title."""
    return f"title:{item.target}:{hashlib.sha256(item.title.encode(errors='replace')).hexdigest()[:8]}"


def is_told(item: TitleRecord) -> bool:
    """Return whether an import has met this title before."""
    sql = "SELECT 1 FROM import_records WHERE external_id = ? LIMIT 1"
    return database.execute_sql(sql, (title_key(item),)).fetchone() is not None


def titled_session(source: str, item: TitleRecord, near: Set[int]) -> str | None:
    """Return the external id of the session that a record titles: its own, or that of the message it names.

    `near` are the sessions of the record's own file, which are meant where unrelated ones have a message of that id.
    """
    return _session_of_message(source, item.target, near) if item.is_message else _session_named(source, item.target)


def _session_named(source: str, external_id: str) -> str | None:
    sql = "SELECT external_id FROM sessions WHERE source = ? AND external_id = ? AND status <> 'deleted'"
    row = database.execute_sql(sql, (source, external_id)).fetchone()
    return str(row[0]) if row else None


def _session_of_message(source: str, external_id: str, near: Set[int] = frozenset()) -> str | None:
    sql = """
        SELECT s.id, s.external_id FROM messages m JOIN sessions s ON s.id = m.session_id
        WHERE s.source = ? AND s.status <> 'deleted' AND (
            m.external_id = ? OR m.id IN (SELECT message_id FROM import_records WHERE external_id = ?)
        ) ORDER BY s.external_id
    """
    rows = database.execute_sql(sql, (source, external_id, external_id)).fetchall()
    best = next((row for row in rows if row[0] in near), rows[0] if rows else None)
    return str(best[1]) if best else None


def _give_waiting_titles(source: str) -> None:
    sql = """
        SELECT id, external_id, problem FROM import_records
        WHERE external_id >= 'title:' AND external_id < 'title;' AND problem >= ? AND problem < ?
    """
    for row_id, key, problem in database.execute_sql(sql, (WAITING, WAITING + "\U0010ffff")).fetchall():
        target = key.removeprefix("title:").rpartition(":")[0]
        session = _session_of_message(source, target) or _session_named(source, target)
        if session is not None:
            database.execute_sql(
                "UPDATE sessions SET title = ?1, imported_title = ?1 WHERE source = ?2 AND external_id = ?3",
                (problem.removeprefix(WAITING), source, session),
            )
            database.execute_sql("UPDATE import_records SET problem = NULL WHERE id = ?", (row_id,))
