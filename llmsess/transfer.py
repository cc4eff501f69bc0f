"""Import: drives an importer's records into the database, idempotent and incremental.

What identifies a session is (format, external id), a message its external id within the format. A record whose
messages are all known is a duplicate; a known message that comes again with more in it (a reply that had not ended) is
replaced, its earlier raw record kept. Every input record ends as imported, merged, duplicate, ignored or bad, and the
sum is their number. `finding` tells what there is to read, `staging` enters the records, `linking` settles what needs
records of other files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from llmsess import finding, restoring, staging, surveying
from llmsess.errors import InvalidInput
from llmsess.importers.source import Meter
from llmsess.matching import DISPOSITIONS, Extent, SourceReport

__all__ = ["DISPOSITIONS", "ImportReport", "SourceReport", "run"]


@dataclass
class ImportReport:
    """What an import did, file by file."""

    sources: list[SourceReport] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # files of no known format, in the folders and archives

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
        """Return whether any record could not be read, or not be understood wholly."""
        return any(source.records["bad"] or source.unknown for source in self.sources)


def run(
    format: str,
    paths: str | Path | Iterable[str | Path],
    *,
    dry_run: bool = False,
    keep_raw: bool = True,
    undelete: bool = False,
    on_bytes: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import files, archives and folders of a format, or of whichever they have with "auto".

    Returns what became of each record. Folders and archives are searched for files of the format. A dry run reads and
    counts and changes nothing. `undelete` brings back sessions that were deleted here. `on_bytes` is told, often, how
    many bytes of how many have been read. Raises NotFound for a path that is missing, Unrecognised for a file of no
    known format or of another one, InvalidInput for one that cannot be read.
    """
    plan = finding.plan(format, paths)
    report = ImportReport(skipped=plan.skipped)
    for path, message in plan.unreadable:
        report.sources.append(SourceReport(path, "unknown"))
        report.sources[-1].add_bad(message)
    seen: dict[int, Extent] = {}  # what the files before have, in a dry run
    total, meter = sum(source.size() for source, _ in plan.sources), Meter()

    def on_chunk() -> None:
        if on_bytes is not None:
            on_bytes(min(meter.bytes, total), total)

    for planned, importer in plan.sources:
        source = replace(planned, meter=meter)
        found = SourceReport(source.name, importer.NAME)
        report.sources.append(found)
        try:
            own = importer.NAME == restoring.FORMAT
            if dry_run:
                if own:
                    surveying.survey_rows(source, importer, found, on_chunk)
                else:
                    surveying.survey(source, importer, found, on_chunk, undelete=undelete, seen=seen)
            else:
                enter = restoring.enter if own else staging.enter
                enter(source, importer, found, on_chunk, keep_raw=keep_raw, undelete=undelete)
        except OSError as error:
            found.add_bad(f"the file cannot be read: {error.strerror or error}")
        except InvalidInput as error:
            found.add_bad(error.message)
    return report
