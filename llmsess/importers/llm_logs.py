"""The database of simonw's llm: `logs.db`, opened for reading only.

Two generations of tables may lie side by side and are both read, table by table and column by column as they are there:
- `conversations` and `responses`: a response holds its prompt, its system prompt and its answer.
- `threads`, `turns` and `messages`: messages are known by their content and shared between threads, so here a message
  is known by its thread and its hash. A turn names the message it answered and its answer.
Texts may be in fragments. A turn or a response is a record. Files that lie outside of the database are named only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Ignored, InputRecord, Item, MessageRecord, SessionRecord
from llmsess.importers.reading import guessed_reference, mapping, mappings, moment, parsed, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.parts import pack
from llmsess.prices import Usage

NAME = "llm"
DESCRIPTION = "simonw/llm's logs.db (both generations of tables)"
PLACES = ("~/.config/io.datasette.llm/logs.db", "~/Library/Application Support/io.datasette.llm/logs.db",
          "$APPDATA/io.datasette.llm/logs.db")  # fmt: skip
ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}
MAX_LATENCY_MS = 10**9

Row = dict[str, Any]


def matches(head: Head) -> bool:
    """Return whether the database has llm's tables of either generation."""
    legacy = {"id", "prompt", "response", "conversation_id"} <= head.tables.get("responses", frozenset())
    return legacy or {"id", "tip_message_hash"} <= head.tables.get("threads", frozenset())


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a database, the older generation of tables first."""
    with source.database() as connection:
        store = _Store(connection, source.head().tables)
        if "responses" in store.tables:
            yield from _Responses(store).items()
        if "turns" in store.tables and "messages" in store.tables:
            yield from _Turns(store).items()


class _Store:
    """Rows of tables that may be there or not, as dictionaries."""

    def __init__(self, connection: Any, tables: dict[str, frozenset[str]]) -> None:
        self.connection, self.tables, self.count = connection, tables, 0

    def rows(self, table: str, rest: str = "", values: tuple[Any, ...] = ()) -> Iterator[Row]:
        if table in self.tables:
            cursor = self.connection.execute(f'SELECT * FROM "{table}" {rest}', values)
            for row in cursor:
                yield _row(cursor, row)

    def places(self, table: str, key: str) -> dict[Any, list[int]]:
        """Return the row ids of a table by a column that no index leads to."""
        found: dict[Any, list[int]] = {}
        if table in self.tables:
            for value, place in self.connection.execute(f'SELECT "{key}", rowid FROM "{table}" ORDER BY rowid'):
                found.setdefault(value, []).append(place)
        return found

    def record(self, row: Row) -> InputRecord:
        """Return a row as an input record."""
        self.count += 1
        text = json.dumps(row, ensure_ascii=False, default=repr)
        return InputRecord(self.count, text.encode(errors="surrogatepass"), text_or_none(row.get("id")))

    def joined(self, join: str, table: str, foreign: str, key: str, value: Any) -> list[Row]:
        """Return the rows of a table that a joining table leads to, in its order."""
        if join not in self.tables or table not in self.tables:
            return []
        sql = (
            f'SELECT t.* FROM "{join}" j JOIN "{table}" t ON t.id = j."{foreign}" WHERE j."{key}" = ? ORDER BY "order"'
        )
        cursor = self.connection.execute(sql, (value,))
        return [_row(cursor, row) for row in cursor]

    def fragments(self, join: str, key: str, value: Any) -> list[str]:
        found = self.joined(join, "fragments", "fragment_id", key, value)
        return [_text(row.get("content")) for row in found]

    def attachments(self, join: str, key: str, value: Any) -> list[blocks.Block]:
        return list(map(attached, self.joined(join, "attachments", "attachment_id", key, value)))


def _text(value: Any) -> str:
    """Return a column's text, "" for anything else a damaged row may have."""
    return value if isinstance(value, str) else ""


def _row(cursor: Any, values: Any) -> Row:
    """Return a row as a dictionary; only an attachment's content may be bytes."""
    return {
        name: value.decode(errors="replace") if isinstance(value, bytes) and name != "content" else value
        for (name, *_), value in zip(cursor.description, values, strict=True)
    }


def attached(row: Row) -> blocks.Block:
    """Return an attachment: its bytes, or where they lie."""
    kind = str(row.get("type") or "").partition("/")[0]
    shape = kind if kind in ("image", "audio", "video") else "file"
    if isinstance(row.get("content"), bytes):
        return blocks.media(shape, row.get("type"), row["content"])
    return {"type": shape, "media_type": row.get("type"), "path": row.get("path"), "url": row.get("url")}


