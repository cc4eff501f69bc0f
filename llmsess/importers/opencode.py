"""opencode's sessions: files under `storage/`, since 1.2 the database `opencode.db`, or what `opencode export` writes.

A session, its messages and their parts are separate files (`session/`, `message/<session>/`, `part/<message>/`), or
rows whose JSON (`data`) leaves the ids out. Of the files a message with its parts is a record; the session file itself
is one that is no message. Input is told without what was cached, output without reasoning. A call of a tool and its
result are one part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import mapping, mappings, moment, parsed, records, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import reported_usd, token_count
from llmsess.parts import Packed, pack
from llmsess.prices import Usage

NAME = "opencode"
DESCRIPTION = "opencode sessions (storage/ folder, opencode.db, opencode export)"
PLACES = ("~/.local/share/opencode/opencode.db", "~/.local/share/opencode/storage")
NAMED = re.compile(r"[A-Za-z0-9_-]+")  # an id that may be the name of a folder
MAX_PART_BYTES = 256 * 1024 * 1024
SILENT = ("step-start", "step-finish", "snapshot", "patch", "compaction", "agent", "subtask", "retry")


def matches(head: Head) -> bool:
    """Return whether it is a session file, an exported session, or the database."""
    tables = head.tables
    if {"session", "message", "part"} <= tables.keys():
        asked = {"message": {"id", "session_id", "data"}, "part": {"id", "message_id", "data"}, "session": {"id"}}
        return all(columns <= tables[table] for table, columns in asked.items())
    return any(_is_session(record) or _is_export(record) for record in head.objects)


def _is_session(record: dict[str, Any]) -> bool:
    return (
        isinstance(record.get("time"), dict) and "title" in record and ("directory" in record or "projectID" in record)
    )


def _is_export(record: dict[str, Any]) -> bool:
    messages = record.get("messages")
    return isinstance(record.get("info"), dict) and isinstance(messages, list) and "id" in record["info"]


def is_part(head: Head) -> bool:
    """Return whether a file is a message or a part of one, which its session's file leads to."""
    return any(
        ("sessionID" in record and "role" in record) or ("messageID" in record and "type" in record) or _is_text(record)
        for record in head.objects
    )


def _is_text(record: dict[str, Any]) -> bool:
    return (
        record.keys() <= {"id", "type", "text", "time", "synthetic", "metadata"} and {"type", "text"} <= record.keys()
    )


def read(source: Source) -> Iterator[Item]:
    """Yield the sessions of a file or a database with their messages."""
    if source.head().tables:
        yield from of_database(source)
        return
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the session is no object")
        elif _is_export(value):
            pairs = [
                (mapping(message.get("info")), mappings(message.get("parts")))
                for message in mappings(value["messages"])
            ]
            yield from session(value["info"], [(info, parts, None) for info, parts in pairs])
            yield Whole(record)
        elif text_or_none(value.get("id")) is None:
            yield Bad(record, "a session without an id")
        else:
            yield Ignored(record)
            yield from of_files(value, source)


Message = tuple[dict[str, Any], list[dict[str, Any]], InputRecord | None]  # the message, its parts, its record


def of_files(value: dict[str, Any], source: Source) -> Iterator[Item]:
    """Yield a session whose messages and parts lie in folders beside its own."""
    found: list[Message] = []
    number = 1
    for file in source.files(f"../../message/{_safe(value['id'])}"):
        number += 1
        data = file.read(MAX_PART_BYTES)
        info = _object(data)
        if info is None:
            yield Bad(InputRecord(number, data or b""), f"{file.name} is no message")
            continue
        name = _safe(info.get("id") or file.stem)
        place, parts = number, []
        for part in [*source.files(f"../../part/{name}"), *_flat(source, name)]:
            data = part.read(MAX_PART_BYTES)
            made = _object(data)
            if made is None:
                number += 1
                yield Bad(InputRecord(number, data or b""), f"{part.name} is no part of a message")
            else:
                parts.append(made)
        found.append((info, parts, _record(place, info, parts)))
    yield from session(value, found)


def _record(number: int, info: dict[str, Any], parts: list[dict[str, Any]]) -> InputRecord:
    """Return a message with its parts as one record."""
    raw = json.dumps({"info": info, "parts": parts}, ensure_ascii=False).encode(errors="surrogatepass")
    return InputRecord(number, raw, text_or_none(info.get("id")))


def _flat(source: Source, message: str) -> Iterator[Source]:
    """Yield the parts of a message that lie directly in `part/`, as the oldest versions have them."""
    for file in source.files("../../part"):
        if (_object(file.read(MAX_PART_BYTES)) or {}).get("messageID") == message:
            yield file


def _safe(name: Any) -> str:
    """Return an id that is the name of a folder; of any other no folder is there."""
    return name if isinstance(name, str) and NAMED.fullmatch(name) else "-"


def _object(data: bytes | None) -> dict[str, Any] | None:
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def of_database(source: Source) -> Iterator[Item]:
    """Yield the sessions of a database; the ids of a row stand beside its JSON."""
    with source.database() as connection:
        number = 0
        for key, row in _rows(connection, "SELECT * FROM session ORDER BY id"):
            found: list[Message] = []
            for message, stored in _rows(connection, "SELECT * FROM message WHERE session_id IS ? ORDER BY id", key):
                number += 1
                pieces = _rows(connection, "SELECT * FROM part WHERE message_id IS ? ORDER BY id", message)
                told = [stored, *(piece for _, piece in pieces)]
                read = [parsed(one.get("data")) for one in told]
                if key is None or message is None or not all(isinstance(value, dict) for value in read):
                    raw = json.dumps(told, default=str).encode(errors="surrogatepass")
                    yield Bad(InputRecord(number, raw), "a message without an id, or whose data is no object")
                    continue
                made = [value | {"id": str(one.get("id"))} for value, one in zip(read, told, strict=True)]
                found.append((made[0], made[1:], _record(number, made[0], made[1:])))
            if key is not None:
                yield from session(_session_of(row), found)


