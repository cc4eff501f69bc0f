"""What an import would make of a file's records, told without writing anything."""

from __future__ import annotations

from collections.abc import Callable

from llmsess import linking
from llmsess.db import database
from llmsess.importers.base import (
    Bad,
    Ignored,
    Importer,
    Item,
    MessageRecord,
    Row,
    SessionRecord,
    TitleRecord,
    Whole,
    chunks,
)
from llmsess.importers.source import Source
from llmsess.matching import (
    Extent,
    SourceReport,
    disposition,
    dispositions,
    family,
    find_growths,
    find_known,
    find_same,
    logged_lines,
    whole,
)
from llmsess.models import dump_json


def survey(
    source: Source,
    importer: Importer,
    report: SourceReport,
    on_chunk: Callable[[], None] = lambda: None,
    *,
    undelete: bool = False,
    seen: dict[int, Extent] | None = None,
) -> None:
    """Count in the report what an import of the file would make of each record; `seen` is what files before had."""
    looking = _Survey(source, importer.NAME, report, undelete, {} if seen is None else seen)
    for items in chunks(importer.read(source)):
        looking.take(items)
        on_chunk()
    report.sessions = len(looking.sessions)


class _Survey:
    """What is known of a file across its chunks."""

    def __init__(
        self, source: Source, format: str, report: SourceReport, undelete: bool, seen: dict[int, Extent]
    ) -> None:
        self.format, self.report, self.undelete = format, report, undelete
        self.sessions: set[str] = set()
        self.seen = seen  # by hash, what messages that would be new have in them
        self.told: set[str] = set()  # titles that would be
        self.became_since: set[str] = set()  # what the messages since the last whole conversation would become
        self.unknown_since: list[str] = []  # likewise, their blocks that no one understood
        sql = "SELECT id FROM import_sources WHERE path = ? AND format = ?"
        row = database.execute_sql(sql, (source.name, format)).fetchone()
        self.source_id = row[0] if row else 0

    def take(self, items: list[Item]) -> None:
        messages = [item for item in items if isinstance(item, MessageRecord)]
        self.known = find_known(self.format, {item.external_id for item in messages})
        named = {item.session for item in messages}
        named |= {item.external_id for item in items if isinstance(item, SessionRecord)}
        self.growths = find_growths(self.format, named)
        self.logged = logged_lines(self.source_id, items)
        for item in items:
            if isinstance(item, SessionRecord):
                key = hash((self.format, item.external_id))
                if key not in self.seen and item.external_id not in self.growths:
                    self.became_since.add("imported")
                    self.seen[key] = Extent(0, "", None)
                self.sessions.add(item.external_id)
            elif isinstance(item, MessageRecord):
                self.report.messages += 1
                became = self.became(item)
                self.became_since.add(became)
                if item.packed.unknown and became in ("imported", "merged"):
                    self.unknown(item)
                for _, disposed in dispositions(item, became):
                    self.report.records[disposed] += 1
            elif isinstance(item, Whole):
                became = whole(self.became_since)
                self.report.records[became] += 1
                if became in ("imported", "merged"):
                    self.report.add_unknown(item.record.line, self.unknown_since)
                    self.report.add_left_out(item)
                self.became_since.clear()
                self.unknown_since.clear()
            elif isinstance(item, TitleRecord):
                self.report.records["duplicate" if self.is_told(item) else "merged"] += 1
            elif isinstance(item, (Ignored, Bad)):
                self.report.records["bad" if isinstance(item, Bad) else "ignored"] += 1
                if item.problem:
                    self.report.add_problem(item.record.line, item.problem)

    def became(self, record: MessageRecord) -> str:
        """Return what a message would become."""
        growth = self.growths.get(record.session)
        if growth is not None and growth.deleted and not self.undelete:
            return "ignored"
        candidates = self.known.get(record.external_id, [])
        same = find_same(record, candidates, growth.id if growth else None, self.logged, family)
        if same is not None:
            return disposition(record, same.extent)
        key = hash((self.format, record.session, record.external_id))
        became = disposition(record, self.seen.get(key))
        if became != "duplicate":
            self.seen[key] = Extent(record.weight, record.opening, record.usage.output_tokens)
        return became

    def unknown(self, item: MessageRecord) -> None:
        if item.records:
            self.report.add_unknown(item.records[0].line, item.packed.unknown)
        else:
            self.unknown_since += item.packed.unknown

    def is_told(self, item: TitleRecord) -> bool:
        key = linking.title_key(item)
        known = key in self.told or linking.is_told(item)
        self.told.add(key)
        return known


_KNOWN = "SELECT uuid FROM {} WHERE uuid IN (SELECT value FROM json_each(?))"
_BLOBS = "SELECT sha256 FROM blobs WHERE sha256 IN (SELECT value FROM json_each(?))"
_TABLES = {"project": "projects", "model": "models", "session": "sessions", "message": "messages"}


def survey_rows(
    source: Source, importer: Importer, report: SourceReport, on_chunk: Callable[[], None] = lambda: None
) -> None:
    """Count in the report what an import of a file of our own format would make of each row."""
    for items in chunks(importer.read(source)):
        rows = [item for item in items if isinstance(item, Row)]
        named = {kind: _KNOWN.format(table) for kind, table in _TABLES.items()} | {"blob": _BLOBS}
        known: set[tuple[str, str]] = set()
        for kind, sql in named.items():
            keys = dump_json([_key(row) for row in rows if row.kind == kind and _key(row)])
            known |= {(kind, found[0]) for found in database.execute_sql(sql, (keys,)).fetchall()}
        for row in rows:
            report.sessions += row.kind == "session"
            report.messages += row.kind == "message"
            report.records["duplicate" if (row.kind, _key(row)) in known else "imported"] += 1
        for item in items:
            if isinstance(item, (Ignored, Bad)):
                report.records["bad" if isinstance(item, Bad) else "ignored"] += 1
                if item.problem:
                    report.add_problem(item.record.line, item.problem)
        on_chunk()


def _key(row: Row) -> str:
    value = row.values.get("sha256" if row.kind == "blob" else "uuid")
    return value if isinstance(value, str) else ""
