"""Entering many messages at once: staged in a TEMP table, entered by one INSERT..SELECT in rowid order.

executemany into a table with full-text triggers flushes the index at every row, at half the speed.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

from llmsess import crashpoints
from llmsess.db import database
from llmsess.models import Message

COLUMNS = tuple(field.column_name for field in Message._meta.sorted_fields)
_ENTER = f"INSERT INTO messages ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM staged"


def prepare() -> None:
    """Make the TEMP table, outside of a transaction."""
    database.execute_sql(f"CREATE TEMP TABLE IF NOT EXISTS staged ({', '.join(COLUMNS)})")


def enter_messages(staged: Sequence[dict[str, Any]]) -> None:
    """Enter messages, given as stored values by column; columns that none has are NULL."""
    if not staged:
        return
    names = [name for name in COLUMNS if any(name in values for values in staged)]
    rows = [tuple(map(values.get, names)) for values in staged]
    with database.translated():
        stage = f"INSERT INTO staged ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        database.driver_connection().executemany(stage, rows)
    crashpoints.reach("import.staged")
    database.execute_sql(_ENTER)
    database.execute_sql("DELETE FROM staged")
    crashpoints.reach("import.entered")


def next_id(table: str) -> int:
    """Return the inner id that the next row of a table may have, within a write transaction."""
    return int(database.execute_sql(f"SELECT coalesce(max(id), 0) + 1 FROM {table}").fetchone()[0])


@contextlib.contextmanager
def fewer_collections() -> Iterator[None]:
    """Look for circles less often: a chunk is many objects that live as long as it does (a seventh of the time)."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
