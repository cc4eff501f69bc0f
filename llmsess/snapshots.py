"""Snapshots: a tag on a message, with the settings that the session had then. Making one costs a row.

Settled messages never change, so the path from a snapshot's head is what the session said then. Its settings (model,
system_prompt, temperature, max_tokens, parameters) are the session's, except those in `session_state`, which a trigger
fills in before the session's change. `maintenance.check()` proves that heads are there.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmsess import crashpoints, door, keeping, listing, salvaging, sessions
from llmsess.autosaving import Autosave, autosave
from llmsess.db import database
from llmsess.diffing import Change, Difference, diff, words_between
from llmsess.errors import DamagedConversation, InvalidInput
from llmsess.listing import Page
from llmsess.marking import branch, by_id, columns_of, create, get, mark, settings, settings_of
from llmsess.models import Message, Session, SessionSnapshot, dump_json, now
from llmsess.pruning import Removal, delete, prune
from llmsess.replaying import Replayed, ReplayPlan, plan_replay, replay, stream_replay
from llmsess.rows import update_row
from llmsess.salvaging import Reading
from llmsess.writing import path_to

__all__ = [
    "Autosave", "Change", "Difference", "Page", "Removal", "ReplayPlan", "Replayed", "Restored", "SnapshotFilter",
    "autosave", "count", "create", "delete", "diff", "find", "get", "last_whole", "path", "plan_replay", "prune",
    "reading", "replay", "restore", "settings", "settings_of", "stream_replay", "summaries", "words_between",
]  # fmt: skip


def path(snapshot: str | SessionSnapshot) -> list[Message]:
    """Return the messages of a snapshot from the root on; raises NotFound, Ambiguous, DamagedConversation."""
    head = get(snapshot).head_id
    return [] if head is None else path_to(head)


def reading(snapshot: str | SessionSnapshot) -> Reading:
    """Return the messages of a snapshot as far as they are readable; raises NotFound, Ambiguous."""
    found = get(snapshot)
    return Reading(found.head_id, found.session_id, found.sequence_number)


# Lists


@dataclass(frozen=True)
class SnapshotFilter:
    """Which snapshots; None means any. Times bound when they were made."""

    session: str | Session | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> tuple[list[str], list[Any]]:
        """Return the SQL conditions over `session_snapshots p` and their values; raises NotFound, InvalidInput."""
        wheres: list[str] = ["TRUE"]
        values: list[Any] = []
        if self.session is not None:
            wheres.append("p.session_id = ?")
            values.append(sessions.id_of(self.session))
        if self.type is not None:
            wheres.append("p.snapshot_type = ?")
            values.append(door.snapshot_type(self.type, "type of snapshot"))
        for test, moment in door.between("p.created_at", self.since, self.until):
            wheres.append(test)
            values.append(moment)
        return wheres, values


def find(filter: SnapshotFilter | None = None, *, limit: int | None = 50, cursor: str | None = None) -> Page:
    """Return snapshots, the newest first, as `summaries()` has them; `limit` None means all, `cursor` continues a page.

    Raises NotFound, InvalidInput.
    """
    if limit is not None:
        door.count(limit, "limit")
    wheres, values = (filter or SnapshotFilter()).conditions()
    if cursor is not None:
        wheres.append("(p.created_at, p.id) < (?, ?)")
        values.extend(listing.place_of(cursor))
    sql = (
        f"SELECT p.id, p.created_at FROM session_snapshots p WHERE {' AND '.join(wheres)} "
        "ORDER BY p.created_at DESC, p.id DESC LIMIT ?"
    )
    ids, following = listing.newest(sql, values, limit)
    return Page(summaries(ids), following)


def count(filter: SnapshotFilter | None = None) -> int:
    """Return how many snapshots the filter lets through."""
    wheres, values = (filter or SnapshotFilter()).conditions()
    sql = f"SELECT count(*) FROM session_snapshots p WHERE {' AND '.join(wheres)}"
    return int(database.execute_sql(sql, values).fetchone()[0])


_SUMMARY = """
    SELECT p.id, p.uuid, p.name, p.snapshot_type AS type, p.session_id, p.head_id, s.uuid AS session,
        s.title AS session_title, m.uuid AS head, coalesce(m.position, 0) AS messages, p.created_at
    FROM json_each(?) w CROSS JOIN session_snapshots p ON p.id = w.value JOIN sessions s ON s.id = p.session_id
    LEFT JOIN messages m ON m.id = p.head_id
