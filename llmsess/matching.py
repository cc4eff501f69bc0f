"""A file that is being imported: its report, and what the database has of it already, messages, sessions, lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from llmsess import catalog, texts
from llmsess.db import database
from llmsess.importers.base import (
    OPENING_CHARACTERS,
    Importer,
    InputRecord,
    Item,
    MessageRecord,
    SessionRecord,
    Whole,
)
from llmsess.importers.source import Source
from llmsess.models import LanguageModel, dump_json, now, time_text

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
    unknown: int = 0  # blocks of new messages that were kept and not understood

    def add_bad(self, message: str) -> None:
        """Count a record for a file that cannot be read."""
        self.records["bad"] += 1
        self.add_problem(0, message)

    def add_unknown(self, line: int, kinds: Iterable[str]) -> None:
        """Count blocks of a message that no one understood."""
        for kind in kinds:
            self.unknown += 1
            self.add_problem(line, f'unknown block "{kind}": kept as it is')

    def add_left_out(self, whole: Whole) -> None:
        """Count what could not be taken along of a conversation."""
        for problem in whole.problems:
            self.unknown += 1
            self.add_problem(whole.record.line, problem)

    def add_problem(self, line: int, message: str) -> None:
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((line, message))


class ImportFile:
    """The file being entered, and what is known of it across its chunks."""

    def __init__(
        self, source: Source, importer: Importer, report: SourceReport, *, keep_raw: bool = True, undelete: bool = False
    ) -> None:
        self.format, self.report, self.keep_raw, self.undelete = importer.NAME, report, keep_raw, undelete
        self.id = self._begin(source)
        self.pool = ThreadPoolExecutor(1)  # compresses records
        self.sessions: set[int] = set()  # ours, of this file
        self.repeated: set[int] = set()  # of other files, whose messages this one repeats
        self.deleted: set[str] = set()  # sessions that a person deleted here
        self.told: set[str] = set()  # titles of this file
        self.newer: set[int] = set()  # sessions of which the file has a later version than we have
        self.older: set[int] = set()  # likewise, an earlier one
        self.became: set[str] = set()  # what the messages since the last whole conversation became
        self.unknown: list[str] = []  # likewise, their blocks that no one understood
        self.heads: dict[int, str] = {}  # session: external id of the message it stands at, until that has come
        self.models: dict[str, LanguageModel] = {}
        self.projects: dict[str, int] = {}

    def _begin(self, source: Source) -> int:
        """Write the row of the file, or bring it up to date."""
        mtime = self.mtime = time_text(source.mtime())
        with database.atomic():
            row = database.execute_sql(
                "INSERT INTO import_sources (path, format, sha256, size_bytes, mtime, imported_at, complete) "
                "VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (path, format) DO UPDATE SET sha256 = excluded.sha256, "
                "size_bytes = excluded.size_bytes, mtime = excluded.mtime, imported_at = excluded.imported_at, "
                "complete = 0 RETURNING id",
                (source.name, self.format, source.sha256(), source.size(), mtime, time_text(now())),
            ).fetchone()
        return int(row[0])

    def forget(self) -> None:
        """Look models and projects up again in the next chunk: another process may delete them between two."""
        self.models.clear()
        self.projects.clear()

    def project(self, name: str) -> int:
        known = self.projects.get(name)
        if known is None:
            known = self.projects[name] = catalog.project_id(name)
        return known

    def model(self, reference: str | None) -> LanguageModel | None:
        """Return the model of `provider/name`, None where either of them says nothing."""
        provider, _, name = (reference or "").partition("/")
        if reference is None or not provider.strip() or not name.strip():
            return None
        known = self.models.get(reference)
        if known is None:
            known = LanguageModel.get_by_id(catalog.model_id(texts.clean(reference)))
            self.models[reference] = known
        return known


@dataclass(slots=True)
class Known:
    """A message that the database has, or will have at the end of the chunk."""

    id: int
    session_id: int
    position: int
    role: str
    length: int
    opening: str
    output_tokens: int | None

    @property
    def extent(self) -> Extent:
        """Return how much it says: a message that comes again with more is newer."""
        return Extent(self.length, self.opening, self.output_tokens)


class Extent(NamedTuple):
    """How much a message says: its characters, how it begins, its output tokens."""

    length: int
    opening: str
    output_tokens: int | None


@dataclass(slots=True)
class Growth:
    """A session while a chunk is entered."""

    id: int
    head_id: int | None
    next_sequence: int
    deleted: bool
    movable: bool  # the head was set by an import, so a further one may move it
    title: str | None
    latest: str
    earliest: str | None
    imported_title: str | None = None
    source_updated_at: str | None = None
    partial: bool = False
    model_id: int | None = None  # of the newest reply in the chunk
    dirty: bool = False


_GROWTH = """
    SELECT s.external_id, s.id, s.head_id, s.next_sequence, s.status = 'deleted' AND s.is_partial IS NULL,
        s.head_id IS NULL OR m.external_id IS NOT NULL, s.title, s.last_activity_at, s.started_at, s.imported_title,
        s.source_updated_at, s.is_partial
    FROM sessions s LEFT JOIN messages m ON m.id = s.head_id
