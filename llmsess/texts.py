"""Text at the door and in storage.

Text is cleaned once, when it enters: a NUL or a lone surrogate becomes U+FFFD, since no database may be asked to keep
them. A settled text above 64 KiB is stored once in `texts`, and its message keeps the first 1 KiB and the hash;
`whole()` is the SQL that gives it back.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

from llmsess.db import database

LARGE_TEXT_BYTES = 64 * 1024  # above this a settled text lies in `texts`, once
TEXT_HEAD_BYTES = 1024  # how much of a large text its message keeps
FIELDS = ("content", "reasoning", "tool_text")
_UNCLEAN = re.compile("[\x00\ud800-\udfff]")
UNSEEN = "\x7f-\x9f\u202a-\u202e\u2066-\u2069"  # what a terminal obeys beside ASCII's: C1, changes of direction
_CONTROL = re.compile(  # CSI and terminated OSC sequences whole, any other control character, changes of direction
    f"\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b\n]{{0,256}}(?:\x07|\x1b\\\\)|[\x00-\x08\x0b-\x1f{UNSEEN}]"
)


def clean(text: str) -> str:
    """Return the text with every NUL and lone surrogate as U+FFFD."""
    return _UNCLEAN.sub("\ufffd", text) if _UNCLEAN.search(text) else text


def clean_json(value: Any) -> Any:
    """Return a JSON value whose strings are clean and whose numbers are finite (NaN becomes the string "NaN")."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_json(item) for item in value]
    return value


MAX_DEPTH = 200  # levels of nested JSON: more is no message, and Python's own recursion ends soon after


def too_deep(text: str | bytes, value: Any) -> bool:
    """Return whether the value of a JSON text is nested deeper than 200 levels; few texts need a closer look."""
    marks: tuple[Any, Any] = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if text.count(marks[0]) + text.count(marks[1]) <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def without_controls(text: str) -> str:
    """Return the text without terminal control sequences, newlines and tabs kept, so that showing it is harmless."""
    return _CONTROL.sub("", text) if _CONTROL.search(text) else text


def one_line(text: str, width: int) -> str:
    """Return the text on one line of at most `width` characters, cut with an ellipsis."""
    line = " ".join(without_controls(text[: width * 8]).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def is_large(text: str | None) -> bool:
    """Return whether a text belongs into `texts`."""
    if text is None or len(text) * 4 <= LARGE_TEXT_BYTES:
        return False
    return len(text) > LARGE_TEXT_BYTES or len(text.encode()) > LARGE_TEXT_BYTES


def stored(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a settled message's fields as they are stored: large texts moved into `texts`, within the transaction."""
    changed = {}
    for name in FIELDS:
        text = fields.get(name)
        if is_large(text):
            assert text is not None
            changed[name], changed[f"{name}_sha256"] = keep(text)
    return fields | changed if changed else fields


def keep(text: str) -> tuple[str, str]:
    """Store a large text once; return its head and its hash."""
    data = text.encode()
    sha256 = hashlib.sha256(data).hexdigest()
    database.execute_sql(
        "INSERT INTO texts (sha256, content, size_bytes) VALUES (?, ?, ?) ON CONFLICT (sha256) DO NOTHING",
        (sha256, text, len(data)),
    )
    return data[:TEXT_HEAD_BYTES].decode(errors="ignore"), sha256


def whole(row: str, name: str) -> str:
    """Return the SQL of a message's whole text; `row` is the table's alias."""
    return (
        f"CASE WHEN {row}.{name}_sha256 IS NULL THEN {row}.{name} "
        f"ELSE (SELECT t.content FROM texts t WHERE t.sha256 = {row}.{name}_sha256) END"
    )
