"""Is the database whole? `check()` proves what the other modules promise; `info()` says what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peewee import JSONField

from llmsess import db, filesystems, listing
from llmsess.db import TROUBLES, database
from llmsess.door import ORIGINS, ROLES, SESSION_TYPES, SNAPSHOT_TYPES, STATUSES
from llmsess.models import TABLES
from llmsess.texts import FIELDS
from llmsess.writing import UNUSED_BLOB, UNUSED_TEXT

FINDINGS_SHOWN = 20  # of one check


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: which check found it, and what."""

    check: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """What `check()` looked at and found; warnings are no findings."""

    checks: list[str]
    findings: list[Finding]
    warnings: list[str]


_TREE = (
    "SELECT 'message ' || m.uuid || ' has position ' || m.position || ', its parent ' || coalesce(p.position, 'none') "
    "FROM messages m LEFT JOIN messages p ON p.id = m.parent_id WHERE m.position <> coalesce(p.position, 0) + 1",
    "SELECT 'message ' || uuid || ' has a parent and still waits for one' FROM messages "
    "WHERE parent_id IS NOT NULL AND parent_external_id IS NOT NULL",
    "SELECT 'session ' || s.uuid || ' numbers messages beyond its next one' FROM sessions s "
    "WHERE s.next_sequence <= (SELECT max(m.sequence_number) FROM messages m WHERE m.session_id = s.id)",
    "SELECT 'session ' || s.uuid || ' is no branch, and its head is a message of another session' FROM sessions s "
    "JOIN messages m ON m.id = s.head_id WHERE m.session_id <> s.id AND s.relation IS NULL AND s.source IS NULL",
    "SELECT 'message ' || uuid || ' is unfinished and nobody writes it' FROM messages "
    "WHERE owner IS NULL AND status IN ('pending', 'streaming')",
)
_TOTALS = """
    SELECT 'session ' || s.uuid || ' has totals that are not the sums of its messages' FROM sessions s
    LEFT JOIN (
        SELECT session_id, count(*) AS n, sum(coalesce(input_tokens, 0)) AS i,
            sum(coalesce(cached_input_tokens, 0)) AS c, sum(coalesce(cache_write_tokens, 0)) AS w,
            sum(coalesce(output_tokens, 0)) AS o, sum(coalesce(cost, 0)) AS p,
            sum(role = 'assistant' AND origin = 'model' AND cost IS NULL
                AND status IN ('complete', 'interrupted')) AS u
        FROM messages GROUP BY session_id
    ) t ON t.session_id = s.id
    WHERE s.total_messages <> coalesce(t.n, 0) OR s.total_input_tokens <> coalesce(t.i, 0)
        OR s.total_cached_input_tokens <> coalesce(t.c, 0) OR s.total_cache_write_tokens <> coalesce(t.w, 0)
        OR s.total_output_tokens <> coalesce(t.o, 0) OR s.total_cost <> coalesce(t.p, 0)
        OR s.unpriced_messages <> coalesce(t.u, 0)
"""
_TEXTS = tuple(
    f"SELECT 'message ' || m.uuid || ' misses its {name}' FROM messages m WHERE m.{name}_sha256 IS NOT NULL "
    f"AND NOT EXISTS (SELECT 1 FROM texts t WHERE t.sha256 = m.{name}_sha256)"
    for name in FIELDS
)
TIME = "[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z"
WORDS: dict[str, dict[str, tuple[str, ...]]] = {  # table: {column: the words it may hold}
    "messages": {"role": ROLES, "origin": ORIGINS, "status": STATUSES},
    "sessions": {"session_type": SESSION_TYPES, "status": (*listing.STATUSES, "deleted")},
    "session_snapshots": {"snapshot_type": SNAPSHOT_TYPES},
    "calls": {"outcome": ("sent", "ok", "error", "unknown", "cancelled")},
}


_TYPES = {  # what SQLite calls the values of a field
    **dict.fromkeys(("TextField", "CharField"), "'text'"),
    **dict.fromkeys(
        ("IntegerField", "BigIntegerField", "NanoUsdField", "ForeignKeyField", "BooleanField"), "'integer'"
    ),
    "DoubleField": "'real', 'integer'",
}
_JSON_TYPES = {
    **{(table, name): "object" for table in ("messages", "sessions") for name in ("metadata", "usage", "parameters")},
    ("messages", "parts"): "array",
    ("session_snapshots", "session_state"): "object",
    ("session_snapshots", "context_window"): "array",
}


def _values() -> tuple[str, ...]:
    """Return for each table the query that finds rows with a time, a JSON text or a word that cannot be read."""
    queries = []
    for model in TABLES:
        table = model._meta.table_name
        tests = []
        for field in model._meta.sorted_fields:
            column = field.column_name
            kinds = _TYPES.get(type(field).__name__)
            if kinds is not None:
                tests.append((column, f"typeof({column}) NOT IN ({kinds}, 'null')"))
            if field.field_type == "TIMESTAMPTZ":
                tests.append((column, f"{column} NOT GLOB '{TIME}'"))
            elif isinstance(field, JSONField):
                kind = _JSON_TYPES.get((table, column))
                odd = f" OR json_type({column}) <> '{kind}'" if kind else ""
                tests.append((column, f"iif(json_valid({column}), FALSE{odd}, {column} IS NOT NULL)"))
        for column, words in WORDS.get(table, {}).items():
            tests.append((column, f"{column} NOT IN ({', '.join(map(repr, words))})"))
        if tests:
            cases = " ".join(f"WHEN {test} THEN '{column}'" for column, test in tests)
            wrong = " OR ".join(f"({test})" for _, test in tests)
            queries.append(
                f"SELECT 'row ' || id || ' of {table} has a value that cannot be read in ' || CASE {cases} END "
                f"FROM {table} WHERE {wrong}"
            )
    return tuple(queries)


