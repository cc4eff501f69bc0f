"""Where each record of an import went: its disposition, what it became, its bytes; counted in its file's report."""

from __future__ import annotations

import zlib
from concurrent.futures import Future
from typing import Any

from llmsess import texts
from llmsess.db import database
from llmsess.importers.base import InputRecord, Item, MessageRecord
from llmsess.matching import ImportFile, dispositions, logged_lines

_LOG = """
    INSERT INTO import_records (source_id, line, external_id, message_id, disposition, problem, raw_record)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_MENDED = "DELETE FROM import_records WHERE source_id = ? AND line = ? AND disposition = 'bad'"


class Ledger:
    """The records of one chunk of a file."""

    def __init__(self, file: ImportFile, items: list[Item]) -> None:
        self.file = file
        self.before = logged_lines(file.id, items)  # what an earlier import made of the same lines
        self.rows: list[tuple[Any, ...]] = []
        self.raw: list[bytes] = []
        self.compressed: Future[list[bytes]] | None = None
        self.mended: list[tuple[int, int]] = []

    def log_all(self, record: MessageRecord, disposition: str, message_id: int | None) -> None:
        """Log the records of a message as what they became."""
        self.file.became.add(disposition)
        if record.packed.unknown and disposition in ("imported", "merged"):
            if record.records:
                self.file.report.add_unknown(record.records[0].line, record.packed.unknown)
            else:
                self.file.unknown += record.packed.unknown
        for part, became in dispositions(record, disposition):
            self.log(part, became, message_id, None)

    def log(self, record: InputRecord, disposition: str, message_id: int | None, problem: str | None) -> None:
        """Log a record, unless it became the same before."""
        self.file.report.records[disposition] += 1
        before = self.before.get(record.line)
        torn = before is not None and before.disposition == "bad"
        if torn and disposition != "bad":  # it is whole now
            self.mended.append((self.file.id, record.line))
        elif before is not None and disposition in ("duplicate", "ignored", "bad"):
            return
        named = texts.clean(record.external_id) if record.external_id else None
        self.rows.append((self.file.id, record.line, named, message_id, disposition, problem))
        self.raw.append(record.raw)

    def compress(self) -> None:
        """Begin to compress the records in a thread, while the messages are entered."""
        self.compressed = self.file.pool.submit(_compressed, self.raw) if self.file.keep_raw else None

    def write(self) -> None:
        """Enter what was logged."""
        raw = self.compressed.result() if self.compressed else [None] * len(self.rows)
        with database.translated():
            database.driver_connection().executemany(_MENDED, self.mended)
            rows = ((*row, data) for row, data in zip(self.rows, raw, strict=True))
            database.driver_connection().executemany(_LOG, rows)


def _compressed(records: list[bytes]) -> list[bytes]:
    return [zlib.compress(record, 1) for record in records]