def reply_fields(row: Row) -> dict[str, Any]:
    """Return what a response or a turn tells of its reply."""
    details = mapping(parsed(row.get("token_details")))
    given, written = token_count(row.get("input_tokens")), token_count(row.get("output_tokens"))
    cached = token_count(mapping(details.get("prompt_tokens_details")).get("cached_tokens"))
    thought = token_count(mapping(details.get("completion_tokens_details")).get("reasoning_tokens"))
    counted = {"input_tokens": given, "output_tokens": written} | details
    took = row.get("duration_ms")
    options = mapping(parsed(row.get("options_json")))
    return {
        "model": guessed_reference(text_or_none(row.get("resolved_model")) or text_or_none(row.get("model")), "llm"),
        "usage": Usage(given, cached, None, written, thought),
        "raw_usage": counted if any(value is not None for value in counted.values()) else None,
        "latency_ms": took if isinstance(took, int) and 0 <= took < MAX_LATENCY_MS else None,
        "created_at": moment(row.get("datetime_utc")),
        "metadata": {"options": options} if options else None,
    }


class _Responses:
    """The older tables: a conversation is its responses in the order of their ids."""

    def __init__(self, store: _Store) -> None:
        self.store = store
        self.calls = store.places("tool_calls", "response_id")
        self.results = store.places("tool_results", "response_id")

    def items(self) -> Iterator[Item]:
        names = {row["id"]: row for row in self.store.rows("conversations")}
        session, parent, system = None, None, None
        for row in self.store.rows("responses", "ORDER BY conversation_id, id"):
            of = text_or_none(row.get("conversation_id")) or f"response:{row.get('id')}"
            said = text_or_none(row.get("system")) or None
            fragments = self.store.fragments("system_fragments", "response_id", row.get("id"))
            said = "\n".join([*fragments, *filter(None, [said])]) or None
            if of != session:
                session, parent, system = of, None, said
                conversation = names.get(of, {})
                yield SessionRecord(
                    of,
                    title=text_or_none(conversation.get("name")),
                    model=guessed_reference(text_or_none(conversation.get("model")), "llm"),
                    started_at=moment(row.get("datetime_utc")),
                    system_prompt=said,
                )
            for message in self.turn(row, of, said if said != system else None):
                message.parent, parent = parent, message.external_id
                yield message
            system = said or system

    def turn(self, row: Row, session: str, system: str | None) -> Iterator[MessageRecord]:
        """Yield the messages of a response: what was asked, what tools answered, the reply."""
        key, time = str(row.get("id")), moment(row.get("datetime_utc"))
        if system:
            yield MessageRecord(session, f"{key}/system", None, "system", "human", pack(system), created_at=time)
        results = list(self.tool_results(key))
        if results:
            yield MessageRecord(session, f"{key}/tools", None, "tool", "tool", pack(results), created_at=time)
        asked = "\n".join(
            [*self.store.fragments("prompt_fragments", "response_id", key), *filter(None, [_text(row.get("prompt"))])]
        )
        files = self.store.attachments("prompt_attachments", "response_id", key)
        if asked or files or not results:
            said = [*([blocks.text(asked)] if asked else []), *files]
            yield MessageRecord(session, f"{key}/prompt", None, "user", "human", pack(said), created_at=time)
        reasoning, text = text_or_none(row.get("reasoning")), row.get("response")
        reply = [blocks.thinking(reasoning)] if reasoning else []
        reply += [blocks.text(text)] if isinstance(text, str) and text else []
        for call in self.by_place("tool_calls", self.calls.get(key, [])):
            reply.append(blocks.tool_use(call.get("tool_call_id"), call.get("name"), parsed(call.get("arguments"))))
        yield MessageRecord(
            session, key, None, "assistant", "model", pack(reply), records=[self.store.record(row)], **reply_fields(row)
        )

    def tool_results(self, key: str) -> Iterator[blocks.Block]:
        for result in self.by_place("tool_results", self.results.get(key, [])):
            failed = {"is_error": True, "exception": result["exception"]} if result.get("exception") else {}
            output = result.get("output")
            yield blocks.tool_result(result.get("tool_call_id"), output, result.get("name"), **failed)
            yield from self.store.attachments("tool_results_attachments", "tool_result_id", result.get("id"))

    def by_place(self, table: str, places: list[int]) -> Iterator[Row]:
        for place in places:
            yield from self.store.rows(table, "WHERE rowid = ?", (place,))


