"""Entering the rows of llmsess' own format, known by their uuids, so that the same again changes nothing.

What is there already stays: of a session the settings of its later activity count; a message that is known is a
duplicate. A session that was imported here from the same source is the same one, and so are its messages by their
external ids. What a row refers to may come later in the file (a head, a parent): such references wait in TEMP tables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

from llmsess import bulk, crashpoints, linking, snapshotrows, texts
from llmsess.db import database
from llmsess.dumping import columns
from llmsess.errors import InvalidInput
from llmsess.importers.base import Bad, Importer, Row, chunks
from llmsess.importers.reading import sequence
from llmsess.importers.source import Source
from llmsess.matching import SourceReport
from llmsess.models import Call, LanguageModel, Message, Project, Session, dump_json
from llmsess.rowchecks import checked, checked_uuid
from llmsess.rows import insert_row, update_row
from llmsess.writing import collect, held_by

FORMAT = "llmsess"
EPOCH = "1970-01-01T00:00:00.000000Z"  # the activity of a session of which nothing is known
Values = dict[str, Any]
_MESSAGES = "SELECT uuid, id, position, parent_id FROM messages WHERE uuid IN (SELECT value FROM json_each(?))"
_SESSIONS = """
    SELECT s.uuid, s.id, s.status, s.head_id, s.last_activity_at, s.next_sequence, s.is_partial, s.source_updated_at
    FROM sessions s WHERE {}
"""
_HEADS = """
    UPDATE sessions SET head_id = (SELECT m.id FROM restored_heads h JOIN messages m ON m.uuid = h.uuid
        WHERE h.session_id = sessions.id)
    WHERE id IN (SELECT h.session_id FROM restored_heads h JOIN messages m ON m.uuid = h.uuid)
"""
_HEADS_DONE = "DELETE FROM restored_heads WHERE uuid IN (SELECT uuid FROM messages WHERE uuid = restored_heads.uuid)"
_PARENTS = """
    SELECT r.message_id, p.id, m.session_id, r.uuid FROM restored_parents r JOIN messages m ON m.id = r.message_id
    LEFT JOIN messages p ON p.uuid = r.uuid ORDER BY r.message_id
"""
_ABOVE = """
    UPDATE sessions SET parent_session_id = (SELECT p.id FROM restored_above r JOIN sessions p ON p.uuid = r.uuid
        WHERE r.session_id = sessions.id)
    WHERE id IN (SELECT session_id FROM restored_above)
