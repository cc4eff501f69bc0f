"""Lists of sessions: ids first, by keyset, then the view v_session_summary for those ids only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from llmsess import catalog, door
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import parse_time

T = TypeVar("T")
STATUSES = ("active", "completed", "interrupted", "failed", "archived")
_status = door.one_of(STATUSES)


@dataclass(frozen=True)
class SessionFilter:
    """Which sessions; None means any. Times bound the last activity. Archived ones need their status named."""

    project: str | None = None
    model: str | None = None
    tag: str | None = None
    type: str | None = None
    status: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def conditions(self) -> tuple[list[str], list[Any]]:
        """Return the SQL conditions over `sessions s` and their values; raises NotFound for an unknown name."""
        wheres = ["s.status NOT IN ('archived', 'deleted')"]
        values: list[Any] = []
        if self.status is not None:
            wheres, values = ["s.status = ?"], [_status(self.status, "status")]
        if self.type is not None:
            wheres.append("s.session_type = ?")
            values.append(door.session_type(self.type, "session type"))
        if self.source is not None:
            wheres.append("s.source = ?")
            values.append(door.text(self.source, "source"))
        if self.project is not None:
            wheres.append("s.project_id = ?")
            values.append(catalog.known_project_id(self.project))
        if self.model is not None:
            wheres.append("s.model_id = ?")
            values.append(catalog.known_model_id(self.model))
        if self.tag is not None:
            wheres.append("EXISTS (SELECT 1 FROM session_tags t WHERE t.session_id = s.id AND t.tag = ?)")
            values.append(door.text(self.tag, "a tag").lower())
        for test, moment in door.between("s.last_activity_at", self.since, self.until):
            wheres.append(test)
            values.append(moment)
        for key, value in self.metadata:
            wheres.append(
                "EXISTS (SELECT 1 FROM json_each(s.metadata) e WHERE e.key = ? AND CAST(e.value AS TEXT) = ?)"
            )
            values.extend([door.text(key, "a key"), door.text(value, "a value")])
        return wheres, values


@dataclass(frozen=True)
class Page:
    """A page of a list: rows of v_session_summary as dicts, and the cursor of the next page, None at the end.

    A row has uuid, title, type, status, project, model (`provider/name`), tags (words in one text), messages (length of
    the path), written_messages, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano_usd,
    cost_usd (None where no price is known), unpriced_messages, source, external_id, parent (uuid), started_at,
    last_activity_at (ISO 8601 texts in UTC) and first_prompt. `sessions.get(row["uuid"])` gives the session.
    """

    rows: list[dict[str, Any]]
    cursor: str | None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def find(filter: SessionFilter | None = None, *, limit: int | None = 50, cursor: str | None = None) -> Page:
    """Return sessions by last activity, newest first; `limit` None means all, `cursor` continues a page.

    Raises NotFound for a project or model that is not there, InvalidInput for a filter that cannot be.
    """
    if limit is not None:
        door.count(limit, "limit")
    wheres, values = (filter or SessionFilter()).conditions()
    if cursor is not None:
        wheres.append("(s.last_activity_at, s.id) < (?, ?)")
        values.extend(place_of(cursor))
    sql = (
        f"SELECT s.id, s.last_activity_at FROM sessions s WHERE {' AND '.join(wheres)} "
        "ORDER BY s.last_activity_at DESC, s.id DESC LIMIT ?"
    )
    ids, following = newest(sql, values, limit)
    return Page(summaries(ids), following)


def newest(sql: str, values: Sequence[Any], limit: int | None) -> tuple[list[int], str | None]:
    """Return a page of inner ids and the next one's cursor, by SQL of (id, time) that is sorted and ends in LIMIT ?."""
    rows = database.execute_sql(sql, [*values, -1 if limit is None else limit + 1]).fetchall()
    more = limit is not None and len(rows) > limit
    rows = rows[:limit] if more else rows
    return [row[0] for row in rows], f"{rows[-1][1]}~{rows[-1][0]}" if more and rows else None


def newest_made(
    table: str, status: str | None, limit: int | None, cursor: str | None
) -> tuple[list[int], str | None]:  # fmt: skip
    """Return a page of inner ids of a table, of those with a status or any, newest first, and the next cursor."""
    wheres: list[str] = ["1"]
    values: list[Any] = []
    if status is not None:
        wheres.append("status = ?")
        values.append(status)
    if cursor is not None:
        wheres.append("(created_at, id) < (?, ?)")
        values += list(place_of(cursor))
    sql = f"SELECT id, created_at FROM {table} WHERE {' AND '.join(wheres)} ORDER BY created_at DESC, id DESC LIMIT ?"
    return newest(sql, values, limit)


def count_with(table: str, status: str | None) -> int:
    """Return how many rows of a table there are, with a status, or of any."""
    sql = f"SELECT count(*) FROM {table} WHERE ? IS NULL OR status = ?"
    return int(database.execute_sql(sql, (status, status)).fetchone()[0])


def page(
    rows: Iterable[T], key: Callable[[T], str], limit: int | None, cursor: str | None
) -> tuple[list[T], str | None]:
    """Return a page of rows that are sorted by a unique text, and the cursor of the next page, None at the end."""
    rest = [row for row in rows if cursor is None or key(row) > cursor]
    more = limit is not None and len(rest) > limit
    return (rest[:limit], key(rest[limit - 1])) if more and limit else (rest, None)


def count(filter: SessionFilter | None = None) -> int:
    """Return how many sessions the filter lets through."""
    if filter is None or filter == SessionFilter():
        hidden = "SELECT count(*) FROM sessions WHERE status IN ('archived', 'deleted')"
        sql = f"SELECT (SELECT count(*) FROM sessions) - ({hidden})"  # both by an index
        return int(database.execute_sql(sql).fetchone()[0])
    wheres, values = filter.conditions()
    sql = f"SELECT count(*) FROM sessions s WHERE {' AND '.join(wheres)}"
    return int(database.execute_sql(sql, values).fetchone()[0])


def place_of(cursor: str) -> tuple[str, int]:
    """Return the time and the inner id at which a page ended; raises InvalidInput for no cursor."""
    moment, _, row_id = cursor.rpartition("~")
    try:
        parse_time(moment)
        return moment, door.count(int(row_id[:20]), "cursor")
    except (ValueError, InvalidInput) as error:
        raise InvalidInput(f'"{cursor}" is no cursor', hint="take it from the end of the page before") from error


def summaries(ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of v_session_summary of these sessions, in this order."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, len(ids), 500):
        chunk = list(ids[start : start + 500])
        marks = ", ".join("?" * len(chunk))
        rows = database.execute_sql(f"SELECT * FROM v_session_summary WHERE id IN ({marks})", chunk)
        names = [column[0] for column in rows.description]
        found |= {row[0]: dict(zip(names, row, strict=True)) for row in rows.fetchall()}
    return [found[row_id] for row_id in ids if row_id in found]
