"""llmsess' own format, as `llmsess export llmsess` writes it: a row a line, named by its `type`.

The rows are not made into messages here: `restoring` enters them as they are, known by their uuids.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmsess.importers.base import Bad, Ignored, InputRecord, Item, Row
from llmsess.importers.reading import records
from llmsess.importers.source import Head, Source

NAME = "llmsess"
DESCRIPTION = "llmsess' own export (.jsonl), restored without loss"
PLACES = ()
KINDS = ("project", "model", "blob", "session", "message", "snapshot")
VERSION = 1


def matches(head: Head) -> bool:
    """Return whether the first line names the format, or lines are its rows."""
    return any(
        record.get("type") == "llmsess" or (record.get("type") in KINDS and "uuid" in record) for record in head.objects
    )


def read(source: Source) -> Iterator[Item]:
    """Yield the rows of an export."""
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        elif value.get("type") == "llmsess":
            newer = value.get("version") != VERSION
            yield Bad(record, "an export of a newer llmsess: update this one") if newer else Ignored(record)
        elif value.get("type") in KINDS:
            yield Row(str(value["type"]), value, InputRecord(record.line, b""), len(record.raw))
        else:
            yield Bad(record, "a row of an unknown type")
