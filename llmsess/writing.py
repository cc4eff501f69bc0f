"""Writing messages: the growing end of a session, and how rows are read back, by constant SQL.

The head of a session is read and moved in one IMMEDIATE transaction, so that concurrent appends form one line.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from peewee import Field, ForeignKeyField

from llmsess import door, texts
from llmsess.db import database
from llmsess.errors import DamagedConversation, NotFound
from llmsess.models import Message, dump_json, new_uuid, now, time_text
from llmsess.parts import Attachment, pack, unpack
from llmsess.rows import insert_row, readable, row_reader

FIRST_SEQUENCE = 1
AT_ONCE = 200  # messages of a stream
TITLE_CHARACTERS = 80  # of a title cut from a prompt
ATTACHED = ("image", "image_url", "document", "file", "audio", "input_audio", "input_image", "input_file")  # blocks

_COLUMNS = [field.column_name for field in Message._meta.sorted_fields]
SELECT = ", ".join(texts.whole("m", name) if name in texts.FIELDS else f"m.{name}" for name in _COLUMNS)
_WALK = """
    WITH RECURSIVE path (id, parent_id, position) AS (
        SELECT id, parent_id, position FROM messages WHERE id = ?
        UNION ALL
        SELECT m.id, m.parent_id, m.position FROM path p JOIN messages m
        ON m.id = p.parent_id AND m.position < p.position
    )
"""  # from a message to its root; falling positions end it even where damage made a circle
_PATH = f"""{_WALK}
    SELECT {SELECT} FROM path p CROSS JOIN messages m ON m.id = p.id LIMIT ?
"""
_IDS = f"{_WALK} SELECT id, position FROM path"
_SOME = f"SELECT {SELECT} FROM json_each(?) w CROSS JOIN messages m ON m.id = w.value"
_ATTACHED = "EXISTS (SELECT 1 FROM message_blobs b WHERE b.message_id = m.id)"
_SENT = f"""
    FROM path p CROSS JOIN messages m ON m.id = p.id
    WHERE m.role IN ('system', 'developer', 'user', 'assistant') AND m.status <> 'failed'
    AND (m.content <> '' OR (m.role = 'user' AND {_ATTACHED}))
"""
_CONTEXT = f"""{_WALK}
    SELECT m.role, {texts.whole("m", "content")}, CASE WHEN m.role = 'user' AND {_ATTACHED} THEN m.id END, p.position
    {_SENT}
"""
_CONTEXT_IDS = f"{_WALK} SELECT m.role, m.uuid {_SENT} LIMIT ?"
_OWN = f"SELECT {SELECT} FROM messages m WHERE m.session_id = ? ORDER BY m.sequence_number"
_BLOB = """
    SELECT b.data FROM message_blobs mb JOIN blobs b ON b.id = mb.blob_id WHERE mb.message_id = ? AND mb.position = ?
"""
_HEAD = """
    SELECT s.head_id, s.next_sequence, m.position, s.status, s.title
    FROM sessions s LEFT JOIN messages m ON m.id = s.head_id WHERE s.id = ?
"""
_ADVANCE = """
    UPDATE sessions SET head_id = ?, next_sequence = ?, last_activity_at = max(last_activity_at, ?), status = ?,
    ended_at = NULL,
    title = coalesce(title, ?) WHERE id = ?
