"""Reading JSON of unknown origin: the records of a file one by one, and values of which nothing is certain.

A file is JSON lines, or one array, or one document. Large arrays are streamed, so that memory stays constant; a record
that cannot be read has a problem in the place of a value. The accessors (`mapping`, `sequence`, `text_or_none`, ...)
take any value and never raise, for in a file of another tool every value may be anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import IO, Any

from llmsess.importers import streaming
from llmsess.importers.base import InputRecord
from llmsess.importers.source import BUFFER_BYTES, MAX_LINE_BYTES, Source, damage, is_lines
from llmsess.texts import clean, too_deep

DEEP = streaming.DEEP
WHOLE_BYTES = 32 * 1024 * 1024  # a larger document is streamed
Read = Iterator[tuple[InputRecord, Any, str | None]]


def records(source: Source, *keys: str) -> Read:
    """Yield each record of a file as (record, value, problem); a problem has no value.

    Records are the lines of JSON lines, the elements of an array, or of the array under one of the `keys` of a
    document; else the document itself.
    """
    with source.open() as file:
        yield from _under(lines(file), keys) if _is_lines(source) else _document(source, file, keys)


def _under(found: Read, keys: tuple[str, ...]) -> Read:
    """Yield the records, and for an object that is the whole document on one line, what it has under a key."""
    for record, value, problem in found:
        key = next((key for key in keys if isinstance(value, dict) and isinstance(value.get(key), list)), None)
        if key is None:
            yield record, value, problem
        else:
            yield from objects(value[key])


def _is_lines(source: Source) -> bool:
    """Return whether a file is JSON lines; one line that is too large to be read at once is a document."""
    start = source.start()
    if start[:1] == b"{" and b"\n" not in start:
        return source.size() < WHOLE_BYTES or _has_lines(source)
    return is_lines(start)


def _has_lines(source: Source) -> bool:
    """Return whether anything follows the first line of a file."""
    with source.open() as file:
        while block := file.read(BUFFER_BYTES):
            _, newline, rest = block.partition(b"\n")
            if newline:
                return bool(rest.strip() or file.read(BUFFER_BYTES).strip())
    return False


def lines(file: IO[bytes]) -> Read:
    """Yield each line of JSON lines; blank lines are none."""
    number = 0
    for number, whole in enumerate(whole_lines(file), 1):
        if whole is None:
            yield InputRecord(number, b""), None, "the line is longer than 256 MiB"
            continue
        raw = whole.strip()
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


def whole_lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Yield each line with its end, None for one that is longer than may lie in memory."""
    while piece := file.readline(BUFFER_BYTES):
        pieces, size = [piece], len(piece)
        while not piece.endswith(b"\n") and (piece := file.readline(BUFFER_BYTES)):
            size += len(piece)
            if size > MAX_LINE_BYTES:
                pieces.clear()
            else:
                pieces.append(piece)
        yield b"".join(pieces) if size <= MAX_LINE_BYTES else None


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg.lower()} (column {error.colno})"
    return DEEP if isinstance(error, RecursionError) else f"no UTF-8 or no JSON: {error}"


def _document(source: Source, file: io.BufferedReader[Any], keys: tuple[str, ...]) -> Read:
    """Yield the records of one document, read element by element as far as it is whole."""
    head = source.head().objects
    inside = source.start()[:1] == b"{"
    key = next((key for key in keys if inside and head and isinstance(head[0].get(key), list)), None)
    number = 0
    try:
        for number, (text, value, problem) in enumerate(streaming.elements(file, key), 1):
            yield _element(number, text, value) if problem is None else (InputRecord(number, b""), None, problem)
    except streaming.Broken as error:
        rest = "" if number == 0 else "; nothing after it can be read"
        yield InputRecord(number + 1, b""), None, f"{damage(file) or error}{rest}"


def objects(items: Iterable[Any]) -> Read:
    """Yield each element of an array that has been read, counted from 1."""
    for number, value in enumerate(items, 1):
        yield _element(number, json.dumps(value, ensure_ascii=False), value)


def _element(number: int, text: str, value: Any) -> tuple[InputRecord, Any, str | None]:
    record = InputRecord(number, text.encode(errors="surrogatepass"))
    return (record, None, DEEP) if too_deep(text, value) else (record, value, None)


# Values of which nothing is certain


def mapping(value: Any) -> dict[str, Any]:
    """Return an object, {} for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return an array, [] for anything else."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[dict[str, Any]]:
    """Return the objects of an array, [] for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_or_none(value: Any) -> str | None:
    """Return a clean text that is not empty, None for anything else."""
    return clean(value) if isinstance(value, str) and value.strip() else None


def number_or_none(value: Any) -> float | int | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1e300 else None


def parsed(value: Any) -> Any:
    """Return the value of a string that holds JSON, any other value as it is."""
    if isinstance(value, str) and value[:1] in "[{" and value:
        with contextlib.suppress(ValueError, RecursionError):
            inner = json.loads(value)
            return value if too_deep(value, inner) else inner
    return value


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 text, or epoch seconds or milliseconds, as an aware UTC time, None for anything else."""
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if abs(value) >= MILLISECONDS else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


MILLISECONDS = 10**11  # a larger number counts milliseconds: as seconds it would be after the year 5000


def digest(*values: Any) -> str:
    """Return a short hash of JSON values, to know a thing by its content."""
    text = "\0".join(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str) for value in values)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def reference(provider: str, model: str | None) -> str | None:
    """Return a model's name as provider/name: as it stands where it names its provider itself; None for no name."""
    if model is None or not model.strip():
        return None
    named, slash, name = model.partition("/")
    if not slash:
        return f"{provider}/{model}"
    return model if named.strip() and name.strip() else None


_MAKERS = (("gpt", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"), ("chatgpt", "openai"),
           ("claude", "anthropic"), ("gemini", "google"), ("gemma", "google"), ("mistral", "mistral"),
           ("deepseek", "deepseek"), ("grok", "x-ai"))  # fmt: skip


def guessed_reference(model: str | None, otherwise: str) -> str | None:
    """Return a bare model's name as provider/name by its beginning; `otherwise` names the provider of any other."""
    found = next((maker for start, maker in _MAKERS if model and model.lower().startswith(start)), otherwise)
    return reference(found, model)