class _Turns:
    """The newer tables: a thread is its turns, each of which names the end of a chain of messages."""

    def __init__(self, store: _Store) -> None:
        self.store = store
        self.placed: dict[str, set[str]] = {}  # thread: hashes of its messages

    def items(self) -> Iterator[Item]:
        waiting = list(self.store.rows("threads", "ORDER BY datetime_utc, id"))
        while waiting:
            ready = [thread for thread in waiting if thread.get("forked_from") not in {row["id"] for row in waiting}]
            for thread in ready or waiting[:1]:
                waiting.remove(thread)
                yield from self.thread(thread)

    def thread(self, thread: Row) -> Iterator[Item]:
        """Yield the session of a thread and its messages."""
        name, forked = str(thread.get("id")), text_or_none(thread.get("forked_from"))
        placed = self.placed[name] = set()
        tip = text_or_none(thread.get("tip_message_hash"))
        yield SessionRecord(
            name,
            title=text_or_none(thread.get("name")),
            started_at=moment(thread.get("datetime_utc")),
            parent_external_id=forked,
            relation="fork" if forked else None,
            head=self.place(tip, name, forked) if tip else None,
        )
        for turn in self.store.rows("turns", "WHERE thread_id = ? ORDER BY datetime_utc, id", (name,)):
            chain = list(self.chain(text_or_none(turn.get("tip_message_hash")), placed, forked))
            record = self.store.record(turn)
            if not chain:
                yield Ignored(record, "a turn that says what another said already")
            for i, message in enumerate(chain):
                last = i == len(chain) - 1
                placed.add(message["hash"])
                yield self.message(message, name, forked, record if last else None, turn)
        if tip and tip not in placed and forked is None:
            for message in self.chain(tip, placed, forked):  # a thread that was brought in without its turns
                placed.add(message["hash"])
                yield self.message(message, name, forked, self.store.record(message), {})

    def chain(self, tip: str | None, placed: set[str], forked: str | None) -> Iterator[Row]:
        """Yield the messages up to a tip that no turn of the thread, or of the one it was forked from, has placed."""
        found: list[Row] = []
        met = placed | self.placed.get(forked or "", set())
        while tip is not None and tip not in met:
            met.add(tip)
            row = next(self.store.rows("messages", "WHERE hash = ?", (tip,)), None)
            if row is None:
                break
            found.append(row)
            tip = row.get("parent_hash")
        yield from reversed(found)

    def place(self, key: str, thread: str, forked: str | None) -> str:
        """Return the external id of a message: of the thread it was forked from where that has it."""
        return f"{forked if key in self.placed.get(forked or '', set()) else thread}/{key}"

    def message(
        self, row: Row, thread: str, forked: str | None, record: InputRecord | None, turn: Row
    ) -> MessageRecord:
        role, parent = str(row.get("role")), text_or_none(row.get("parent_hash"))
        told = reply_fields(turn) if record is not None and role == "assistant" else {}
        return MessageRecord(
            thread,
            f"{thread}/{row['hash']}",
            self.place(parent, thread, forked) if parent else None,
            role if role in ("system", "user", "assistant", "tool") else "event",
            ORIGINS.get(role, "human" if role == "system" else "harness"),
            pack(list(self.blocks(str(row["hash"])))),
            records=[record] if record is not None else [],
            **({"created_at": moment(turn.get("datetime_utc"))} | told),
        )

    def blocks(self, key: str) -> Iterator[blocks.Block]:
        """Yield the parts of a message as blocks."""
        for part in self.store.rows("parts", "WHERE message_hash = ? ORDER BY position", (key,)):
            kind, payload = part.get("type"), mapping(parsed(part.get("payload")))
            text = self.text(part, payload)
            if kind == "text":
                yield blocks.text(text)
            elif kind == "reasoning":
                yield blocks.thinking(text)
            elif kind == "tool_call":
                yield blocks.tool_use(payload.get("tool_call_id"), part.get("tool_name"), payload.get("arguments"))
            elif kind == "tool_result":
                failed = {"exception": payload["exception"]} if payload.get("exception") else {}
                output, call = payload.get("output"), payload.get("tool_call_id")
                yield blocks.tool_result(call, output, part.get("tool_name"), **failed)
            elif kind == "attachment":
                found = self.store.attachments("part_attachments", "part_id", part.get("id"))
                yield from found or [{"type": "file", **mapping(payload.get("attachment"))}]
            else:
                yield {"type": str(kind), "text": part.get("text"), "payload": payload}

    def text(self, part: Row, payload: dict[str, Any]) -> str:
        """Return the text of a part, put together where it refers to fragments."""
        if part.get("text"):
            return str(part["text"])
        pieces = []
        for piece in mappings(sequence(payload.get("text_ref"))):
            if "fragment" in piece:
                found = self.store.rows("fragments", "WHERE id = ?", (piece["fragment"],))
                pieces += [_text(row.get("content")) for row in found]
            else:
                pieces.append(str(piece.get("literal") or ""))
        return "".join(pieces)