_UNUSED = (
    f"SELECT 'row ' || t.id || ' of texts is used by no message' FROM texts t WHERE {UNUSED_TEXT}",
    f"SELECT 'row ' || b.id || ' of blobs is used by no message' FROM blobs b WHERE {UNUSED_BLOB}",
)
QUERIES: dict[str, tuple[str, ...]] = {
    "tree": _TREE,
    "totals": (_TOTALS,),
    "texts": (*_TEXTS, *_UNUSED),
    "values": _values(),
}


def check() -> CheckReport:
    """Run every check on the open database.

    They are SQLite's own, foreign keys, the search index, the tree, totals, large texts and attachments against their
    hashes, and values (times, JSON, states).
    """
    findings = [*_schema(), *_sqlite(), *_foreign_keys(), *_index()]
    for name, queries in QUERIES.items():
        for sql in queries:
            findings.extend(Finding(name, detail) for detail in _column(sql))
    findings.extend([*_hashes("texts", "content"), *_hashes("blobs", "data")])
    names = ["schema", "integrity", "foreign keys", "search index", *QUERIES, "hashes"]
    return CheckReport(names, findings, [*sqlite_warnings(db.driver.sqlite_version_info)])


def _hashes(table: str, column: str) -> Iterator[Finding]:
    """Compare what is stored once by its hash with that hash, row by row."""
    try:
        for row_id, sha256, data in database.execute_sql(f"SELECT id, sha256, CAST({column} AS BLOB) FROM {table}"):
            if hashlib.sha256(data).hexdigest() != sha256:
                yield Finding("hashes", f"row {row_id} of {table} is not what its hash says")
    except TROUBLES as error:
        yield Finding("hashes", str(error))


def _schema() -> Iterator[Finding]:
    there = {str(row[0]) for row in _guarded("SELECT name FROM sqlite_master")}
    for name in [model._meta.table_name for model in TABLES] + ["messages_fts", "messages_text", "v_session_summary"]:
        if name not in there:
            yield Finding("schema", f"{name} is missing")


def _sqlite() -> Iterator[Finding]:
    details = _guarded(f"PRAGMA integrity_check({FINDINGS_SHOWN})")
    yield from (Finding("integrity", str(row[0])) for row in details if row[0] != "ok")


def _foreign_keys() -> Iterator[Finding]:
    for row in _guarded("PRAGMA foreign_key_check")[:FINDINGS_SHOWN]:
        yield Finding(
            "foreign keys", " ".join(map(str, row)) if len(row) == 1 else f"row {row[1]} of {row[0]} names no {row[2]}"
        )


def _index() -> Iterator[Finding]:
    """Compare the index with the texts: only the check of rank 1 does, integrity_check does not see a difference."""
    try:
        database.execute_sql("INSERT INTO messages_fts (messages_fts, rank) VALUES ('integrity-check', 1)")
    except TROUBLES as error:
        yield Finding("search index", f"the index differs from the messages: {error}")


def _guarded(sql: str) -> list[Any]:
    """Return the rows, or the error as a row: a damaged file is what a check is for."""
    try:
        return list(database.execute_sql(sql).fetchall())
    except TROUBLES as error:
        return [(str(error),)]


def _column(sql: str) -> list[str]:
    return [str(row[0]) for row in _guarded(f"{sql} LIMIT {FINDINGS_SHOWN}")]


def sqlite_warnings(version: tuple[int, ...]) -> Iterator[str]:
    """Yield what is known against a version of SQLite: the WAL-reset bug (https://sqlite.org/wal.html#walresetbug)."""
    fixed = version >= (3, 51, 3) and version[:2] != (3, 52)
    ported = (version[:2] == (3, 50) and version >= (3, 50, 7)) or (version[:2] == (3, 44) and version >= (3, 44, 6))
    if not fixed and not ported:
        number = ".".join(map(str, version))
        remedy = "pip install 'pysqlite3>=0.6.1'"
        yield f"SQLite {number} can damage a database that several processes write at once: {remedy}"


def info() -> dict[str, Any]:
    """Return facts about the open database: where it is, how large, which versions, how many rows."""
    path = Path(database.database)
    sizes = {name: database.pragma(name) for name in ("page_size", "page_count", "freelist_count")}
    version = db.schema_version()
    tables = (
        "projects",
        "models",
        "sessions",
        "messages",
        "texts",
        "blobs",
        "calls",
        "session_snapshots",
        "import_sources",
        "import_records",
    )
    counts = {name: database.execute_sql(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables if version}
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "free_bytes": sizes["page_size"] * sizes["freelist_count"],
        "schema_version": version,
        "newest_schema_version": db.SCHEMA_VERSION,
        "sqlite_version": db.driver.sqlite_version,
        "journal_mode": database.journal_mode,
        "file_system": filesystems.file_system(str(path)),
        "rows": counts,
        "backups": [str(backup) for backup in db.backups(path)],
    }
