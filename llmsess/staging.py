"""Entering the records of one file, chunk by chunk.

Each chunk is one transaction, so that a cut leaves a prefix that the next import completes. A message is the same as
one we have where its external id is that of a message of its session, or of any other with the same text (a resumed
file repeats another's lines; unrelated files may use the same ids). A message whose parent has not come yet waits with
`parent_external_id`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmsess import bulk, crashpoints, linking, texts
from llmsess.db import database
from llmsess.importers.base import (
    Bad,
    Ignored,
    Importer,
    Item,
    MessageRecord,
    SessionRecord,
    TitleRecord,
    Whole,
    chunks,
)
from llmsess.importers.source import Source
from llmsess.ledger import Ledger
from llmsess.matching import (
    Growth,
    ImportFile,
    Known,
    SourceReport,
    disposition,
    family,
    find_growths,
    find_known,
    find_same,
    line_of,
    whole,
)
from llmsess.models import Message, dump_json, new_uuid, time_text
from llmsess.recordvalues import REPLACED, message_values, session_values
from llmsess.rows import update_row
from llmsess.writing import TITLE_CHARACTERS, collect, held_by, keep_attachments

_TAGGED = re.compile(r"\A\s*(?:<([a-z-]+)>.*?</\1>\s*)+", re.DOTALL)  # what a harness puts before a prompt

_NEW_SESSION = (
    "id", "uuid", "title", "imported_title", "session_type", "status", "source", "external_id", "project_id",
    "model_id", "system_prompt", "parent_external_id", "relation", "metadata", "next_sequence", "total_messages",
    "total_input_tokens", "total_cached_input_tokens", "total_cache_write_tokens", "total_output_tokens", "total_cost",
    "unpriced_messages", "started_at", "last_activity_at",
)  # fmt: skip
_MAKE = f"INSERT INTO sessions ({', '.join(_NEW_SESSION)}) VALUES ({', '.join('?' * len(_NEW_SESSION))})"
_GROW = """
    UPDATE sessions SET head_id = ?, next_sequence = ?, title = ?, imported_title = ?, source_updated_at = ?,
    model_id = coalesce(?, model_id), started_at = ?, last_activity_at = coalesce(nullif(?, ''), last_activity_at)
    WHERE id = ?
