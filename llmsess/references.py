"""How a person names a row: a uuid or a unique prefix of 4+ characters, an exact title or name, or @last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from peewee import Field, Model

from llmsess.db import database
from llmsess.errors import Ambiguous, InvalidInput, NotFound, listed_by
from llmsess.rows import readable
from llmsess.texts import clean, one_line

M = TypeVar("M", bound=Model)
_UUID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
CANDIDATES_SHOWN = 5
UUID_CHARACTERS = 32


def resolve(
    model: type[M], reference: Any, thing: str, *, name: Field | None, latest: Field | None = None, visible: Any = None,
    columns: Sequence[Field] = (),
) -> M:  # fmt: skip
    """Return the one row that the reference means; a row of the model is returned as it is, if it is of this database.

    `name` is the field an exact text is compared with, `latest` the one that orders @last, `visible` a condition,
    `columns` the fields to read (default: all). Raises InvalidInput (empty), NotFound, Ambiguous, DamagedConversation.
    """
    with readable(f"a {thing}"):
        return _resolved(model, reference, thing, name, latest, visible, columns)


def _resolved(
    model: type[M], reference: Any, thing: str, name: Field | None, latest: Field | None, visible: Any,
    columns: Sequence[Field],
) -> M:  # fmt: skip
    if isinstance(reference, model):
        same_row(model, reference, thing)
        return reference
    if not isinstance(reference, str):
        kind = type(reference).__name__
        raise InvalidInput(f"a reference to a {thing} is a text, not {kind}", hint="its uuid, its title, or @last")
    text = clean(reference).strip()
    if not text:
        raise InvalidInput(f"an empty reference names no {thing}", hint=listed_by(thing))
    query = model.select(*columns) if visible is None else model.select(*columns).where(visible)
    if text == "@last" and latest is not None:
        row = query.order_by(latest.desc(), _key(model).desc()).first()
        if row is None:
            raise NotFound(thing, text, hint="there is none yet")
        return row  # type: ignore[no-any-return]
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    rows = [] if quoted else _by_prefix(model, query, text)
    text, hint = text[1:-1] if quoted else text, "type more characters"
    if name is not None and (not rows or len(text) < UUID_CHARACTERS):
        named = list(query.where(name == text).limit(CANDIDATES_SHOWN + 1))
        hint = "give the id" if not rows else "type more characters of the id, or the name in quotes"
        rows += [row for row in named if row not in rows]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise Ambiguous(thing, one_line(text, 60), [_label(row, name) for row in rows[:CANDIDATES_SHOWN]], hint)
    raise NotFound(thing, one_line(text, 60), near=_nearest(query, name, text) if name is not None else None)


def same_row(model: type[Model], row: Any, thing: str) -> int:
    """Return the inner id of a row after a look whether the open database is the one it came from."""
    sql = f'SELECT id FROM "{model._meta.table_name}" WHERE id = ? AND uuid = ?'
    if database.execute_sql(sql, (row.id, row.uuid)).fetchone() is None:
        raise elsewhere(thing, row.uuid)
    return int(row.id)


def elsewhere(thing: str, uuid: str) -> NotFound:
    """Return the error for a row that the open database does not have."""
    return NotFound(thing, uuid[:8], hint="it is deleted, or of another database than the open one")


def _key(model: type[Model]) -> Any:
    return model._meta.primary_key


def _by_prefix(model: type[M], query: Any, text: str) -> list[M]:
    """Return rows whose uuid begins so, by a range: LIKE would read the whole index."""
    if "uuid" not in model._meta.fields or not _UUID_PREFIX.fullmatch(text.lower()):
        return []
    low = text.lower()
    uuid = model._meta.fields["uuid"]
    return list(query.where((uuid >= low) & (uuid < low + "g")).order_by(uuid).limit(CANDIDATES_SHOWN + 1))


def _label(row: Any, name: Field | None) -> str:
    title = getattr(row, name.name) if name is not None else None
    identity = row.uuid[:8] if hasattr(row, "uuid") else str(row)
    return f"{identity} {one_line(title, 30)}".strip() if title else identity


def _nearest(query: Any, name: Field, text: str) -> str | None:
    import difflib

    rows = query.where(name.is_null(False)).order_by(name.model._meta.primary_key.desc()).limit(500)
    near = difflib.get_close_matches(text[:200], [str(getattr(row, name.name))[:200] for row in rows], 1)
    return one_line(near[0], 60) if near else None
