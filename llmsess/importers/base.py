"""What an importer is: something that reads a file of a format and yields neutral records, without a database.

An importer is a module with four names: `NAME`, `DESCRIPTION`, `matches(head)` and `read(source)`. `matches` tells by
the shape of the first records whether a file is of its format; `read` yields, in the order of the file,

    SessionRecord   before the first message of a session
    MessageRecord   a message, with the input records it was made of
    TitleRecord     a record that titles a session, after the messages of the file
    Ignored, Bad    an input record that is no message, or that cannot be read

Every input record (a line, or an object of an array) is named in exactly one of them, so that dispositions add up.
External ids must be unique in the format. `transfer` decides what is new.
"""

from __future__ import annotations

import gzip
import io
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from llmsess.parts import Packed
from llmsess.prices import Usage
from llmsess.texts import clean, too_deep

CHUNK_RECORDS = 5_000  # a chunk ends after so many records,
CHUNK_S = 0.25  # after so long, for it holds the write lock while it is entered,
CHUNK_BYTES = 16 * 1024 * 1024  # or after so much text, for it lies in memory
OPENING_CHARACTERS = 64  # of a text, compared to tell whether two messages are the same
DEEP = "no JSON: nested too deeply"
MAX_LINE_BYTES = 256 * 1024 * 1024  # a longer line is reported as bad, so that a wrong file cannot fill the memory


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
    created_at: datetime | None = None
    metadata: dict[str, Any] | None = None
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
class Ignored:
    """A record of the format that is no message; `problem` says what is odd about it, if anything."""

    record: InputRecord
    problem: str | None = None


@dataclass(slots=True)
class Bad:
    """A record that cannot be read, and why."""

    record: InputRecord
    problem: str


Item = SessionRecord | MessageRecord | TitleRecord | Ignored | Bad


class _Gunzip(io.RawIOBase):
    """A gzipped file that ends where it is cut off or damaged; `problem` then says so."""

    def __init__(self, path: Path) -> None:
        self.file, self.problem = gzip.GzipFile(path), ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.problem = f"the compressed file is damaged: {error}"
            return 0
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()


def damage(file: IO[bytes]) -> str:
    """Return why a file that was read to its end has ended early, "" where it has not."""
    return str(getattr(getattr(file, "raw", None), "problem", ""))


@dataclass(frozen=True)
class Source:
    """A file to read; `path` names it, `open()` gives its bytes, decompressed where it is gzipped."""

    path: Path

    @property
    def name(self) -> str:
        """Return the path as text that can be stored and shown."""
        return str(self.path).encode(errors="backslashreplace").decode()

    def open(self) -> io.BufferedReader:
        file = self.path.open("rb")
        if file.peek(2)[:2] == b"\x1f\x8b":
            file.close()
            return io.BufferedReader(_Gunzip(self.path), 1024 * 1024)
        return file

    def head(self) -> list[Any]:
        """Return the first parseable records, to tell the format by their shape: of JSON lines, or of one document."""
        with self.open() as file:
            start = file.read(4 * 1024 * 1024)
        records = []
        for line in start.split(b"\n")[:50]:
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
        if any(isinstance(record, dict) for record in records):
            return records
        document = self.document()
        return document[:50] if isinstance(document, list) else [] if document is None else [document]

    def document(self) -> Any:
        """Return the value of a file that is one JSON document of at most 256 MiB, None for any other."""
        with self.open() as file:
            text = file.read(MAX_LINE_BYTES + 1)
        try:
            return json.loads(text) if len(text) <= MAX_LINE_BYTES else None
        except (ValueError, RecursionError):
            return None


class Importer(Protocol):
    """A module of this package."""

    NAME: str
    DESCRIPTION: str

    def matches(self, head: list[Any]) -> bool: ...

    def read(self, source: Source) -> Iterator[Item]: ...


def lines(file: IO[bytes]) -> Iterator[tuple[InputRecord, Any, str | None]]:
    """Yield each line of JSON lines as (record, value, problem); blank lines are none, a problem has no value."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(MAX_LINE_BYTES)
            yield InputRecord(number, b""), None, "the line is longer than 256 MiB"
            continue
        raw = raw.strip()
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw:
            continue
        record = InputRecord(number, raw)
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError) as error:
            yield record, None, _json_problem(error)
            continue
        yield (record, None, DEEP) if too_deep(raw, value) else (record, value, None)
    if damage(file):
        yield InputRecord(number + 1, b""), None, damage(file)


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg.lower()} (column {error.colno})"
    return DEEP if isinstance(error, RecursionError) else f"no UTF-8 or no JSON: {error}"


def objects(items: Iterable[Any]) -> Iterator[tuple[InputRecord, Any, str | None]]:
    """Yield each object of an array as `lines()` yields lines, counted from 1."""
    for number, value in enumerate(items, 1):
        try:
            raw = json.dumps(value, ensure_ascii=False).encode(errors="replace")
        except RecursionError:
            yield InputRecord(number, b""), None, DEEP
            continue
        record = InputRecord(number, raw)
        yield (record, None, DEEP) if too_deep(raw, value) else (record, value, None)


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 text or epoch seconds as an aware UTC time, None for anything else."""
    try:
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def text_or_none(value: Any) -> str | None:
    """Return a clean text that is not empty, None for anything else."""
    return clean(value) if isinstance(value, str) and value.strip() else None


def chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Yield the items in chunks that are small in number, time and bytes."""
    chunk: list[Item] = []
    size, began = 0, time.monotonic()
    for item in items:
        chunk.append(item)
        size += _size(item)
        if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES or time.monotonic() - began >= CHUNK_S:
            yield chunk
            chunk, size, began = [], 0, time.monotonic()
    if chunk:
        yield chunk


def _size(item: Item) -> int:
    if isinstance(item, MessageRecord):
        return item.weight + sum(len(record.raw) for record in item.records)
    return 0 if isinstance(item, SessionRecord) else len(item.record.raw)