"""


def find_same(
    record: MessageRecord,
    candidates: list[Known],
    session_id: int | None,
    logged: dict[int, Logged],
    family: Callable[[int], frozenset[int]],
) -> Known | None:
    """Return the message we have that the record is: of its session, or equal, or what its line became before.

    `family` returns the sessions that are related to one.
    """
    for known in candidates:
        if known.session_id == session_id:
            return known
    this = (record.role, record.weight, record.opening)
    for known in candidates:
        related = not record.kin or (session_id is not None and known.session_id in family(session_id))
        if (known.role, known.length, known.opening) == this and related:
            return known
    before = logged.get(record.records[0].line) if record.records else None
    return next((known for known in candidates if before and known.id == before.message_id), None)


_STEPS = (  # from a session to those it is related to: one above or below it, also one that is not there yet
    "s.id = f.parent",
    "s.parent_session_id = f.id",
    "s.source = f.source AND s.external_id = f.named",
    "s.source = f.source AND s.parent_external_id = f.external_id",
    "s.source = f.source AND s.parent_external_id = f.named",
)
_COLUMNS = "s.id, s.parent_session_id, s.source, s.external_id, s.parent_external_id"
_FAMILY = f"""
    WITH RECURSIVE family (id, parent, source, external_id, named) AS (
        SELECT {_COLUMNS} FROM sessions s WHERE s.id = ?
        {" ".join(f"UNION SELECT {_COLUMNS} FROM family f JOIN sessions s ON {step}" for step in _STEPS)}
    ) SELECT id FROM family
"""
_ABOVE = f"""
    WITH RECURSIVE family (id, parent, source, external_id, named) AS (
        SELECT {_COLUMNS} FROM sessions s WHERE s.id = ?
        {" ".join(f"UNION SELECT {_COLUMNS} FROM family f JOIN sessions s ON {_STEPS[i]}" for i in (0, 2))}
    ) SELECT id FROM family
"""


def family(session_id: int) -> frozenset[int]:
    """Return the sessions that are related to one by forks and sub-agents, itself among them."""
    return frozenset(row[0] for row in database.execute_sql(_FAMILY, (session_id,)).fetchall())


def line_of(session_id: int) -> frozenset[int]:
    """Return a session and those it descends from."""
    return frozenset(row[0] for row in database.execute_sql(_ABOVE, (session_id,)).fetchall())


def whole(became: set[str]) -> str:
    """Return what a record of a whole conversation became, by what its messages became."""
    return next((name for name in ("imported", "merged", "ignored") if name in became), "duplicate")


def dispositions(record: MessageRecord, disposition: str) -> Iterator[tuple[InputRecord, str]]:
    """Yield the input records of a message with what each became: further ones are merged into what the first is."""
    for i, part in enumerate(record.records):
        yield part, "merged" if i and disposition == "imported" else disposition


def disposition(record: MessageRecord, before: Extent | None, *, newer: bool = False, older: bool = False) -> str:
    """Return what a message becomes; `before` is what we have of it, None for nothing.

    Of a newer version of its conversation whatever differs replaces it, of an older one nothing; else what is longer.
    """
    if before is None:
        return "imported"
    if older:
        return "duplicate"
    if newer and (record.weight, record.opening) != (before.length, before.opening):
        return "merged"
    grown = (record.usage.output_tokens or 0) > (before.output_tokens or 0)
    longer = record.weight > before.length
    return "merged" if longer or (grown and record.weight >= before.length) else "duplicate"


_LENGTH = " + ".join(
    f"CASE WHEN m.{name}_sha256 IS NULL THEN coalesce(length(m.{name}), 0) ELSE "
    f"(SELECT length(t.content) FROM texts t WHERE t.sha256 = m.{name}_sha256) END"
    for name in texts.FIELDS
)
_OPENING = (
    f"substr(CASE WHEN m.content = '' THEN coalesce(m.tool_text, '') ELSE m.content END, 1, {OPENING_CHARACTERS})"
)


def find_known(source: str, external_ids: Iterable[str]) -> dict[str, list[Known]]:
    """Return the messages of a format that the database has, by external id."""
    found: dict[str, list[Known]] = {}
    rows = database.execute_sql(
        f"SELECT m.external_id, m.id, m.session_id, m.position, m.role, {_LENGTH}, {_OPENING}, m.output_tokens "
        "FROM json_each(?) w CROSS JOIN messages m ON m.external_id = w.value "
        "CROSS JOIN sessions s ON s.id = m.session_id WHERE s.source = ?",
        (dump_json(list(external_ids)), source),
    )
    for row in rows.fetchall():
        found.setdefault(row[0], []).append(Known(*row[1:]))
    return found


def find_growths(source: str, external_ids: Iterable[str]) -> dict[str, Growth]:
    """Return the sessions of a format that the database has, by external id."""
    wanted = dump_json(list(external_ids))
    sql = f"{_GROWTH} WHERE s.source = ? AND s.external_id IN (SELECT value FROM json_each(?))"
    found = {}
    for external_id, *row in database.execute_sql(sql, (source, wanted)).fetchall():
        row_id, head, sequence, deleted, movable, title, latest, earliest, imported, updated, partial = row
        told = (earliest or "") if sequence == 1 else latest  # before its first message it has only a start
        found[external_id] = Growth(
            row_id, head, sequence, bool(deleted), bool(movable), title, told, earliest, imported, updated,
            bool(partial),
        )  # fmt: skip
    return found


class Logged(NamedTuple):
    """What an earlier import of a file made of one of its lines."""

    disposition: str
    message_id: int | None


def logged_lines(source_id: int, items: list[Item]) -> dict[int, Logged]:
    """Return what an earlier import of the file made of the lines of a chunk, by line."""
    numbers = [record.line for item in items for record in _records(item)]
    if not numbers:
        return {}
    rows = database.execute_sql(
        "SELECT line, disposition, message_id FROM import_records WHERE source_id = ? AND line BETWEEN ? AND ? "
        "ORDER BY id",
        (source_id, min(numbers), max(numbers)),
    )
    return {line: Logged(*rest) for line, *rest in rows.fetchall()}


def _records(item: Item) -> list[InputRecord]:
    if isinstance(item, SessionRecord):
        return []
    return item.records if isinstance(item, MessageRecord) else [item.record]
