"""What a batch is asked: rows from CSV, JSON lines, batch files, text, a folder, standard input, stored messages.

A row is a JSON object; a text alone is `{"prompt": text}`. What a row means as a request is in `forming`. A row that
cannot be read has a problem in the place of a value, so that all of them are told at once.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from llmsess import attachments, door
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.importers import reading
from llmsess.importers.source import Source
from llmsess.listing import SessionFilter
from llmsess.settings import expanded
from llmsess.texts import whole

FORMATS = ("csv", "jsonl", "text")
MAX_FILE_BYTES = 16 * 1024 * 1024  # of a file of a folder that is read as text: more no model takes
MAX_CELL_CHARACTERS = 64 * 1024 * 1024  # of a CSV; Python's own limit is 128 KiB
MAX_TEXT_BYTES = 512 * 1024 * 1024  # of a file of prompts
ATTACHED = "_attachments"  # the key of a row under which a folder's files that are no texts are named
NO_UTF8 = "the input is no UTF-8 text"
_BREAK = re.compile(r"^---[ \t]*$", re.MULTILINE)
_DELIMITERS = ",;\t|"


class Row(NamedTuple):
    """A row of the input: where it is (a line or an ordinal, from 1), and its value or why it has none."""

    line: int
    value: dict[str, Any] | None
    problem: str | None = None


Inputs = str | os.PathLike[str] | Iterable[str | Mapping[str, Any] | Row]


def read(inputs: Inputs, format: str | None = None) -> Iterator[Row]:
    """Yield the rows of a path (a file, a folder, "-" for standard input), or of texts and mappings as they come.

    `format` is csv, jsonl or text where the name of a file does not tell. Raises InvalidInput.
    """
    if format is not None and format not in FORMATS:
        raise InvalidInput(f'"{format}" is no format of a batch\'s input', hint=f"one of {', '.join(FORMATS)}")
    if isinstance(inputs, (str, os.PathLike)):
        return _of_path(os.fspath(inputs), format)
    if not isinstance(inputs, Iterable) or isinstance(inputs, (bytes, Mapping)):
        raise InvalidInput(f"the input is a path, or texts and mappings, not {type(inputs).__name__}")
    return (_given(number, item) for number, item in enumerate(inputs, 1))


def _given(number: int, item: Any) -> Row:
    if isinstance(item, Row):
        return item
    if isinstance(item, str):
        return Row(number, {"prompt": door.text(item, "a prompt")})
    try:
        found = door.json_object(item, "a row")
    except InvalidInput as error:
        return Row(number, None, error.message)
    if ATTACHED in found:  # what a file says must not decide which other files are sent
        return Row(number, None, f'a row has no "{ATTACHED}"; a column of paths is named by --attach')
    return Row(number, found)


def _of_path(name: str, format: str | None) -> Iterator[Row]:
    if name == "-":
        return _of_stream(format)
    path = expanded(name)
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise InvalidInput(f"there is no file {name}", hint="a file, a folder, or - for standard input")
    if not path.is_file():  # a pipe, as of <(...)
        return _of_bytes(path.read_bytes(), format)
    return _of_file(path, format or _format(path))


def _format(path: Path) -> str:
    """Return the format of a file by its name, else by how it begins."""
    endings = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text",
               ".md": "text"}  # fmt: skip
    name = path.name.lower().removesuffix(".gz")
    return endings.get(Path(name).suffix) or _format_of(Source(path).start())


def _format_of(start: bytes) -> str:
    return "jsonl" if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[") else "text"


def _of_file(path: Path, format: str) -> Iterator[Row]:
    if format == "jsonl":
        return _records(reading.records(Source(path), "requests"))
    return _opened(path, _csv if format == "csv" else _text)


def _opened(path: Path, read: Any) -> Iterator[Row]:
    with Source(path).open() as file:
        yield from read(file)


def _of_stream(format: str | None) -> Iterator[Row]:
    """Yield the rows of standard input, which is read to its end first: nothing is written while it waits."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise InvalidInput("nothing is piped in")
    return _of_bytes(sys.stdin.buffer.read(), format)


def _of_bytes(data: bytes, format: str | None) -> Iterator[Row]:
    """Yield the rows of what came through a pipe."""
    chosen, file = format or _format_of(data[:4096]), io.BytesIO(data)
    if chosen == "jsonl":
        lines = list(_records(reading.lines(file)))
        return iter(lines) if data.lstrip()[:1] == b"{" and len(lines) != 1 else _document(data, lines)
    return _csv(file) if chosen == "csv" else _text(file)


def _document(data: bytes, lines: list[Row]) -> Iterator[Row]:
    """Yield the rows of one JSON document: an array, or Anthropic's object of requests."""
    import json

    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return iter(lines)
    if isinstance(value, dict) and isinstance(value.get("requests"), list):
        value = value["requests"]
    return _records(reading.objects(value)) if isinstance(value, list) else iter(lines)


