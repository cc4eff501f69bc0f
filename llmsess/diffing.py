"""What differs between two snapshots of a conversation, or between one and the present: messages, words, settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmsess import marking, sessions, writing
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import Message, Session, SessionSnapshot

ALIKE = 0.5  # how much of two texts must be the same for a comparison word by word to help
MANY_WORDS = 20_000  # of a text: longer ones are compared line by line
MANY_PAIRS = 4_000_000  # of words or lines: beyond, all between what is common counts as changed
_WORD = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s])|\s+")
Words = list[tuple[str, str]]


@dataclass(frozen=True)
class Change:
    """A message that is new (`added`), no longer there (`removed`), or at the place of another one (`replaced`).

    `words` are the pieces of the two texts as (same, removed or added; text), None where they have little in common.
    """

    kind: str
    old: Message | None
    new: Message | None
    words: Words | None = None


@dataclass(frozen=True)
class Difference:
    """What became of a snapshot: how many messages are common, what changed after them, and the settings as (old, new).

    `new` is a later snapshot, or the session as it is now.
    """

    old: SessionSnapshot
    new: SessionSnapshot | Session
    common: int
    changes: list[Change]
    settings: dict[str, tuple[Any, Any]]


def diff(snapshot: str | SessionSnapshot, other: str | SessionSnapshot | None = None) -> Difference:
    """Return what changed from a snapshot to another one, or to its session as it is now.

    Raises NotFound, Ambiguous, InvalidInput for snapshots of unrelated conversations, DamagedConversation.
    """
    with database.atomic("DEFERRED"):  # one moment for both
        old = marking.get(snapshot)
        new = sessions.by_id(old.session_id) if other is None else marking.get(other)
        before, after = _ids(old.head_id), _ids(new.head_id)
        common = _common(before, after)
        if before and after and not common and _session(old) != _session(new):
            raise InvalidInput("the two snapshots have no message in common", hint="llmsess snapshot list SESSION")
        changes = list(_changes(*([*writing.stream_messages(ids[common:])] for ids in (before, after))))
        was = marking.settings(old)
        now = marking.settings_of(new) if isinstance(new, Session) else marking.settings(new)
    changed = {name: (was[name], now[name]) for name in was if was[name] != now[name]}
    return Difference(old, new, common, changes, changed)


def _session(side: SessionSnapshot | Session) -> int:
    return int(side.id if isinstance(side, Session) else side.session_id)


def _ids(head_id: int | None) -> list[int]:
    return [] if head_id is None else writing.ids_to(head_id)


def _common(before: Sequence[Any], after: Sequence[Any]) -> int:
    """Return how many items two lists begin with together."""
    pairs = zip(before, after, strict=False)
    return next((place for place, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))


def _changes(old: list[Message], new: list[Message]) -> Iterator[Change]:
    """Yield what became of the old messages: those at the same place are compared while their roles agree."""
    paired = 0
    while paired < min(len(old), len(new)) and old[paired].role == new[paired].role:
        yield Change("replaced", old[paired], new[paired], words_of(old[paired], new[paired]))
        paired += 1
    yield from (Change("removed", message, None) for message in old[paired:])
    yield from (Change("added", None, message) for message in new[paired:])


def words_of(old: Message, new: Message) -> Words | None:
    """Return the words of two messages' texts as they became each other, None where they have little in common."""
    words = words_between(old.content, new.content)
    is_edit = (new.metadata or {}).get("edited_from") == old.uuid
    same = sum(len(text) for kind, text in words if kind == "same")
    return words if is_edit or 2 * same >= ALIKE * (len(old.content) + len(new.content)) else None


def words_between(old: str, new: str) -> Words:
    """Return the words of two texts, or their lines where they are long, as (same, removed or added; text)."""
    before, after = _split(old, new)
    first = _common(before, after)
    last = min(_common(before[::-1], after[::-1]), len(before) - first, len(after) - first)
    middle = before[first : len(before) - last], after[first : len(after) - last]
    found = [("same", "".join(before[:first])), *_changed(*middle), ("same", "".join(before[len(before) - last :]))]
    return [(kind, text) for kind, text in found if text]


def _changed(before: list[str], after: list[str]) -> Words:
    """Return what became of the pieces between a common beginning and a common end; of many, only of their lines."""
    if len(before) * len(after) > MANY_PAIRS:
        before, after = ("".join(pieces).splitlines(keepends=True) for pieces in (before, after))
    if len(before) * len(after) > MANY_PAIRS:
        return [("removed", "".join(before)), ("added", "".join(after))]
    found: Words = []
    for kind, start, end, first, last in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append(("same", "".join(before[start:end])))
        else:
            found += [("removed", "".join(before[start:end])), ("added", "".join(after[first:last]))]
    return found


def _split(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return two texts in words, or in lines where they are long."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    if max(len(before), len(after)) > MANY_WORDS:
        return old.splitlines(keepends=True), new.splitlines(keepends=True)
    return before, after
