"""Import: drives an importer's records into the database, idempotent and incremental.

What identifies a session is (format, external id), a message its external id within the format. A record whose
messages are all known is a duplicate; a known message that comes again with more in it (a reply that had not ended) is
replaced, its earlier raw record kept. Every input record ends as imported, merged, duplicate, ignored or bad, and the
sum is their number. `staging` enters the records, `linking` settles what needs records of other files.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from llmsess import importers, staging, surveying
from llmsess.errors import InvalidInput, NotFound, Unrecognised
from llmsess.importers.base import Importer, Source
from llmsess.matching import DISPOSITIONS, SourceReport

__all__ = ["DISPOSITIONS", "ImportReport", "SourceReport", "plan", "run"]


@dataclass
class ImportReport:
    """What an import did, file by file."""

    sources: list[SourceReport] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # files of no known format, in the folders

    def add_unreadable(self, path: str, message: str) -> None:
        """Count a file or folder that cannot even be looked at."""
        self.sources.append(SourceReport(path, "unknown"))
        self.sources[-1].add_bad(message)

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
    undelete: bool = False,
    on_source: Callable[[SourceReport], None] | None = None,
) -> ImportReport:
    """Import files and folders of a format, or of whichever they have with "auto"; return what became of each record.

    Folders are searched for files of the format. A dry run reads and counts and changes nothing. `undelete` brings back
    sessions that were deleted here. Raises NotFound for a path that is missing, Unrecognised for a file of no known
    format or of another one, InvalidInput for one that cannot be read.
    """
    report = ImportReport()
    for source, importer in plan(format, paths, report):
        found = SourceReport(source.name, importer.NAME)
        report.sources.append(found)
        try:
            if dry_run:
                surveying.survey(source, importer, found, undelete=undelete)
            else:
                staging.enter(source, importer, found, keep_raw=keep_raw, undelete=undelete)
        except OSError as error:
            found.add_bad(f"the file cannot be read: {error.strerror or error}")
        if on_source is not None:
            on_source(found)
    return report


def plan(format: str, paths: str | Path | Iterable[str | Path], report: ImportReport) -> list[tuple[Source, Importer]]:
    """Return the files to read with their importers, looked at before anything is read.

    The report gets the files of folders that are of no known format, and those that cannot be read.
    """
    wanted = None if format == "auto" else importers.get(format)
    planned: list[tuple[Source, Importer]] = []
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if not _exists(path):
            raise NotFound("file", str(path), hint="check the path")
        if path.is_file():
            source = Source(path.absolute())
            planned.append((source, _of_file(source, wanted)))
            continue
        found = _in_folder(path, wanted, report)
        if not found and not report.failed:
            raise Unrecognised(f"{path} has no file of {'a known format' if wanted is None else format} in it")
        planned += found
    return planned


def _exists(path: Path) -> bool:
    try:
        return "\0" not in str(path) and path.exists()
    except OSError as error:
        raise InvalidInput(f"{str(path)[:200]} cannot be read: {error.strerror}") from error


def _in_folder(folder: Path, wanted: Importer | None, report: ImportReport) -> list[tuple[Source, Importer]]:
    """Return the files of a folder that are of the wanted format, or of any."""
    found = []
    for file in _files(folder, report):
        source = Source(file.absolute())
        try:
            importer = _looked_at(source)
        except InvalidInput as error:
            report.add_unreadable(source.name, error.message)
            continue
        if importer is not None and wanted in (None, importer):
            found.append((source, importer))
        else:
            report.skipped.append(source.name)
    return found


def _of_file(source: Source, wanted: Importer | None) -> Importer:
    """Return the importer for a file that was named: the wanted one, unless the file is plainly of another format."""
    looked_at = _looked_at(source)
    if wanted is None:
        if looked_at is None:
            raise Unrecognised(f"{source.path} has no format that is known")
        return looked_at
    if looked_at not in (None, wanted) and not wanted.matches(source.head()):
        raise Unrecognised(f"{source.path} is no {wanted.NAME} but {looked_at.NAME}", hint="llmsess import auto PATH")
    return wanted


def _looked_at(source: Source) -> Importer | None:
    try:
        return importers.detect(source)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{source.name} cannot be read: {error}") from error


def _files(folder: Path, report: ImportReport) -> list[Path]:
    """Return the files below a folder that may be transcripts, sorted; links to folders are not followed."""

    def unreadable(error: OSError) -> None:
        report.add_unreadable(str(error.filename), f"the folder cannot be read: {error.strerror}")

    found = []
    for parent, _, names in os.walk(folder, onerror=unreadable):
        files = (Path(parent, name) for name in names if name.endswith((".json", ".jsonl", ".gz")))
        found += [file for file in files if not file.name.endswith(".meta.json") and os.path.isfile(file)]
    return sorted(found)
