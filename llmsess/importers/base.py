"""What an importer is: something that reads a file of a format and yields neutral records, without a database.

An importer is a module with five names: `NAME`, `DESCRIPTION`, `PLACES` (the folders and files where the tool keeps
its history, `~` and `*` allowed), `matches(head)` and `read(source)`. `matches` tells by the shape of the first records
whether a file is of its format; `read` yields, in the order of the file,

    SessionRecord   before the first message of a session
    MessageRecord   a message, with the input records it was made of
    TitleRecord     a record that titles a session, after the messages of the file
    Whole           an input record that is a whole conversation, after its messages, which then name no records
    Ignored, Bad    an input record that is no message, or that cannot be read

Every input record (a line, or an object of an array) is named in exactly one of them, so that dispositions add up.
External ids must be unique in the format. `transfer` decides what is new. A conversation is read wholly before its
first item is yielded, or every value of it is taken as it comes (see reading.py): none is imported by half.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from llmsess.importers.source import Head, Source
from llmsess.parts import Packed
from llmsess.prices import Usage
from llmsess.texts import clean

CHUNK_RECORDS = 5_000  # a chunk ends after so many records,
CHUNK_S = 0.25  # after so long, for it holds the write lock while it is entered,
CHUNK_BYTES = 16 * 1024 * 1024  # or after so much text, for it lies in memory
OPENING_CHARACTERS = 64  # of a text, compared to tell whether two messages are the same


class InputRecord(NamedTuple):
    """One input record: its line (from 1), its bytes, its own id (None: it has none)."""

    line: int
    raw: bytes
    external_id: str | None = None


@dataclass(slots=True)
class SessionRecord:
    """A conversation of the source. `relation` to the parent is fork, subagent or resume."""

    external_id: str
    title: str | None = None
    project: str | None = None
    model: str | None = None  # provider/name
    started_at: datetime | None = None
    system_prompt: str | None = None
    parent_external_id: str | None = None
    relation: str | None = None
    head: str | None = None  # external id of the message the conversation stands at; None: its newest end
    updated_at: datetime | None = None  # which version this is: a later one replaces what differs; None: not told
    metadata: dict[str, Any] | None = None


NO_USAGE = Usage()


@dataclass(slots=True)
class MessageRecord:
    """A message of the source. `parent` is the external id of the message before it, None for a root."""

    session: str
    external_id: str
    parent: str | None
    role: str
    origin: str
    packed: Packed
    model: str | None = None  # provider/name
    usage: Usage = NO_USAGE
    raw_usage: Mapping[str, Any] | None = None
    cost_usd: Decimal | None = None
    finish_reason: str | None = None
    error: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    created_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    kin: bool = False  # an equal message of another session is the same one only where the sessions are related
    records: list[InputRecord] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Return how much the message says, in characters."""
        packed = self.packed
        return len(packed.content) + len(packed.reasoning or "") + len(packed.tool_text or "")

    @property
    def opening(self) -> str:
        """Return how the message begins, to tell it from another of the same id."""
        return (self.packed.content or self.packed.tool_text or "")[:OPENING_CHARACTERS]


@dataclass(slots=True)
class TitleRecord:
    """A record that titles a session: the one of that external id, or the one that holds that message."""

    target: str
    title: str
    record: InputRecord
    is_message: bool = False


@dataclass(slots=True)
class Whole:
    """A record that is a whole conversation: imported where any of its messages is; `problems` of parts left out."""

    record: InputRecord
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Row:
    """A row of llmsess' own format, which is entered as it is."""

    kind: str  # project, model, blob, session, message
    values: dict[str, Any]
    record: InputRecord  # without its bytes, which are not kept
    size_bytes: int


@dataclass(slots=True)
class Ignored:
    """A record of the format that is no message; `problem` says what is odd about it, if anything."""

    record: InputRecord
    problem: str | None = None


@dataclass(slots=True)
class Bad:
    """A record that cannot be read, and why."""

    record: InputRecord
    problem: str


Item = SessionRecord | MessageRecord | TitleRecord | Whole | Row | Ignored | Bad


class Importer(Protocol):
    """A module of this package."""

    NAME: str
    DESCRIPTION: str
    PLACES: tuple[str, ...]

    def matches(self, head: Head) -> bool: ...

    def read(self, source: Source) -> Iterator[Item]: ...


def chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield the items in chunks that are small in number, time and bytes; what is one record stays in one chunk."""
    chunk: list[Item] = []
    size, began, inside = 0, time.monotonic(), False
    for item in items:
        _clean(item)
        chunk.append(item)
        size += _size(item)
        begun = isinstance(item, SessionRecord)
        inside = begun or (isinstance(item, MessageRecord) and not item.records)  # of what is one record, or its start
        if inside:
            continue
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES or time.monotonic() - began >= CHUNK_S:
            yield chunk
            chunk, size, began = [], 0, time.monotonic()
    if chunk:
        yield chunk


_TEXTS: dict[type, tuple[str, ...]] = {
    SessionRecord: ("external_id", "title", "project", "model", "system_prompt", "parent_external_id", "head"),
    MessageRecord: ("session", "external_id", "parent", "model", "finish_reason", "error"),
    TitleRecord: ("target", "title"),
}


def _clean(item: Item) -> None:
    """Clean the names in an item, so that they are the same wherever they are compared."""
    for name in _TEXTS.get(type(item), ()):
        value = getattr(item, name)
        if value is not None:
            setattr(item, name, clean(value))


def _size(item: Item) -> int:
    if isinstance(item, MessageRecord):
        attached = sum(len(attachment.data) for attachment in item.packed.attachments)
        return item.weight + attached + sum(len(record.raw) for record in item.records)
    if isinstance(item, Row):
        return item.size_bytes
    return 0 if isinstance(item, SessionRecord) else len(item.record.raw)
