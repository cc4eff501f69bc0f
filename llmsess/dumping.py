"""The rows of sessions as llmsess' own format has them: references as uuids, NULL left out, parents before children.

A session brings along the messages of others that its own hang on: those sessions are marked `partial`. `restoring`
reads these rows; both follow the columns of models.py, so that a new column goes along by itself.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from peewee import ForeignKeyField, JSONField

from llmsess import parts, texts
from llmsess.db import database
from llmsess.models import Call, LanguageModel, Message, Project, Session, SessionSnapshot, dump_json

VERSION = 1  # of the format
BATCH = 200  # messages read at once
PIECE_BYTES = 48 * 1024 * 1024  # of an attachment on one line
KEPT = {  # columns that stay: kept by triggers, or of the process that writes
    Session: ("next_sequence", "total_messages", "total_input_tokens", "total_cached_input_tokens",
              "total_cache_write_tokens", "total_output_tokens", "total_cost", "unpriced_messages"),
    Message: ("owner", "lease_expires_at", "content_sha256", "reasoning_sha256", "tool_text_sha256"),
    SessionSnapshot: ("session_state",),
}  # fmt: skip
Row = dict[str, Any]
DAMAGED: Row = {}  # in the place of a row that cannot be read, or before one of which something is gone
Masked = Callable[[Any], Any]


@functools.cache
def columns(table: Any) -> list[str]:
    """Return the columns of a table that go along as they are: neither inner ids nor references."""
    fields = [field for field in table._meta.sorted_fields if not isinstance(field, ForeignKeyField)]
    return [field.column_name for field in fields if field.column_name not in ("id", "head_id", *KEPT.get(table, ()))]


def json_columns(table: Any) -> set[str]:
    """Return the columns of a table that hold JSON."""
    return {field.column_name for field in table._meta.sorted_fields if isinstance(field, JSONField)}


_NAMED = {"project": Project, "model": LanguageModel}
_SESSION = f"""
    SELECT {", ".join(f"s.{name}" for name in columns(Session))}, p.uuid AS project, l.uuid AS model, h.uuid AS head,
        s.head_id IS NOT NULL AND h.id IS NULL AS _lost, a.uuid AS parent_session
    FROM sessions s LEFT JOIN projects p ON p.id = s.project_id
    LEFT JOIN models l ON l.id = s.model_id LEFT JOIN messages h ON h.id = s.head_id
    LEFT JOIN sessions a ON a.id = s.parent_session_id WHERE s.id = ?
"""
_whole = {name: f"{texts.whole('m', name)} AS {name}" for name in texts.FIELDS}
_MESSAGES = f"""
    SELECT m.id AS _id, s.uuid AS session, {", ".join(_whole.get(name, f"m.{name}") for name in columns(Message))},
        p.uuid AS parent, m.parent_id IS NOT NULL AND p.id IS NULL AS _lost, l.uuid AS model,
        EXISTS (SELECT 1 FROM message_blobs b WHERE b.message_id = m.id) AS _held,
        EXISTS (SELECT 1 FROM calls c WHERE c.message_id = m.id) AS _sent
    FROM json_each(?) w CROSS JOIN messages m ON m.id = w.value JOIN sessions s ON s.id = m.session_id
    LEFT JOIN messages p ON p.id = m.parent_id LEFT JOIN models l ON l.id = m.model_id
"""
_ABOVE = """
    WITH RECURSIVE above (id) AS (
        SELECT DISTINCT m.parent_id FROM messages m WHERE m.session_id = ? AND m.parent_id IS NOT NULL
        UNION SELECT head_id FROM sessions WHERE id = ? AND head_id IS NOT NULL
        UNION SELECT head_id FROM session_snapshots WHERE session_id = ? AND head_id IS NOT NULL
        UNION SELECT m.parent_id FROM above a JOIN messages m ON m.id = a.id WHERE m.parent_id IS NOT NULL
    ) SELECT m.id, m.session_id FROM above a JOIN messages m ON m.id = a.id WHERE m.session_id <> ?