"""


def enter(
    source: Source,
    importer: Importer,
    report: SourceReport,
    on_chunk: Callable[[], None] = lambda: None,
    **options: bool,
) -> None:
    """Enter a file's records into the database and count in the report what became of them.

    `options` are keep_raw, to keep the raw records, and undelete, to bring back sessions that were deleted here.
    """
    file = ImportFile(source, importer, report, **options)
    bulk.prepare()
    with file.pool, bulk.fewer_collections():
        for items in chunks(importer.read(source)):
            with database.atomic():
                _Chunk(file, items).enter()
            crashpoints.reach("import.written")
            on_chunk()
    report.sessions = len(file.sessions)
    with database.atomic():
        for line, problem in linking.link(importer.NAME):
            report.add_problem(line, problem)
        database.execute_sql("UPDATE import_sources SET complete = 1 WHERE id = ?", (file.id,))
        crashpoints.reach("import.linking")


class _Chunk:
    """Enters one chunk, inside its transaction."""

    def __init__(self, file: ImportFile, items: list[Item]) -> None:
        self.file, self.items = file, items
        file.forget()
        messages = [item for item in items if isinstance(item, MessageRecord)]
        wanted = {item.external_id for item in messages} | {item.parent for item in messages if item.parent}
        self.known = find_known(file.format, wanted)
        named = {item.external_id for item in items if isinstance(item, SessionRecord)}
        self.growths = find_growths(file.format, named)
        self.made: list[tuple[Any, ...]] = []
        self.staged: list[dict[str, Any]] = []
        self.families: dict[int, frozenset[int]] = {}
        self.ledger = Ledger(file, items)
        self.attachments: list[tuple[int, MessageRecord]] = []
        self.next_id = bulk.next_id("messages")
        self.next_session_id = bulk.next_id("sessions")

    def enter(self) -> None:
        for item in self.items:
            if isinstance(item, SessionRecord):
                self.session(item)
            elif isinstance(item, MessageRecord):
                self.message(item)
            elif isinstance(item, TitleRecord):
                self.title(item)
            elif isinstance(item, Whole):
                self.whole(item)
            elif isinstance(item, (Ignored, Bad)):
                self.other(item)
        self.write()

    def whole(self, item: Whole) -> None:
        """Log a record that was a whole conversation as what its messages became."""
        became = whole(self.file.became)
        self.ledger.log(item.record, became, None, None)
        if became in ("imported", "merged"):
            self.file.report.add_unknown(item.record.line, self.file.unknown)
            self.file.report.add_left_out(item)
        self.file.became.clear()
        self.file.unknown.clear()

    def other(self, item: Ignored | Bad) -> None:
        self.ledger.log(item.record, "bad" if isinstance(item, Bad) else "ignored", None, item.problem)
        if item.problem:
            self.file.report.add_problem(item.record.line, item.problem)

    # Sessions

    def session(self, record: SessionRecord) -> None:
        """Find or make the session of a record, and see which version of it this is."""
        growth = self.growths.get(record.external_id)
        if growth is None:
            growth = self.growths[record.external_id] = self.make(record)
            self.file.became.add("imported")
        elif growth.deleted and self.file.undelete:
            database.execute_sql("UPDATE sessions SET status = 'active' WHERE id = ?", (growth.id,))
            growth.deleted = False
        elif growth.partial:
            self.complete(growth, record)
        self.file.sessions.add(growth.id)
        version, ours = record.updated_at and time_text(record.updated_at), growth.source_updated_at
        if version and ours and version < ours:
            self.file.older.add(growth.id)
            return
        if version and version != ours:
            growth.source_updated_at, growth.dirty = version, True
            self.file.newer.add(growth.id)
        if record.head is not None:
            self.file.heads[growth.id] = record.head
        if record.title:
            self.name(growth, texts.clean(record.title))

    def name(self, growth: Growth, title: str) -> None:
        """Give a session the title of its source, unless a person has given it another."""
        if title != growth.imported_title and growth.title in (None, growth.imported_title):
            growth.title, growth.dirty = title, True
        growth.imported_title = title

    def complete(self, growth: Growth, record: SessionRecord) -> None:
        """Bring a session out that was hidden, for only others' messages hung on some of its own."""
        values = session_values(self.file, record) | {"is_partial": None}
        names = [name for name in values if name not in ("id", "uuid", "next_sequence")]
        sql = f"UPDATE sessions SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"
        database.execute_sql(sql, (*(values[name] for name in names), growth.id))
        growth.partial = False
        self.file.became.add("imported")

    def make(self, record: SessionRecord) -> Growth:
        """Put a new session in line to be entered before its messages."""
        row_id, self.next_session_id = self.next_session_id, self.next_session_id + 1
        values = session_values(self.file, record) | {"id": row_id}
        self.made.append(tuple(values.get(name, 0) for name in _NEW_SESSION))
        title, started = values["title"], values["started_at"]
        return Growth(row_id, None, 1, False, True, title, started or "", started, title)

    def growth(self, external_id: str) -> Growth:
        """Return a session of this file; one that an earlier chunk began is read again."""
        growth = self.growths.get(external_id)
        if growth is None:
            growth = self.growths[external_id] = find_growths(self.file.format, {external_id})[external_id]
        return growth

    def title(self, item: TitleRecord) -> None:
        """Give a title once: a person's later renaming must survive the next import."""
        key = linking.title_key(item)
        if key in self.file.told or linking.is_told(item):
            self.ledger.log(item.record, "duplicate", None, None)
            return
        self.file.told.add(key)
        self.write_messages()
        external_id = linking.titled_session(self.file.format, item, self.file.sessions)
        if external_id is not None:
            growth = self.growth(external_id)
            growth.title = growth.imported_title = texts.clean(item.title)
            growth.dirty = True
        record = item.record._replace(external_id=key)
        problem = None if external_id is not None else linking.WAITING + texts.clean(item.title)
        self.ledger.log(record, "merged", None, problem)

    # Messages

    def message(self, record: MessageRecord) -> None:
        self.file.report.messages += 1
        growth = self.growth(record.session)
        if record.kin and self.made:
            self.write_messages()  # whose kin a session is can only be told of one that is there
            self.families.clear()
        known = find_same(record, self.known.get(record.external_id, []), growth.id, self.ledger.before, self.family)
        if known is not None and known.session_id != growth.id:
            self.file.repeated.add(known.session_id)
        if record.kin and not growth.deleted:
            self.derive(growth, record)  # also of what is repeated, so that the order of files does not matter
        if growth.deleted:
            self.left_deleted(record)
            self.ledger.log_all(record, "ignored", None)
        elif known is None:
            row_id = self.stage(record, growth)
            self.stand(growth, record, row_id)
            self.ledger.log_all(record, "imported", row_id)
        else:
            newer, older = growth.id in self.file.newer, growth.id in self.file.older
            became = disposition(record, known.extent, newer=newer, older=older)
            if became == "merged":
                self.replace(record, known)
            elif record.kin and known.session_id != growth.id and growth.id in line_of(known.session_id):
                self.adopt(growth, record, known)
            else:
                self.arrive(growth, known)
            self.stand(growth, record, known.id)
            self.ledger.log_all(record, became, known.id)

    def family(self, session_id: int) -> frozenset[int]:
        """Return the sessions related to one, as they are known in this chunk."""
        if session_id not in self.families:
            self.families[session_id] = family(session_id)
        return self.families[session_id]

    def adopt(self, growth: Growth, record: MessageRecord, known: Known) -> None:
        """Give a session its own message that one that descends from it brought along first."""
        self.write_messages()  # it may wait in this chunk
        sql = "UPDATE messages SET session_id = ?, sequence_number = ? WHERE id = ?"
        database.execute_sql(sql, (growth.id, growth.next_sequence, known.id))
        known.session_id = growth.id
        parent = self.parent(record, growth.id)
        self.grow(growth, known.id, record, time_text(record.created_at) if record.created_at else None, parent)

    def stand(self, growth: Growth, record: MessageRecord, row_id: int) -> None:
        """Move the head to the message that the source says its conversation stands at; it then stays there."""
        if self.file.heads.get(growth.id) == record.external_id and growth.movable:
            self.file.heads[growth.id] = ""
            growth.head_id, growth.dirty = row_id, True

    def left_deleted(self, record: MessageRecord) -> None:
        """Say once of a session that it stays deleted."""
        if record.session not in self.file.deleted and record.records:
            self.file.deleted.add(record.session)
            problem = f"session {record.session} was deleted here; --undelete brings it back"
            self.file.report.add_problem(record.records[0].line, problem)

    def parent(self, record: MessageRecord, session_id: int) -> Known | None:
        """Return the message the record hangs on: of its session, or of one that this file repeats."""
        candidates = self.known.get(record.parent, []) if record.parent else []
        for known in candidates:
            if known.session_id == session_id:
                return known
        near = (self.file.sessions, self.file.repeated)
        return next((known for known in candidates if any(known.session_id in some for some in near)), None)

    def arrive(self, growth: Growth, known: Known) -> None:
        """Give a session that has written nothing yet the head that another session wrote for it (a resumed file)."""
        if growth.movable and known.session_id != growth.id and growth.next_sequence == 1:
            growth.head_id, growth.dirty = known.id, True

    def stage(self, record: MessageRecord, growth: Growth) -> int:
        """Put a new message in line to be entered at its session's end, and return its id to be."""
        row_id, self.next_id = self.next_id, self.next_id + 1
        parent = self.parent(record, growth.id)
        position = parent.position + 1 if parent else 1
        created = time_text(record.created_at) if record.created_at else None
        values = message_values(self.file, record)
        values |= {
            "id": row_id,
            "uuid": new_uuid(),
            "session_id": growth.id,
            "sequence_number": growth.next_sequence,
            "position": position,
            "role": record.role,
            "origin": record.origin,
            "status": "failed" if record.error else "complete",
            "external_id": record.external_id,
        }
        if parent:
            values["parent_id"] = parent.id
        elif record.parent:
            values["parent_external_id"] = record.parent
        if created:
            values["created_at"] = values["completed_at"] = created
        if record.metadata:
            values["metadata"] = record.metadata
        for name in ("parts", "usage", "metadata"):
            if name in values:
                values[name] = dump_json(values[name])
        self.staged.append(values)
        if record.packed.attachments:
            self.attachments.append((row_id, record))
        entered = Known(
            row_id, growth.id, position, record.role, record.weight, record.opening, record.usage.output_tokens
        )
        self.known.setdefault(record.external_id, []).append(entered)
        self.grow(growth, row_id, record, created, parent)
        return row_id

    def grow(
        self, growth: Growth, row_id: int, record: MessageRecord, created: str | None, parent: Known | None
    ) -> None:
        growth.next_sequence += 1
        growth.dirty = True
        model = self.file.model(record.model)
        if model is not None:
            growth.model_id = model.id
        extends = parent is not None and parent.id == growth.head_id
        free = growth.movable and self.file.heads.get(growth.id) != "" and growth.id not in self.file.older
        if free and (extends or created is None or created >= growth.latest):  # lines may come in any order
            growth.head_id = row_id
        if created:
            growth.latest = max(growth.latest, created)
            growth.earliest = min(growth.earliest or created, created)
        self.derive(growth, record)

    def derive(self, growth: Growth, record: MessageRecord) -> None:
        """Take the first prompt for a title, until there is one."""
        if growth.title is None and record.role == "user" and record.origin != "harness":
            said = _TAGGED.sub("", record.packed.content) or record.packed.content
            growth.title = growth.imported_title = texts.one_line(said, TITLE_CHARACTERS) or None
            growth.dirty = True

    def replace(self, record: MessageRecord, known: Known) -> None:
        """Put the newer version of a message in the place of the older; its raw records stay."""
        self.write_messages()  # it may wait in this chunk
        left = held_by(str(known.id))
        told = {"status": "failed" if record.error else "complete", "metadata": record.metadata}
        update_row(Message, known.id, **dict.fromkeys(REPLACED) | message_values(self.file, record) | told)
        database.execute_sql("DELETE FROM message_blobs WHERE message_id = ?", (known.id,))
        keep_attachments(known.id, record.packed.attachments)
        collect(left)
        known.length, known.opening = record.weight, record.opening
        known.output_tokens = record.usage.output_tokens

    # Writing

    def write(self) -> None:
        self.ledger.compress()
        self.write_messages()
        grown = [
            (
                growth.head_id,
                growth.next_sequence,
                growth.title,
                growth.imported_title,
                growth.source_updated_at,
                growth.model_id,
                growth.earliest,
                growth.latest,
                growth.id,
            )
            for growth in self.growths.values()
            if growth.dirty
        ]
        with database.translated():
            self.ledger.write()
            database.driver_connection().executemany(_GROW, grown)

    def write_messages(self) -> None:
        """Enter the sessions and messages in line."""
        with database.translated():
            database.driver_connection().executemany(_MAKE, self.made)
        bulk.enter_messages(self.staged)
        self.made.clear()
        self.staged.clear()
        for row_id, record in self.attachments:
            keep_attachments(row_id, record.packed.attachments)
        self.attachments.clear()