"""
read = row_reader(Message, _COLUMNS)


class End:
    """The growing end of a session, inside one transaction; `growing()` opens it."""

    def __init__(self, session_id: int) -> None:
        row = database.execute_sql(_HEAD, (session_id,)).fetchone()
        if row is None or row[3] == "deleted":
            raise NotFound("session", "(deleted)", hint="it was deleted meanwhile")
        if row[0] is not None and row[2] is None:  # its id may be the next message's
            raise DamagedConversation("the last message is gone")
        self._begin(session_id, row[0], row[1], row[2] or 0, row[4])

    def _begin(self, session_id: int, head_id: int | None, sequence: int, position: int, title: str | None) -> None:
        self.session_id, self.head_id, self.next_sequence, self.position = session_id, head_id, sequence, position
        self.status, self.title, self.latest = "active", title, now()

    @classmethod
    def of_new(cls, session_id: int, title: str | None = None) -> End:
        """Return the end of a session that this transaction has made, without reading it."""
        end = cls.__new__(cls)
        end._begin(session_id, None, FIRST_SEQUENCE, 0, title)
        return end

    def add(self, role: str, content: str | Sequence[Any], **fields: Any) -> Message:
        """Write a message under the head, move the head to it and return it.

        `fields` are columns of a message, checked at the door by whoever took them from a caller.
        """
        packed = pack(content)
        return self.enter(role, packed.fields() | fields, packed.attachments)

    def enter(self, role: str, values: dict[str, Any], attachments: Sequence[Attachment] = ()) -> Message:
        """Write a message, whose text is among its columns already, as `add()` does."""
        values.setdefault("origin", door.ORIGIN_OF.get(role, "harness"))
        values.setdefault("status", "complete")
        values.setdefault("created_at", self.latest)
        values |= {
            "uuid": new_uuid(),
            "session_id": self.session_id,
            "sequence_number": self.next_sequence,
            "parent_id": self.head_id,
            "position": self.position + 1,
            "role": role,
        }
        if values["status"] not in ("pending", "streaming"):
            values.setdefault("completed_at", self.latest)
        if self.title is None and role == "user" and values["content"]:
            self.title = texts.one_line(values["content"], TITLE_CHARACTERS) or None
        row_id = insert_row(Message, **texts.stored(values))
        keep_attachments(row_id, attachments)
        self.head_id, self.position, self.next_sequence = row_id, self.position + 1, self.next_sequence + 1
        return row_of(row_id, values)

    def save(self) -> None:
        """Write the moved head."""
        moment = time_text(self.latest)
        values = (self.head_id, self.next_sequence, moment, self.status, self.title, self.session_id)
        database.execute_sql(_ADVANCE, values)


@contextlib.contextmanager
def growing(session_id: int) -> Iterator[End]:
    """Open the end of a session in a write transaction; what was added is saved with the head at its end."""
    with database.atomic():
        end = End(session_id)
        first = end.next_sequence
        yield end
        if end.next_sequence != first:
            end.save()


def row_of(row_id: int | None, values: dict[str, Any]) -> Message:
    """Return a Message of values just written, without reading it back; without an id it is no row."""
    names = Message._meta.combined
    message = Message(__no_default__=1)
    message.__data__.update({field.name: None for field in Message._meta.sorted_fields})
    message.__data__.update({names[key].name: value for key, value in values.items()}, id=row_id)
    vars(message)["_dirty"].clear()
    return message


def keep_attachments(message_id: int, attachments: Sequence[Attachment]) -> None:
    """Store a message's attachments, each once by its content."""
    for position, attachment in enumerate(attachments):
        sha256 = hashlib.sha256(attachment.data).hexdigest()
        database.execute_sql(
            "INSERT INTO blobs (sha256, media_type, size_bytes, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (sha256, attachment.media_type, len(attachment.data), attachment.data),
        )
        database.execute_sql(
            "INSERT INTO message_blobs (message_id, blob_id, position) SELECT ?, id, ? FROM blobs WHERE sha256 = ?",
            (message_id, position, sha256),
        )


Held = tuple[set[str], set[int]]  # hashes of large texts, and inner ids of attachments


def held_by(messages: str) -> Held:
    """Return the large texts and the attachments of messages, chosen by the SQL of their ids."""
    run = database.execute_sql
    hashes = {
        row[0]
        for name in texts.FIELDS
        for row in run(
            f"SELECT DISTINCT {name}_sha256 FROM messages WHERE id IN ({messages}) AND {name}_sha256 IS NOT NULL"
        )
    }
    return hashes, {row[0] for row in run(f"SELECT blob_id FROM message_blobs WHERE message_id IN ({messages})")}


def collect(held: Held) -> None:
    """Delete those large texts and attachments that no message holds any more."""
    for sha256 in held[0]:
        database.execute_sql(f"DELETE FROM texts AS t WHERE sha256 = ? AND {UNUSED_TEXT}", (sha256,))
    for blob in held[1]:
        database.execute_sql(f"DELETE FROM blobs AS b WHERE id = ? AND {UNUSED_BLOB}", (blob,))


UNUSED_TEXT = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM messages WHERE {name}_sha256 = t.sha256)" for name in texts.FIELDS
)
UNUSED_BLOB = "NOT EXISTS (SELECT 1 FROM message_blobs WHERE blob_id = b.id)"


def blocks(message: Message) -> list[Any] | None:
    """Return the message's exact structured content, attachments included, None where its content says all."""

    def attachment(position: int) -> bytes:
        return bytes(database.execute_sql(_BLOB, (message.id, position)).fetchone()[0])

    return unpacked(message, attachment)


def unpacked(message: Message, attachment: Callable[[int], bytes] | None = None) -> list[Any] | None:
    """Return the message's structured content, attachments where there is a way to them; raises DamagedConversation."""
    fields = {name: getattr(message, name) for name in texts.FIELDS}
    try:
        return unpack(fields, message.parts, attachment)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise DamagedConversation(f"the parts of message {message.uuid[:8]} do not fit its texts") from error


def message_by_id(message_id: int) -> Message:
    """Return the message of that inner id, its text whole; raises NotFound."""
    row = database.execute_sql(f"SELECT {SELECT} FROM messages m WHERE m.id = ?", (message_id,)).fetchone()
    if row is None:
        raise NotFound("message", "(deleted)", hint="it was deleted meanwhile")
    with readable(f"message {row[1]!s:.8}"):
        return read(row)  # type: ignore[no-any-return]