"""
_SESSIONS_ABOVE = """
    WITH RECURSIVE above (id) AS (
        SELECT parent_session_id FROM sessions WHERE id = ? AND parent_session_id IS NOT NULL
        UNION SELECT s.parent_session_id FROM above a JOIN sessions s ON s.id = a.id
        WHERE s.parent_session_id IS NOT NULL
    ) SELECT id FROM above
"""
_HELD = """
    SELECT b.sha256, b.media_type, b.data FROM message_blobs mb JOIN blobs b ON b.id = mb.blob_id
    WHERE mb.message_id = ? ORDER BY mb.position
"""


def rows(chosen: list[int], masked: Masked, *, everything: bool) -> Iterator[Row]:
    """Yield the format's line, then every row that the sessions of these inner ids need, in the order of their making.

    `masked` is given each value that people or models wrote; `everything` says that no session is left out.
    """
    yield {"type": "llmsess", "version": VERSION}
    others = {} if everything else _others(chosen)
    wanted = in_order({*chosen, *others})
    for kind, table in _NAMED.items():
        yield from _named(kind, table, None if everything else wanted, masked)
    seen: set[str] = set()
    for session_id in wanted:
        yield from _session(session_id, masked, partial=session_id in others)
        ids = sorted(others[session_id]) if session_id in others else _written(session_id)
        yield from _messages(ids, masked, seen)


def in_order(ids: set[int]) -> list[int]:
    """Return sessions in an order that is the same wherever they lie: by their start, then by uuid."""
    sql = (
        "SELECT s.id FROM json_each(?) w JOIN sessions s ON s.id = w.value ORDER BY coalesce(s.started_at, ''), s.uuid"
    )
    return [row[0] for row in database.execute_sql(sql, (dump_json(sorted(ids)),)).fetchall()]


def _others(chosen: list[int]) -> dict[int, set[int]]:
    """Return the messages of other sessions that the chosen ones hang on, by session; those above have perhaps none."""
    found: dict[int, set[int]] = {}
    known = set(chosen)
    for session_id in chosen:
        for (above,) in database.execute_sql(_SESSIONS_ABOVE, (session_id,)).fetchall():
            if above not in known:
                found.setdefault(above, set())
        for message_id, owner in database.execute_sql(_ABOVE, (session_id,) * 4).fetchall():
            if owner not in known:
                found.setdefault(owner, set()).add(message_id)
    return found


def _named(kind: str, table: Any, wanted: list[int] | None, masked: Masked) -> Iterator[Row]:
    """Yield the projects or models that the sessions and their messages name."""
    names, name = columns(table), table._meta.table_name
    used = ""
    if wanted is not None:
        of = "SELECT value FROM json_each(?1)"
        used = f"WHERE id IN (SELECT {kind}_id FROM sessions WHERE id IN ({of})"
        used += f" UNION SELECT model_id FROM messages WHERE session_id IN ({of}))" if kind == "model" else ")"
    values = () if wanted is None else (dump_json(wanted),)
    for row in database.execute_sql(
        f"SELECT {', '.join(names)} FROM {name} {used} ORDER BY created_at, uuid", values
    ).fetchall():
        yield {"type": kind} | masked(_told(names, row, json_columns(table)))


def _session(row_id: int, masked: Masked, *, partial: bool) -> Iterator[Row]:
    """Yield the row of a session."""
    try:
        told = row_of(Session, database.execute_sql(_SESSION, (row_id,)))
    except (ValueError, TypeError):
        yield DAMAGED
        return
    if told.pop("_lost"):
        yield DAMAGED
    if partial:
        kept = ("uuid", "source", "external_id", "parent_session", "relation", "started_at")
        yield {"type": "session"} | {name: told[name] for name in kept if name in told} | {"is_partial": True}
        return
    sql = "SELECT tag FROM session_tags WHERE session_id = ? ORDER BY tag"
    tags = [row[0] for row in database.execute_sql(sql, (row_id,)).fetchall()]
    yield {"type": "session"} | masked(told) | ({"tags": masked(tags)} if tags else {})


def row_of(table: Any, cursor: Any) -> Row:
    """Return what is set of the one row that a query of a table has found, JSON columns as JSON."""
    return _told([column[0] for column in cursor.description], cursor.fetchone(), json_columns(table))


def _written(session_id: int) -> list[int]:
    sql = "SELECT id FROM messages WHERE session_id = ? ORDER BY sequence_number"
    return [row[0] for row in database.execute_sql(sql, (session_id,)).fetchall()]


def _messages(ids: list[int], masked: Masked, seen: set[str]) -> Iterator[Row]:
    """Yield messages with their attachments before and their ledger in them."""
    json_names = json_columns(Message)
    for start in range(0, len(ids), BATCH):
        cursor = database.execute_sql(_MESSAGES, (dump_json(ids[start : start + BATCH]),))
        names = [column[0] for column in cursor.description]
        for row in cursor.fetchall():
            try:
                told = _told(names, row, json_names)
            except (ValueError, TypeError):
                yield DAMAGED
                continue
            row_id, held, sent = told.pop("_id"), told.pop("_held"), told.pop("_sent")
            if told.pop("_lost"):
                yield DAMAGED
            if told["status"] in ("pending", "streaming"):
                told["status"] = "interrupted"
            hashes: list[str] = []
            if held:
                yield from _blobs(row_id, seen, hashes)
            more: Row = {"blobs": hashes} if hashes else {}
            more |= {"calls": list(_calls(row_id))} if sent else {}
            yield {"type": "message"} | _masked_message(told, masked) | more


def _masked_message(told: Row, masked: Masked) -> Row:
    """Return a message with what people and models wrote masked; its parts go on fitting its texts."""
    if "parts" not in told:
        return masked(told)  # type: ignore[no-any-return]
    fields = {name: told.get(name) for name in texts.FIELDS}
    try:
        made, moved = parts.changed(fields, told["parts"], masked, lambda text: _masked_json(text, masked))
    except ValueError:  # no parts of ours: then only the texts are
        made, moved = {name: masked(text) for name, text in fields.items()}, None
    rest = {name: value for name, value in told.items() if name not in (*fields, "parts")}
    row: Row = masked(rest) | _set(dict(made)) | _set({"parts": moved})
    return row


def _masked_json(text: str, masked: Masked) -> str:
    """Return a text of JSON masked: as text where that is JSON still, else value by value."""
    changed: str = masked(text)
    try:
        json.loads(changed)
    except ValueError:
        return dump_json(masked(json.loads(text)))
    return changed


def _set(values: Row) -> Row:
    return {name: value for name, value in values.items() if value is not None}


def _blobs(message_id: int, seen: set[str], hashes: list[str]) -> Iterator[Row]:
    """Yield the attachments of a message that no message before had, large ones in pieces; fill in their hashes."""
    for sha256, media_type, data in database.execute_sql(_HELD, (message_id,)).fetchall():
        hashes.append(sha256)
        if sha256 in seen:
            continue
        seen.add(sha256)
        for start in range(0, max(len(data), 1), PIECE_BYTES):
            piece = base64.b64encode(data[start : start + PIECE_BYTES]).decode()
            more = {"more": True} if start + PIECE_BYTES < len(data) else {}
            yield {"type": "blob", "sha256": sha256, "media_type": media_type, "data": piece} | more


def _calls(message_id: int) -> Iterator[Row]:
    """Yield the requests that were sent for a message."""
    names = columns(Call)
    sql = f"SELECT {', '.join(names)} FROM calls WHERE message_id = ? ORDER BY id"
    for row in database.execute_sql(sql, (message_id,)).fetchall():
        yield _told(names, row, set())


def _told(names: Iterable[str], row: Iterable[Any], json_names: set[str]) -> Row:
    """Return what is set of a row, JSON columns as JSON; raises ValueError, TypeError for what cannot be read."""
    told = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    if any(isinstance(value, bytes) for value in told.values()):
        raise ValueError("bytes where a text should be")
    return told | {name: json.loads(told[name]) for name in json_names & told.keys()}
