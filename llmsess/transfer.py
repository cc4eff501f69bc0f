"""Import: drives an importer's records into the database, idempotent and incremental.

What identifies a session is (format, external id), a message its external id within the format. A record whose
messages are all known is a duplicate; a known message that comes again with more in it (a reply that had not ended) is
replaced, its earlier raw record kept. Every input record ends as imported, merged, duplicate, ignored or bad, and the
sum is their number. `staging` enters the records, `linking` settles what needs records of other files.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmsess import importers, staging
from llmsess.errors import InvalidInput, NotFound
from llmsess.importers.base import Bad, Ignored, Importer, Item, MessageRecord, SessionRecord, Source, TitleRecord

DISPOSITIONS = ("imported", "merged", "duplicate", "ignored", "bad")
PROBLEMS_KEPT = 1_000  # of one source, in the report; every bad record is in import_records


@dataclass
class SourceReport:
    """What became of one file; `sessions` and `messages` are those it contains, new or not."""

    path: str
    format: str
    sessions: int = 0
    messages: int = 0
    records: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(DISPOSITIONS, 0)))
    problems: list[tuple[int, str]] = field(default_factory=list)

    def add_problem(self, line: int, message: str) -> None:
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((line, message))


@dataclass
class ImportReport:
    """What an import did, file by file."""

    sources: list[SourceReport] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """Return the sums over all sources: sources, sessions, messages, and each disposition."""
        records: Counter[str] = sum((source.records for source in self.sources), Counter())
        return {
            "sources": len(self.sources),
            "sessions": sum(source.sessions for source in self.sources),
            "messages": sum(source.messages for source in self.sources),
        } | {name: records[name] for name in DISPOSITIONS}

    @property
    def failed(self) -> bool:
        """Return whether any record could not be read."""
        return any(source.records["bad"] for source in self.sources)


def run(
    format: str,
    paths: str | Path | Iterable[str | Path],
    *,
    dry_run: bool = False,
    keep_raw: bool = True,
    on_source: Callable[[SourceReport], None] | None = None,
) -> ImportReport:
    """Import files and folders of a format, or of whichever they have with "auto"; return what became of each record.

    Folders are searched for files of the format. A dry run reads and counts and changes nothing. Raises NotFound for a
    path that is missing, InvalidInput for a file of no known format.
    """
    report = ImportReport()
    for source, importer in list(plan(format, paths)):
        found = SourceReport(str(source.path), importer.NAME)
        report.sources.append(found)
        if dry_run:
            _count(importer.read(source), found)
        else:
            staging.enter(source, importer, found, keep_raw=keep_raw)
        if on_source is not None:
            on_source(found)
    return report


def plan(format: str, paths: str | Path | Iterable[str | Path]) -> Iterator[tuple[Source, Importer]]:
    """Yield the files to read with their importers, checked before anything is read."""
    wanted = None if format == "auto" else importers.get(format)
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if "\0" in str(path) or not path.exists():
            raise NotFound("file", str(path), hint="check the path")
        found = 0
        for file in _files(path):
            source = Source(file.absolute())
            try:
                importer = wanted if wanted and (path.is_file() or wanted.matches(source.head())) else None
                if wanted is None:
                    importer = importers.detect(source)
            except (OSError, EOFError, zlib.error) as error:
                raise InvalidInput(f"{file} cannot be read: {error}") from error
            if importer is not None:
                found += 1
                yield source, importer
        if not found:
            trouble = "has no format that is known" if path.is_file() else "has no file of a known format in it"
            raise InvalidInput(f"{path} {trouble}", hint="llmsess import --formats")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = [file for file in path.rglob("*") if file.suffix in (".json", ".jsonl", ".gz") and file.is_file()]
    return sorted(file for file in found if not file.name.endswith(".meta.json"))


def _count(items: Iterator[Item], report: SourceReport) -> None:
    """Count what a file contains, without a database; a dry run calls every readable record imported."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, SessionRecord):
            seen.add(item.external_id)
        elif isinstance(item, MessageRecord):
            report.messages += 1
            for i, _ in enumerate(item.records):
                report.records["merged" if i else "imported"] += 1
        elif isinstance(item, TitleRecord):
            report.records["merged"] += 1
        else:
            _count_other(item, report)
    report.sessions = len(seen)


def _count_other(item: Ignored | Bad, report: SourceReport) -> None:
    report.records["bad" if isinstance(item, Bad) else "ignored"] += 1
    if item.problem:
        report.add_problem(item.record.line, item.problem)