def _rows(connection: Any, sql: str, *values: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield each row's id as it is stored, and the row as a dictionary; what is no text or number as text."""
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    for row in cursor.fetchall():
        told = [value.decode(errors="replace") if isinstance(value, bytes) else value for value in row]
        yield row[names.index("id")], dict(zip(names, told, strict=True))


def _session_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the database as the session file would have it."""
    inner = mapping(parsed(row.get("data")))
    times = {"created": row.get("time_created"), "updated": row.get("time_updated")}
    names = {"title": "title", "directory": "directory", "parentID": "parent_id", "version": "version"}
    columns = {"id": str(row["id"]), "time": times} | {ours: row.get(theirs) for ours, theirs in names.items()}
    return inner | {key: value for key, value in columns.items() if value is not None}


def session(value: dict[str, Any], messages: list[Message]) -> Iterator[Item]:
    """Yield a session and its messages in the order of their times."""
    name = str(value["id"])
    parent = text_or_none(value.get("parentID"))
    yield SessionRecord(
        name,
        title=text_or_none(value.get("title")),
        project=text_or_none(value.get("directory")),
        started_at=moment(mapping(value.get("time")).get("created")),
        parent_external_id=parent,
        relation="subagent" if parent else None,
        updated_at=moment(mapping(value.get("time")).get("updated")),
        metadata={"version": value["version"]} if text_or_none(value.get("version")) else None,
    )
    before = None
    for info, parts, record in sorted(
        messages, key=lambda message: str(moment(mapping(message[0].get("time")).get("created")))
    ):
        external_id = text_or_none(info.get("id")) or f"{name}#{record.line if record else len(parts)}"
        made = message(name, external_id, before, info, parts, record)
        if parent and made.origin == "human":
            made.origin = "model"  # the parent's: it is a sub-agent
        yield made
        before = external_id


def message(
    session: str, external_id: str, parent: str | None, info: dict[str, Any], parts: list[dict[str, Any]],
    record: InputRecord | None,
) -> MessageRecord:  # fmt: skip
    """Return a message with its parts."""
    role = {"user": "user", "assistant": "assistant"}.get(str(info.get("role")), "event")
    model = mapping(info.get("model")) or info
    provider, name = text_or_none(model.get("providerID")), text_or_none(model.get("modelID"))
    counted, failed = mapping(info.get("tokens")), mapping(info.get("error"))
    error = text_or_none(mapping(failed.get("data")).get("message")) or text_or_none(failed.get("name"))
    spoken = [part for part in parts if part.get("type") == "text"]
    made_up = role == "user" and spoken and all(part.get("synthetic") is True for part in spoken)
    return MessageRecord(
        session,
        external_id,
        parent,
        role,
        "harness" if made_up or role == "event" else "human" if role == "user" else "model",
        packed(parts),
        model=f"{provider}/{name}" if provider and name and role == "assistant" else None,
        usage=tokens(counted) if counted else Usage(),
        raw_usage=counted or None,
        cost_usd=cost(info, parts),
        finish_reason=text_or_none(info.get("finish")),
        error=error,
        created_at=moment(mapping(info.get("time")).get("created")),
        records=[record] if record is not None else [],
    )


def packed(parts: list[dict[str, Any]]) -> Packed:
    """Return the content of a message's parts."""
    said: list[Any] = []
    for part in parts:
        kind, state = part.get("type"), mapping(part.get("state"))
        if kind == "text" and isinstance(part.get("text"), str):
            said.append(blocks.text(part["text"]))
        elif kind == "reasoning" and isinstance(part.get("text"), str):
            said.append(blocks.thinking(part["text"]))
        elif kind == "tool":
            said.append(blocks.tool_use(part.get("callID"), part.get("tool"), state.get("input")))
            answer = state.get("output", state.get("error"))
            if answer is not None:
                said.append(
                    blocks.tool_result(part.get("callID"), answer, part.get("tool"), status=state.get("status"))
                )
        elif kind == "file":
            about = {"file_name": part.get("filename"), "media_type": part.get("mime")}
            said.append(
                blocks.from_data_url("file", part.get("url"), **about)
                or {"type": "file", **about, "url": part.get("url")}
            )
        elif kind in SILENT:
            said.append({"type": "data", "part": part})
        else:
            said.append(part)
    return pack(said)


def cost(info: dict[str, Any], parts: list[dict[str, Any]]) -> Any:
    """Return what a reply cost in USD: a number; where it is none, the sum of its steps where all are told in USD."""
    told = reported_usd(info.get("cost"))
    steps = [part.get("cost") for part in parts if part.get("type") == "step-finish"]
    each = [reported_usd(mapping(step).get("usd", step)) for step in steps]
    if told is not None and (told or not each):
        return told if told or mapping(info.get("tokens")) else None
    return (
        sum(found for found in each if found is not None) if each and all(found is not None for found in each) else told
    )


def tokens(counted: dict[str, Any]) -> Usage:
    """Return opencode's counts as ours: what was cached into the input, reasoning into the output."""
    cache = mapping(counted.get("cache"))
    fresh, output, thought = (token_count(counted.get(key)) for key in ("input", "output", "reasoning"))
    cached, written = token_count(cache.get("read")), token_count(cache.get("write"))
    return Usage(
        None if fresh is None else fresh + (cached or 0) + (written or 0),
        cached,
        written,
        None if output is None else output + (thought or 0),
        thought,
    )
