"""The door: what a caller gives, texts, JSON, the fields of a message, is checked here once, before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from llmsess import texts
from llmsess.errors import InvalidInput, did_you_mean
from llmsess.models import TOKEN_FIELDS, dump_json, time_text, token_count

ROLES = ("system", "developer", "user", "assistant", "tool", "event")
ORIGINS = ("human", "model", "tool", "harness")
ORIGIN_OF = {"user": "human", "assistant": "model", "tool": "tool"}  # of a role, where nothing else is said
STATUSES = ("complete", "pending", "streaming", "interrupted", "failed")
SNAPSHOT_TYPES = ("manual", "checkpoint", "auto_save", "pre_restore")
SESSION_TYPES = ("single", "comparison", "batch", "workflow", "imported")


def text(value: Any, name: str) -> str:
    """Return a clean text; raises InvalidInput for anything but a text."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is a text, not {type(value).__name__}")
    return texts.clean(value)


def words(given: str | Iterable[str]) -> Sequence[str]:
    """Return several words, or the one that stands for a list of one."""
    return [given] if isinstance(given, str) else list(given)


def one_of(choices: tuple[str, ...]) -> Callable[[Any, str], str]:
    """Return the check of a word out of several."""

    def check(value: Any, name: str) -> str:
        if value not in choices:
            raise InvalidInput(f'"{texts.one_line(str(value), 40)}" is no {name}', hint=f"one of {', '.join(choices)}")
        return str(value)

    return check


role, session_type, snapshot_type = one_of(ROLES), one_of(SESSION_TYPES), one_of(SNAPSHOT_TYPES)


def count(value: Any, name: str) -> int:
    """Return a whole number from 0 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise InvalidInput(f"{name} is a whole number from 0 on, not {texts.one_line(repr(value), 40)}")
    return value


def tokens(value: Any, name: str) -> int:
    """Return how many tokens one message may have."""
    if token_count(count(value, name)) is None:
        raise InvalidInput(f"{name} of {value} cannot be")
    return int(value)


def moment(value: Any, name: str) -> datetime:
    """Return an aware time, from itself or from ISO 8601 text with a zone."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise InvalidInput(f"{name} is a time with a zone, not {texts.one_line(repr(value), 40)}")
    return found


def between(column: str, since: Any, until: Any) -> Iterator[tuple[str, str]]:
    """Yield the SQL tests of a time and their values, for those of the two bounds that are given."""
    for value, name, comparison in ((since, "since", ">="), (until, "until", "<")):
        if value is not None:
            yield f"{column} {comparison} ?", time_text(moment(value, name))


def json_value(value: Any, name: str) -> Any:
    """Return what JSON can hold, its texts clean."""
    try:
        text = dump_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is no JSON: {error}") from error
    return json.loads(text) if "\ufffd" in text else value


def json_object(value: Any, name: str) -> dict[str, Any]:
    """Return an object with text keys, that JSON can hold."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is an object (a dict), not {type(value).__name__}")
    found: dict[str, Any] = json_value(dict(value), name)
    return found


def json_list(value: Any, name: str) -> list[Any]:
    """Return a list that JSON can hold."""
    if not isinstance(value, list):
        raise InvalidInput(f"{name} is a list, not {type(value).__name__}")
    found: list[Any] = json_value(value, name)
    return found


def content(value: Any) -> str | list[Any]:
    """Return what a message may say: a text or blocks."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"content is a text or a list of blocks, not {type(value).__name__}")
    return list(json_value(value, "content"))


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "origin": one_of(ORIGINS),
    "status": one_of(STATUSES),
    **dict.fromkeys(TOKEN_FIELDS, tokens),
    **dict.fromkeys(("model_id", "cost", "latency_ms", "ttft_ms"), count),
    **dict.fromkeys(("reasoning", "tool_text", "cost_source", "finish_reason", "error", "external_id", "owner"), text),
    **dict.fromkeys(("created_at", "completed_at", "lease_expires_at"), moment),
    **dict.fromkeys(("usage", "metadata"), json_object),
}
_NOT_NULL = ("origin", "status")  # None: the default


_OURS_ONLY = ("model_id", "owner", "lease_expires_at")  # columns that only a turn writes


def of_callers_message(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a caller says of a message, which is settled, as its columns; raises InvalidInput."""
    for name in _OURS_ONLY:
        if name in given:
            raise InvalidInput(f'a message has no field "{name}" to set', hint="model names the model")
    if given.get("status") in ("pending", "streaming"):
        raise InvalidInput(f"only a turn makes a message that is {given['status']}")
    return of_message(given)


def of_message(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a caller says of a message as its columns; raises InvalidInput for what a message cannot have."""
    values = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            guess = did_you_mean(name, _CHECKS)
            raise InvalidInput(f'a message has no field "{texts.one_line(name, 40)}" to set{guess}')
        if value is not None:
            values[name] = check(value, name)
        elif name not in _NOT_NULL:
            values[name] = None
    return values
