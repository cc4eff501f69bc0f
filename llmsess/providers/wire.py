"""What comes over the wire, whatever a server sends: events, bodies and JSON, in bounds; no format is known here."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmsess.errors import ProviderError
from llmsess.texts import too_deep

MAX_LINE_BYTES = 32 * 1024 * 1024  # of an event: an image fits, an endless line must not fill the memory
MAX_STREAM_BYTES = 128 * 1024 * 1024  # of a streamed answer: half a million tokens, each with its wrapping
MAX_BODY_BYTES = 64 * 1024 * 1024  # of an answer in one piece


def broken(name: str, what: str, **facts: Any) -> ProviderError:
    """Return the error for an answer that cannot be read."""
    return ProviderError(f"{name} sent {what}", error_kind="bad_response", billed=True, **facts)


def lines(chunks: Iterable[bytes], name: str, *, most_bytes: int | None = MAX_STREAM_BYTES) -> Iterator[str]:
    """Yield the lines of a stream of UTF-8 bytes as they are complete. Raises ProviderError for an endless one.

    The whole may have `most_bytes`, or, with None, as many as it likes; a line is bounded always.
    """
    waiting: list[bytes] = []
    size = total = 0
    for chunk in chunks:
        total += len(chunk)
        if most_bytes is not None and total > most_bytes:
            raise broken(name, f"an answer longer than {most_bytes // 1024**2} MiB")
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield b"".join([*waiting, piece]).decode(errors="replace").rstrip("\r")
            waiting, size = [], 0
        waiting.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise broken(name, f"a line longer than {MAX_LINE_BYTES // 1024**2} MiB")
    if size:
        yield b"".join(waiting).decode(errors="replace")


def whole(chunks: Iterable[bytes], name: str) -> str:
    """Return a body of UTF-8 bytes. Raises ProviderError for an endless one."""
    pieces, size = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise broken(name, f"an answer longer than {MAX_BODY_BYTES // 1024**2} MiB")
    return b"".join(pieces).decode(errors="replace")


def parsed(text: str, name: str, **facts: Any) -> Any:
    """Return the value of a JSON text. Raises ProviderError for what is none, or is nested too deeply."""
    try:
        value = json.loads(text)
    except ValueError as error:
        start = " ".join(text[:80].split())
        raise broken(name, f'an answer that is no JSON: "{start}"', **facts) from error
    except RecursionError as error:
        raise broken(name, "JSON that is nested too deeply", **facts) from error
    if too_deep(text, value):
        raise broken(name, "JSON that is nested too deeply", **facts)
    return value


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the server asks to wait, from its three forms: milliseconds, seconds, a date; None for others."""
    value = headers.get("retry-after") or ""
    try:
        asked = float(headers["retry-after-ms"]) / 1000 if headers.get("retry-after-ms") else float(value)
    except ValueError:
        return _until(value)
    return max(0.0, asked) if math.isfinite(asked) else None


def _until(date: str) -> float | None:
    try:
        moment = email.utils.parsedate_tz(date)
        return None if moment is None else max(0.0, email.utils.mktime_tz(moment) - time.time())
    except (ValueError, OverflowError, TypeError):
        return None