def _records(found: reading.Read) -> Iterator[Row]:
    for record, value, problem in found:
        if problem is not None:
            yield Row(record.line, None, problem)
        elif isinstance(value, (str, dict)):
            yield _given(record.line, value)
        else:
            yield Row(record.line, None, "the row is neither an object nor a text")


def _text(file: IO[bytes]) -> Iterator[Row]:
    """Yield a prompt a line, or where a line is `---`, a prompt between such lines; blank ones are none."""
    data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidInput(f"a text of prompts is at most {MAX_TEXT_BYTES // 1024**2} MiB", hint="use JSON lines")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(NO_UTF8) from error
    parts = _BREAK.split(text) if _BREAK.search(text) else text.split("\n")
    for number, part in enumerate(parts, 1):
        if part.strip():
            yield _given(number, part.strip("\n"))


def _csv(file: IO[bytes]) -> Iterator[Row]:
    """Yield the rows of a CSV with a heading; the delimiter is the one that the heading has most of."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        heading = _heading(text)
        delimiter = max(_DELIMITERS, key=heading.count)
        keys = [key.strip() for key in next(csv.reader([heading], delimiter=delimiter), [])]
        if not any(keys):
            raise InvalidInput("the CSV has no heading in its first line")
        if len(set(keys)) < len(keys):
            raise InvalidInput(f"the CSV has a column twice: {', '.join(keys)}")
        yield from _csv_rows(csv.reader(text, delimiter=delimiter, strict=True), keys)


def _heading(text: io.TextIOWrapper) -> str:
    try:
        return text.readline()
    except UnicodeDecodeError as error:
        raise InvalidInput(NO_UTF8) from error


def _csv_rows(rows: Any, keys: list[str]) -> Iterator[Row]:
    """Yield the rows under a heading, each with the line at which it begins."""
    while True:
        line = rows.line_num + 2
        try:
            cells = next(rows, None)
        except csv.Error as error:
            yield Row(line, None, f"no CSV: {error}")
            continue
        except UnicodeDecodeError as error:
            raise InvalidInput(NO_UTF8) from error
        if cells is None:
            return
        if len(cells) == len(keys):
            yield _given(line, dict(zip(keys, cells, strict=True)))
        elif any(cells):
            yield Row(line, None, f"{len(cells)} cells where the heading has {len(keys)}")


def _of_folder(folder: Path) -> Iterator[Row]:
    """Yield a row for each file: its text as the prompt, else the file as an attachment; hidden ones are left out."""
    number = 0
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts) or _leads_out(path, folder):
            continue
        number += 1
        named = {"path": inside.as_posix(), "name": path.name}
        try:
            data = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b"\0"
        except OSError as error:
            yield Row(number, None, f"{inside} cannot be read: {error.strerror}")
            continue
        if not data.strip():
            continue
        kind = attachments.type_of(data, path.name)
        if kind.startswith(("image/", "audio/")) or kind == "application/pdf":
            yield Row(number, {"prompt": "", **named, ATTACHED: [str(path.absolute())]})
        elif _is_text(data):
            yield _given(number, {"prompt": data.decode(), **named})
        else:
            yield Row(number, None, f"{inside} is neither UTF-8 text nor a picture, sound or PDF")


def _leads_out(path: Path, folder: Path) -> bool:
    """Return whether a link leads out of the folder."""
    return not path.resolve().is_relative_to(folder.resolve())


def _is_text(data: bytes) -> bool:
    try:
        return b"\0" not in data and bool(data.decode())
    except UnicodeDecodeError:
        return False


_STORED = f"""
    SELECT m.uuid, s.uuid, s.title, m.role, {whole("m", "content")} FROM sessions s
    JOIN messages m ON m.session_id = s.id
    WHERE {{wheres}} AND m.role = ? AND m.status = 'complete' AND m.content <> '' AND m.id > ? ORDER BY m.id LIMIT 500
"""
_AFTER = "SELECT id FROM messages WHERE uuid = ?"


def stored(filter: SessionFilter | None = None, role: str = "user") -> Iterator[Row]:
    """Yield a row for each stored message of a role, of the sessions that a filter lets through, the oldest first.

    Answers of batches and comparisons are left out unless the filter asks for that type, so that a batch does not feed
    on itself. A row has prompt (what the message says), role, message, session (their uuids) and title. Raises
    InvalidInput, NotFound.
    """
    wheres, values = (filter or SessionFilter()).conditions()
    if filter is None or filter.type is None:
        wheres.append("s.session_type NOT IN ('batch', 'comparison')")
    sql = _STORED.format(wheres=" AND ".join(wheres))
    last, number = 0, 0
    while rows := database.execute_sql(sql, [*values, door.role(role, "role"), last]).fetchall():
        for message, session, title, said_by, content in rows:
            number += 1
            told = {"prompt": content, "role": said_by, "message": message, "session": session, "title": title}
            yield Row(number, told)
        last = database.execute_sql(_AFTER, (rows[-1][0],)).fetchone()[0]