"""


def summaries(ids: list[int]) -> list[dict[str, Any]]:
    """Return what tells these snapshots apart: uuid, name, type, session and head (uuids), session_title, created_at.

    `messages` is how many the snapshot has, `keeps` how many of them no session and no other snapshot reaches.
    """
    cursor = database.execute_sql(_SUMMARY, (dump_json(ids),))
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    kept = keeping.kept([(row["id"], row["session_id"], row["head_id"], row["messages"]) for row in rows])
    return [row | {"keeps": kept[row["id"]]} for row in rows]


# Going back


@dataclass(frozen=True)
class Restored:
    """Where a conversation goes on, whether the session itself was moved there, and the snapshot of where it was.

    `before` is None where nothing was moved, or where it was is gone.
    """

    session: Session
    is_moved: bool = False
    before: SessionSnapshot | None = None


def restore(snapshot: str | SessionSnapshot, *, in_place: bool = False, title: str | None = None) -> Restored:
    """Go back to a snapshot: on a new branch, or in place, which moves the session itself, and return where to go on.

    A branch is undone by deleting it, a move by restoring the snapshot `before` in place. Raises NotFound, Ambiguous,
    InvalidInput, DamagedConversation where not all messages of the snapshot can be read.
    """
    if in_place and title is not None:
        raise InvalidInput("only a new branch takes a title", hint="llmsess session rename")
    found = get(snapshot)
    if not salvaging.is_whole(found.head_id):
        raise DamagedConversation(
            f"snapshot {found.uuid[:8]} is damaged",
            hint=f"llmsess snapshot show {found.uuid[:8]} prints what is readable; {_advice(found)}",
        )
    with database.atomic():
        found = get(found)
        session = sessions.by_id(found.session_id)
        restored = _moved(session, found) if in_place else Restored(_branched(session, found, title))
    crashpoints.reach("restore.written")
    return restored


def _advice(snapshot: SessionSnapshot) -> str:
    whole = last_whole(sessions.by_id(snapshot.session_id))
    return f"whole is llmsess snapshot restore {whole.uuid[:8]}" if whole else "no snapshot of its session is whole"


def _moved(session: Session, snapshot: SessionSnapshot) -> Restored:
    """Move a session's head to a snapshot and give it the settings of then, after a snapshot of where it is."""
    wanted = settings(snapshot)
    if session.head_id == snapshot.head_id and settings_of(session) == wanted:
        return Restored(session)
    try:
        before = mark(session.id, None, "pre_restore", settled=False)
    except DamagedConversation:  # there is nothing left to go back to
        before = None
    crashpoints.reach("restore.saved")
    status = session.status if session.status == "archived" else sessions.status_at(snapshot.head_id)
    moment = max(now(), session.last_activity_at)
    update_row(
        Session, session.id, head_id=snapshot.head_id, last_activity_at=moment, status=status, ended_at=None,
        **columns_of(wanted),
    )  # fmt: skip
    crashpoints.reach("restore.moved")
    return Restored(sessions.by_id(session.id), True, before)


def _branched(session: Session, snapshot: SessionSnapshot, title: str | None) -> Session:
    """Make a session that begins where a snapshot is, with the settings of then."""
    own = f"{session.title} ({snapshot.name or 'restored'})" if session.title else None
    made = branch(session, snapshot.head_id, settings(snapshot), title, own)
    crashpoints.reach("restore.branched")
    return made


_NEWEST_FIRST = "SELECT id, head_id FROM session_snapshots WHERE session_id = ? ORDER BY created_at DESC, id DESC"


def last_whole(session: str | Session) -> SessionSnapshot | None:
    """Return the newest snapshot of a session that can be read, None where there is none.

    One that lies on the session's own path goes before those on branches that were left.
    """
    found = sessions.get(session)
    path = set(Reading(found.head_id, found.id).ids())
    rows = database.execute_sql(_NEWEST_FIRST, (found.id,)).fetchall()
    for row_id, head_id in sorted(rows, key=lambda row: row[1] is not None and row[1] not in path):
        with contextlib.suppress(DamagedConversation):
            snapshot = by_id(row_id)
            settings(snapshot)
            if salvaging.is_whole(head_id):
                return snapshot
    return None