"""
_WAITING = (
    "restored_heads (session_id, uuid)",
    "restored_parents (message_id, uuid)",
    "restored_above (session_id, uuid)",
)
_HOLD = "INSERT INTO message_blobs (message_id, blob_id, position) SELECT ?, id, ? FROM blobs WHERE sha256 = ?"


def enter(
    source: Source, importer: Importer, report: SourceReport, on_chunk: Callable[[], None] = lambda: None,
    *, keep_raw: bool = True, undelete: bool = False,
) -> None:  # fmt: skip
    """Enter the rows of a file and count in the report what became of them."""
    bulk.prepare()
    for table in _WAITING:
        database.execute_sql(f"CREATE TEMP TABLE IF NOT EXISTS {table}")
        database.execute_sql(f"DELETE FROM {table.partition(' ')[0]}")
    state = _State(report, undelete=undelete)
    for items in chunks(importer.read(source)):
        with database.atomic():
            _Chunk(state, [item for item in items if isinstance(item, Row)]).enter()
        crashpoints.reach("import.written")
        for item in items:
            if not isinstance(item, Row):
                _count(report, item)
        on_chunk()
    with database.atomic():
        _link(report)
        crashpoints.reach("import.linking")


def _link(report: SourceReport) -> None:
    """Settle what waited for rows that came later in the file."""
    database.execute_sql(_HEADS)
    database.execute_sql(_ABOVE)
    moved = set()
    for child, parent, session, uuid in database.execute_sql(_PARENTS).fetchall():
        if parent is None or linking.is_above(child, parent):
            report.unknown += 1
            report.add_problem(0, f"the parent {uuid[:32]} of a message is not there: it stays a root")
        else:
            database.execute_sql("UPDATE messages SET parent_id = ? WHERE id = ?", (parent, child))
            moved.add(session)
    for session in sorted(moved):
        linking.place(session)


def _count(report: SourceReport, item: Any) -> None:
    report.records["bad" if isinstance(item, Bad) else "ignored"] += 1
    if item.problem:
        report.add_problem(item.record.line, item.problem)


class _State:
    """What is known of a file across its chunks."""

    def __init__(self, report: SourceReport, *, undelete: bool) -> None:
        self.report, self.undelete = report, undelete
        self.left: set[str] = set()  # sessions that were deleted here, and stay so
        self.ids: dict[str, dict[str, int]] = {"project": {}, "model": {}}  # uuid in the file: our id
        self.pieces: dict[str, bytes] = {}  # of attachments that come in several lines


class _Place(NamedTuple):
    """Where a message stands."""

    id: int
    position: int
    parent_id: int | None


class _Owner:
    """A session while its rows are entered."""

    def __init__(
        self, row_id: int, status: str, head: int | None, latest: str, next_sequence: int,
        partial: bool | None = None, version: str | None = None,
    ) -> None:  # fmt: skip
        self.id, self.status, self.head, self.latest, self.next_sequence = row_id, status, head, latest, next_sequence
        self.is_new = False
        self.version, self.is_newer = version, False  # as the source tells, and whether the file's is a later one
        self.is_tombstone = status == "deleted" and not partial  # a person deleted it here


class _Chunk:
    """Enters one chunk, inside its transaction."""

    def __init__(self, state: _State, rows: list[Row]) -> None:
        self.state, self.rows = state, rows
        messages = [row for row in rows if row.kind == "message"]
        named = {str(row.values.get("session")) for row in messages}
        named |= {str(row.values.get("uuid")) for row in rows if row.kind == "session"}
        named |= {str(row.values.get("session")) for row in rows if row.kind == "snapshot"}
        self.owners = self._owners(list(named), [row.values for row in rows if row.kind == "session"])
        wanted = [row.values.get(key) for row in messages for key in ("uuid", "parent")]
        found = database.execute_sql(_MESSAGES, (dump_json([uuid for uuid in wanted if isinstance(uuid, str)]),))
        self.messages = {row[0]: _Place(*row[1:]) for row in found.fetchall()}
        self.next_id = bulk.next_id("messages")
        self.staged: list[Values] = []
        self.after: list[tuple[int, list[str], list[Values]]] = []  # messages whose attachments and ledger follow

    def _owners(self, named: list[str], given: list[Values]) -> dict[str, _Owner]:
        """Return the sessions that are there, by their uuid in the file."""
        marks = dump_json(named)
        found = database.execute_sql(_SESSIONS.format("s.uuid IN (SELECT value FROM json_each(?))"), (marks,))
        owners = {row[0]: _Owner(*row[1:]) for row in found.fetchall()}
        for values in given:
            uuid, pair = values.get("uuid"), (values.get("source"), values.get("external_id"))
            if isinstance(uuid, str) and uuid not in owners and all(isinstance(part, str) for part in pair):
                sql = _SESSIONS.format("s.source = ? AND s.external_id = ?")
                row = database.execute_sql(sql, [texts.clean(str(part)) for part in pair]).fetchone()
                if row is not None:  # imported here too, from the same source
                    owners[uuid] = _Owner(*row[1:])
        return owners

    def enter(self) -> None:
        self.take([row for row in self.rows if row.kind != "snapshot"])
        self.write()
        self.take([row for row in self.rows if row.kind == "snapshot"])

    def take(self, rows: list[Row]) -> None:
        """Enter rows, or put them in line, and count what became of them."""
        enter = {"project": self.project, "model": self.model, "blob": self.blob, "session": self.session,
                 "message": self.message, "snapshot": self.snapshot}  # fmt: skip
        for row in rows:
            try:
                became = enter[row.kind](row.values)
            except InvalidInput as error:
                became = "bad"
                self.state.report.add_problem(row.record.line, error.message)
            self.state.report.records[became] += 1

    def project(self, values: Values) -> str:
        return self.named("project", Project, values, ("name",))

    def model(self, values: Values) -> str:
        return self.named("model", LanguageModel, values, ("provider", "model_name", "model_version"))

    def named(self, kind: str, table: Any, values: Values, names: tuple[str, ...]) -> str:
        """Find a project or a model by its uuid or its name, or make it."""
        given = checked(table, values)
        given = {"model_version": ""} | given if kind == "model" else given
        where = " AND ".join(f"{name} = ?" for name in names)
        sql = f"SELECT id FROM {table._meta.table_name} WHERE uuid = ? OR ({where})"
        row = database.execute_sql(sql, (given["uuid"], *(given.get(name, "") for name in names))).fetchone()
        self.state.ids[kind][given["uuid"]] = row[0] if row else _insert(table, given)
        return "duplicate" if row else "imported"

    def blob(self, values: Values) -> str:
        """Take an attachment, or a piece of one."""
        sha256, data = values.get("sha256"), values.get("data")
        media_type = values.get("media_type")
        try:
            piece = base64.b64decode(data, validate=True) if isinstance(data, str) else None
        except (binascii.Error, ValueError):
            piece = None
        if not isinstance(sha256, str) or piece is None:
            raise InvalidInput("an attachment that is no base64")
        whole = self.state.pieces.pop(sha256, b"") + piece
        if values.get("more") is True:
            self.state.pieces[sha256] = whole
            return "merged"
        if hashlib.sha256(whole).hexdigest() != sha256:
            raise InvalidInput("an attachment whose bytes are not those of its hash")
        there = database.execute_sql("SELECT 1 FROM blobs WHERE sha256 = ?", (sha256,)).fetchone()
        if there is None:
            kind = texts.clean(media_type) if isinstance(media_type, str) else None
            sql = "INSERT INTO blobs (sha256, media_type, size_bytes, data) VALUES (?, ?, ?, ?)"
            database.execute_sql(sql, (sha256, kind, len(whole), whole))
        return "duplicate" if there else "imported"

    # Sessions

    def session(self, values: Values) -> str:
        """Make a session, or bring the settings of one that is there up to date."""
        self.state.report.sessions += 1
        uuid = checked_uuid(values.get("uuid"))
        owner = self.owners.get(uuid)
        given = checked(Session, values) | self.refers(values)
        if given.get("is_partial"):
            given |= {"status": "deleted", "last_activity_at": given.get("started_at") or EPOCH}
            if owner is None:
                owner = self.owners[uuid] = self.make(given)
                self.aside(owner, values, is_later=True)
                return "imported"
            return "duplicate"
        if owner is None:
            self.owners[uuid] = self.make(given)
            became = "imported"
        elif owner.is_tombstone and not self.state.undelete:
            self.state.left.add(uuid)
            return "ignored"
        elif owner.status == "deleted" or self.is_later(owner, given):
            became = self.update(owner, given)
        else:
            became = "duplicate"
        self.aside(self.owners[uuid], values, is_later=became != "duplicate")
        return became

    def is_later(self, owner: _Owner, given: Values) -> bool:
        """Return whether the file has a later version of a session: by its source, else by its last activity."""
        version = given.get("source_updated_at")
        if version and owner.version:
            owner.is_newer = version > owner.version
            return owner.is_newer
        return str(given.get("last_activity_at", "")) > owner.latest

    def refers(self, values: Values) -> Values:
        """Return the project and the model of a session as our ids."""
        found: Values = {}
        for kind in ("project", "model"):
            named = values.get(kind)
            if isinstance(named, str) and named in self.state.ids[kind]:
                found[f"{kind}_id"] = self.state.ids[kind][named]
        return found

    def make(self, given: Values) -> _Owner:
        row_id = _insert(Session, given)
        status, latest = str(given.get("status", "active")), str(given.get("last_activity_at", ""))
        owner = _Owner(row_id, status, None, latest, 1, given.get("is_partial"))
        owner.is_new = True
        return owner

    def update(self, owner: _Owner, given: Values) -> str:
        fixed = ("uuid",) if owner.status == "deleted" else ("uuid", "source", "external_id")
        given = {"is_partial": None} | given if owner.status == "deleted" else given
        kept = {name: value for name, value in given.items() if name not in fixed}
        names = ", ".join(f"{name} = ?" for name in kept)
        stored = [dump_json(value) if name in ("metadata", "parameters") else value for name, value in kept.items()]
        database.execute_sql(f"UPDATE sessions SET {names} WHERE id = ?", (*stored, owner.id))
        return "merged"

    def aside(self, owner: _Owner, values: Values, *, is_later: bool) -> None:
        """Enter the tags of a session, and let its head and the session above it wait for their rows."""
        for tag in sequence(values.get("tags")):
            if isinstance(tag, str):
                sql = "INSERT INTO session_tags (session_id, tag) VALUES (?, ?) ON CONFLICT DO NOTHING"
                database.execute_sql(sql, (owner.id, texts.clean(tag)))
        head, above = values.get("head"), values.get("parent_session")
        if isinstance(head, str) and (is_later or owner.head is None):
            database.execute_sql("INSERT INTO restored_heads VALUES (?, ?)", (owner.id, texts.clean(head)))
        if isinstance(above, str):
            database.execute_sql("INSERT INTO restored_above VALUES (?, ?)", (owner.id, texts.clean(above)))

    # Messages

    def message(self, values: Values) -> str:
        """Put a message in line that is not there yet."""
        self.state.report.messages += 1
        given = checked(Message, values)
        owner = self.owners.get(str(values.get("session")))
        if owner is None:
            raise InvalidInput("a message of a session that is not in the file")
        if str(values["session"]) in self.state.left:
            return "ignored"
        if given["uuid"] in self.messages or self.is_imported(owner, given):
            place = self.messages[given["uuid"]]
            self.hang(place, values)
            return self.renew(place, given) if owner.is_newer else "duplicate"
        row_id, self.next_id = self.next_id, self.next_id + 1
        above = self.hang(_Place(row_id, 1, None), values)
        given |= {"position": above.position + 1 if above else 1} | ({"parent_id": above.id} if above else {})
        self.messages[given["uuid"]] = _Place(row_id, given["position"], given.get("parent_id"))
        if not owner.is_new or given["sequence_number"] < owner.next_sequence:
            given["sequence_number"] = owner.next_sequence
        owner.next_sequence = given["sequence_number"] + 1
        model = values.get("model")
        if isinstance(model, str) and model in self.state.ids["model"]:
            given["model_id"] = self.state.ids["model"][model]
        given |= {"id": row_id, "session_id": owner.id}
        stored = texts.stored(given)
        for name in ("parts", "usage", "metadata"):
            if name in stored:
                stored[name] = dump_json(stored[name])
        self.staged.append(stored)
        held = [sha256 for sha256 in sequence(values.get("blobs")) if isinstance(sha256, str)]
        calls = [checked(Call, call) for call in sequence(values.get("calls")) if isinstance(call, dict)]
        if held or calls:
            self.after.append((row_id, held, calls))
        return "imported"

    def snapshot(self, values: Values) -> str:
        """Enter a snapshot; the messages of the chunk are there."""
        owner = self.owners.get(str(values.get("session")))
        if owner is None:
            raise InvalidInput("a snapshot of a session that is not in the file")
        if str(values["session"]) in self.state.left:
            return "ignored"
        return snapshotrows.enter(values, owner.id)

    def renew(self, place: _Place, given: Values) -> str:
        """Put a later version of a message in the place of what we have, where it says something else."""
        told = {name: given.get(name) for name in (*texts.FIELDS, "parts", "metadata")}
        sql = f"SELECT {', '.join(texts.whole('m', name) for name in texts.FIELDS)} FROM messages m WHERE m.id = ?"
        ours = database.execute_sql(sql, (place.id,)).fetchone()
        if ours is None or tuple(told[name] for name in texts.FIELDS) == tuple(ours):
            return "duplicate"
        left = held_by(str(place.id))
        hashes = {f"{name}_sha256": None for name in texts.FIELDS}
        update_row(Message, place.id, **texts.stored(told | hashes))
        collect(left)
        return "merged"

    def hang(self, place: _Place, values: Values) -> _Place | None:
        """Return the parent of a message that has none yet, None where it has or it is still to come."""
        parent = values.get("parent")
        if not isinstance(parent, str) or place.parent_id is not None:
            return None
        if parent in self.messages and place.id == self.next_id - 1:  # a new one, which is not entered yet
            return self.messages[parent]
        database.execute_sql("INSERT INTO restored_parents VALUES (?, ?)", (place.id, texts.clean(parent)))
        return None

    def is_imported(self, owner: _Owner, given: Values) -> bool:
        """Return whether a message was imported here too, from the same source."""
        if owner.is_new or "external_id" not in given:
            return False
        sql = "SELECT id, position, parent_id FROM messages WHERE session_id = ? AND external_id = ?"
        row = database.execute_sql(sql, (owner.id, given["external_id"])).fetchone()
        if row is not None:
            self.messages[given["uuid"]] = _Place(*row)
        return row is not None

    def write(self) -> None:
        """Enter what is in line, and what waited for it."""
        bulk.enter_messages(self.staged)
        for row_id, held, calls in self.after:
            for position, sha256 in enumerate(held):
                database.execute_sql(_HOLD, (row_id, position, texts.clean(sha256)))
            for call in calls:
                _insert(Call, call | {"message_id": row_id})
        grown = [(owner.next_sequence, owner.id) for owner in self.owners.values()]
        with database.translated():
            sql = "UPDATE sessions SET next_sequence = max(next_sequence, ?) WHERE id = ?"
            database.driver_connection().executemany(sql, grown)
        database.execute_sql(_HEADS)
        database.execute_sql(_HEADS_DONE)


def _insert(table: Any, given: Values) -> int:
    """Insert a row; what is not given is NULL, not a default of the present moment."""
    nullable = [name for name in columns(table) if table._meta.columns[name].null]
    return insert_row(table, **dict.fromkeys(nullable) | given)
