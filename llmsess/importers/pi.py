"""pi's sessions: `~/.pi/agent/sessions/<folder>/<time>_<id>.jsonl`.

One JSON object a line: a header, then entries of a tree (`id`, `parentId`; in version 1 just a sequence). Replies tell
their tokens (input without what was cached) and their cost in USD. Entries that are no messages stay out of the tree,
so what follows one hangs on what it follows. A fork names the file it was made from, which it repeats.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, TitleRecord
from llmsess.importers.reading import digest, mapping, moment, records, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import reported_usd, token_count
from llmsess.parts import Packed, pack
from llmsess.prices import Usage

NAME = "pi"
DESCRIPTION = "pi coding agent sessions (.jsonl)"
PLACES = ("~/.pi/agent/sessions",)
ROLES = {"user": ("user", "human"), "assistant": ("assistant", "model"), "toolResult": ("tool", "tool"),
         "bashExecution": ("tool", "human")}  # fmt: skip
KINDS = ("session", "message", "model_change", "thinking_level_change", "compaction", "branch_summary", "custom",
         "custom_message", "label", "session_info")  # fmt: skip
SUMMARIES = ("compaction", "branch_summary")
ID_IN_NAME = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def matches(head: Head) -> bool:
    """Return whether the first lines are a header or entries of a session of pi."""
    return any(_is_line(record) for record in head.objects)


def _is_line(record: dict[str, Any]) -> bool:
    message = mapping(record.get("message"))
    if record.get("type") == "message" and "role" in message:
        return True
    if record.get("type") == "session":
        return "cwd" in record and "id" in record
    return record.get("type") in KINDS and "parentId" in record


def read(source: Source) -> Iterator[Item]:
    """Yield the session and the messages of one file."""
    reader = _Reader(source.stem)
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        else:
            yield from reader.take(record, value)
    yield from reader.titles


class _Reader:
    def __init__(self, stem: str) -> None:
        named = ID_IN_NAME.search(stem)
        self.session = named[0] if named else ""
        self.header: dict[str, Any] = {}
        self.begun = False
        self.message_of: dict[str, str | None] = {}  # entry: the message it is, or hangs on
        self.latest: str | None = None
        self.titles: list[TitleRecord] = []
        self.count = 0

    def take(self, record: InputRecord, entry: dict[str, Any]) -> Iterator[Item]:
        self.count += 1
        kind, entry_id = entry.get("type"), text_or_none(entry.get("id"))
        record = record._replace(external_id=entry_id)
        if kind == "session":
            if not self.header and not self.begun:
                self.header, self.session = entry, entry_id or self.session
            yield Ignored(record)
            return
        message = message_of(entry)
        if message is None:
            if entry_id:
                self.message_of[entry_id] = self.parent(entry)
            named = text_or_none(entry.get("name"))
            if kind == "session_info" and named and self.begun:
                self.titles.append(TitleRecord(self.session, named, record))
            else:
                yield Ignored(record, None if kind in KINDS else f"an entry of the unknown type {str(kind)[:40]!r}")
            return
        yield from self.begin(entry)
        external_id = entry_id or f"{self.session}#{self.count}"  # a fork repeats the ids of what it was made from
        yield made(self.session, external_id, self.parent(entry), entry, message, record)
        if entry_id:
            self.message_of[entry_id] = external_id
        self.latest = external_id

    def begin(self, entry: dict[str, Any]) -> Iterator[Item]:
        """Yield the session before its first message."""
        if self.begun:
            return
        self.begun = True
        self.session = self.session or f"sha256:{digest(entry)}"
        header = self.header
        forked = ID_IN_NAME.search(str(header.get("parentSession") or ""))
        yield SessionRecord(
            self.session,
            project=text_or_none(header.get("cwd")),
            started_at=moment(header.get("timestamp")),
            parent_external_id=forked[0] if forked else None,
            relation="fork" if forked else None,
            metadata={"cwd": header["cwd"]} if text_or_none(header.get("cwd")) else None,
        )

    def parent(self, entry: dict[str, Any]) -> str | None:
        """Return the message an entry hangs on."""
        if "parentId" not in entry:
            return self.latest
        named = text_or_none(entry.get("parentId"))
        return self.message_of.get(named, named) if named else None


def message_of(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return what an entry says as a message with a role, None where it says nothing."""
    kind = entry.get("type")
    if kind == "message" and isinstance(entry.get("message"), dict):
        return mapping(entry["message"])
    if kind in SUMMARIES and text_or_none(entry.get("summary")):
        return {"role": kind, "content": entry["summary"]}
    if kind == "custom_message":
        return {"role": kind, "content": entry.get("content"), "display": entry.get("display")}
    return None


def made(
    session: str, external_id: str, parent: str | None, entry: dict[str, Any], message: dict[str, Any],
    record: InputRecord,
) -> MessageRecord:  # fmt: skip
    """Return the record of a message."""
    role, origin = ROLES.get(str(message.get("role")), ("event", "harness"))
    counted = mapping(message.get("usage"))
    provider = text_or_none(message.get("provider")) or "unknown"
    marks: dict[str, Any] = {"hidden": True} if message.get("display") is False else {}
    marks |= {"type": message.get("role")} if role == "event" else {}
    return MessageRecord(
        session,
        external_id,
        parent,
        role,
        origin,
        packed(message),
        model=model_of(provider, text_or_none(message.get("model"))) if role == "assistant" else None,
        usage=tokens(counted) if counted else Usage(),
        raw_usage=counted or None,
        cost_usd=reported_usd(mapping(counted.get("cost")).get("total")),
        finish_reason=text_or_none(message.get("stopReason")),
        error=text_or_none(message.get("errorMessage")),
        created_at=moment(entry.get("timestamp")) or moment(message.get("timestamp")),
        metadata=marks or None,
        records=[record],
        kin=True,
    )


def model_of(provider: str, model: str | None) -> str | None:
    """Return provider/name; a name with a slash in it (of a router) keeps it."""
    return f"{provider}/{model}" if model else None


def packed(message: dict[str, Any]) -> Packed:
    """Return the content of a message of pi."""
    if message.get("role") == "bashExecution":
        run = {"command": message.get("command"), "exit_code": message.get("exitCode")}
        return pack([blocks.tool_use(None, "bash", run), blocks.tool_result(None, message.get("output"), "bash")])
    content = message.get("content")
    said: list[Any] = [blocks.text(content)] if isinstance(content, str) and content else []
    said += [block(item) if isinstance(item, dict) else item for item in sequence(content)]
    if message.get("role") == "toolResult":
        failed = {"is_error": True} if message.get("isError") is True else {}
        return pack([blocks.tool_result(message.get("toolCallId"), said, message.get("toolName"), **failed)])
    return pack(said)


def block(item: dict[str, Any]) -> blocks.Block:
    """Return a block of pi as ours."""
    if item.get("type") == "toolCall":
        return blocks.tool_use(item.get("id"), item.get("name"), item.get("arguments"))
    if item.get("type") == "image" and isinstance(item.get("data"), str):
        return blocks.media("image", item.get("mimeType"), item["data"])
    return item


def tokens(counted: dict[str, Any]) -> Usage:
    """Return pi's counts as ours; its input is without what was read from and written to the cache."""
    fresh, output, cached, written = (
        token_count(counted.get(key)) for key in ("input", "output", "cacheRead", "cacheWrite")
    )
    total = None if fresh is None else fresh + (cached or 0) + (written or 0)
    return Usage(total, cached, written, output)