def path_to(message_id: int, *, last: int | None = None) -> list[Message]:
    """Return the messages from the root (or the newest `last`) to the message of that inner id, in order.

    Raises DamagedConversation where one of them is gone or cannot be read.
    """
    with readable("a message"):
        rows = database.execute_sql(_PATH, (message_id, -1 if last is None else last)).fetchall()
        messages = [read(row) for row in reversed(rows)]
    if last is None or len(rows) < last:
        _check_root(messages[0].position if messages else None)
    _check_whole(messages, len(rows))
    return messages


def _check_root(position: Any) -> None:
    """Raise DamagedConversation where the first message of a path is not its root."""
    if position is None:
        raise DamagedConversation("the last message is gone")
    if not isinstance(position, int):
        raise DamagedConversation("a message has no position")
    if position != 1:
        raise DamagedConversation(f"the message at position {position - 1} is gone")


def _check_whole(messages: Sequence[Message], count: int) -> None:
    """Raise DamagedConversation where fewer came than there should be, or one has what no llmsess has written."""
    if len(messages) < count:
        raise DamagedConversation("it was deleted")
    for message in messages:
        data: dict[str, Any] = message.__data__
        for name, kind in _KINDS:
            value = data[name]
            if value is not None and (type(value) is not kind or (kind is datetime and value.tzinfo is None)):
                raise DamagedConversation(f"its {name} cannot be read")
        for name in texts.FIELDS:
            if data[name] is None and (data[f"{name}_sha256"] is not None or name == "content"):
                raise DamagedConversation(f"its {name} is gone")


_KIND_OF: dict[str, Any] = {
    "TEXT": str,
    "VARCHAR": str,
    "INT": int,
    "BIGINT": int,
    "AUTO": int,
    "TIMESTAMPTZ": datetime,
    "JSON": dict,
}


def _kind(field: Field) -> Any:
    if field.name == "parts":
        return list
    return int if isinstance(field, ForeignKeyField) else _KIND_OF[field.field_type]


_KINDS = [(field.name, _kind(field)) for field in Message._meta.sorted_fields]


def check_head(head_id: int | None) -> None:
    """Raise DamagedConversation where a head names a message that is gone."""
    if head_id is not None and not database.execute_sql("SELECT 1 FROM messages WHERE id = ?", (head_id,)).fetchone():
        raise DamagedConversation("the last message is gone")


def ids_to(message_id: int) -> list[int]:
    """Return the inner ids from the root to the message of that inner id; raises DamagedConversation."""
    rows = database.execute_sql(_IDS, (message_id,)).fetchall()
    _check_root(rows[-1][1] if rows else None)
    return [row[0] for row in reversed(rows)]


def stream_messages(ids: Sequence[int]) -> Iterator[Message]:
    """Yield the messages of these inner ids, in this order, read a few hundred at a time.

    Raises DamagedConversation where one is gone or cannot be read.
    """
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        with readable("a message"):
            messages = [read(row) for row in database.execute_sql(_SOME, (dump_json(some),)).fetchall()]
        _check_whole(messages, len(some))
        yield from messages


def written_in(session_id: int) -> list[Message]:
    """Return every message written in a session, in the order of writing."""
    with readable("a message"):
        return [read(row) for row in database.execute_sql(_OWN, (session_id,)).fetchall()]


def context_to(message_id: int) -> list[tuple[str, str, list[Any] | None]]:
    """Return what of a path is sent to a model, as (role, text, blocks where there are attachments) from the root on.

    Those are the texts of people, models and instructions, and what people attached; no events, failed replies or tool
    traffic.
    """
    said = []
    rows = database.execute_sql(_CONTEXT, (message_id,)).fetchall()
    if not rows or rows[-1][3] != 1:  # the root is no message that is sent, or is gone
        ids_to(message_id)
    for role, text, attached, position in reversed(rows):
        if not isinstance(text, str):
            raise DamagedConversation(f"the text of the message at position {position} is gone")
        sent = None if attached is None else _sent_blocks(message_by_id(attached))
        if text or sent:
            said.append((role, text, sent))
    return said


def context_ids(message_id: int, limit: int) -> list[tuple[str, str]]:
    """Return role and uuid of what of a path is sent, the newest `limit` of it, in order."""
    return database.execute_sql(_CONTEXT_IDS, (message_id, limit)).fetchall()[::-1]  # type: ignore[no-any-return]


def _sent_blocks(message: Message) -> list[Any] | None:
    """Return the texts and attachments of a message, None where there are only texts."""
    found = [block for block in blocks(message) or [] if isinstance(block, dict)]
    if not any(block.get("type") in ATTACHED for block in found):
        return None
    return [block for block in found if block.get("type") in ("text", *ATTACHED)]
