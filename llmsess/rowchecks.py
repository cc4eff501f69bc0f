"""The door for rows of llmsess' own format: what a file says a row is, checked against the columns of models.py."""

from __future__ import annotations

from typing import Any

from peewee import BooleanField, CharField, DoubleField, Field, IntegerField, JSONField, TextField

from llmsess import door, listing, parts, texts
from llmsess.dumping import columns
from llmsess.errors import InvalidInput
from llmsess.importers.reading import number_or_none
from llmsess.models import Message, Session, UtcDateTimeField, time_text

Values = dict[str, Any]
SESSION_WORDS = {
    "session_type": door.SESSION_TYPES,
    "status": (*listing.STATUSES, "deleted"),
    "relation": ("fork", "restore", "subagent", "resume"),
}


def checked_uuid(value: Any) -> str:
    """Return a uuid of ours; raises InvalidInput for anything else."""
    if not isinstance(value, str) or len(value) != 32 or not set(value) <= set("0123456789abcdef"):
        raise InvalidInput(f"{texts.one_line(repr(value), 50)} is no uuid")
    return value


def checked(table: Any, values: Values) -> Values:
    """Return the columns of a row as they are stored; raises InvalidInput for what a column cannot hold."""
    fields: dict[str, Field] = {field.column_name: field for field in table._meta.sorted_fields}
    found = {name: _value(fields[name], values[name]) for name in columns(table) if values.get(name) is not None}
    if "uuid" in fields:
        found["uuid"] = checked_uuid(values.get("uuid"))
    missing = [name for name, field in fields.items() if name in columns(table) and not field.null
               and field.default is None and name not in found]  # fmt: skip
    if missing:
        raise InvalidInput(f"a row without its {missing[0]}")
    if table is Message:
        _check_message(found)
    elif table is Session:
        for name, words in SESSION_WORDS.items():
            if name in found:
                door.one_of(words)(found[name], name)
    return found


_LISTS = ("parts", "context_window")


def _value(field: Field, value: Any) -> Any:
    name = field.column_name
    if isinstance(field, UtcDateTimeField):
        return time_text(door.moment(value, name))
    if isinstance(field, JSONField):
        if name in _LISTS:
            return door.json_list(value, name)
        return door.json_object(value, name)
    if isinstance(field, BooleanField):
        return bool(value)
    if isinstance(field, IntegerField):
        return door.count(value, name)
    if isinstance(field, DoubleField):
        number = number_or_none(value)
        if number is None:
            raise InvalidInput(f"{name} is a number")
        return float(number)
    assert isinstance(field, (TextField, CharField))
    return door.text(value, name)


def _check_message(found: Values) -> None:
    """Raise InvalidInput for a message whose words are none of ours, or whose parts do not fit its texts."""
    door.role(found["role"], "role")
    door.one_of(door.ORIGINS)(found["origin"], "origin")
    door.one_of(("complete", "interrupted", "failed"))(found.setdefault("status", "complete"), "status")
    found.setdefault("content", "")
    if found["position"] < 1 or found["sequence_number"] < 1:
        raise InvalidInput("a message's place is counted from 1")
    told = {name: found.get(name) for name in texts.FIELDS}
    try:
        parts.unpack(told, found.get("parts"))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InvalidInput("the parts of a message do not fit its texts") from error
