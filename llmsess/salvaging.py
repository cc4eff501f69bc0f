"""Reading a conversation as far as it is readable, where its rows were changed or deleted outside llmsess.

`writing.path_to()` is strict: it raises DamagedConversation. A `Reading` goes on: what is gone or spoilt is told in its
`problems`, and what came before is looked for among the messages of the same session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from llmsess import sessions, writing
from llmsess.db import TROUBLES, database
from llmsess.errors import DamagedConversation
from llmsess.models import Message, Session
from llmsess.writing import AT_ONCE

PROBLEMS_SHOWN = 3  # of an error
END = 2**62  # beyond any number


class _Place(NamedTuple):
    """Where a message stands."""

    id: int
    uuid: str
    parent_id: int | None
    position: int
    sequence_number: int
    session_id: int


_PLACE = "SELECT id, uuid, parent_id, position, sequence_number, session_id FROM messages WHERE"
_BEFORE = f"""
    {_PLACE} session_id = ? AND position < ? AND sequence_number < ?
    ORDER BY position DESC, sequence_number DESC LIMIT 1
"""


class Reading:
    """The messages of a path, root first, read a few hundred at a time as they are asked for.

    `problems` has a line for each message that could not be read, once they have been asked for. `before_sequence` is
    the first number of what was written after the head, should that be gone.
    """

    def __init__(self, head_id: int | None, session_id: int, before_sequence: int = END) -> None:
        self.head_id, self.session_id, self.before_sequence = head_id, session_id, before_sequence
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Message]:
        self.problems.clear()
        ids = self.ids()
        for start in range(0, len(ids), AT_ONCE):
            yield from self._messages(ids[start : start + AT_ONCE])

    def check(self) -> None:
        """Raise DamagedConversation where something could not be read."""
        if self.problems:
            more = len(self.problems) - PROBLEMS_SHOWN
            told = "; ".join(self.problems[:PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise DamagedConversation(f"the conversation is damaged: {told}")

    def ids(self) -> Sequence[int]:
        """Return the inner ids of the path, as far as it can be followed."""
        if self.head_id is None:
            return []
        try:
            return writing.ids_to(self.head_id)
        except TROUBLES:
            return self._traced(self.head_id)

    def _traced(self, head_id: int) -> list[int]:
        """Return the ids of the path, with gaps: after each, the nearest message before it in the session goes on."""
        ids: list[int] = []
        wanted: int | None = head_id
        below: _Place | None = None
        while wanted is not None or (below is not None and below.position != 1):
            place = _place(f"{_PLACE} id = ?", wanted)
            if place is None or (below is not None and place.position >= below.position):
                at = f"the message at position {below.position - 1}" if below else "the last message"
                self.problems.append(f"{at} is gone")
                place = self._before(below)
                if place is None:
                    break
            ids.append(place.id)
            wanted, below = place.parent_id, place
        return ids[::-1]

    def _before(self, below: _Place | None) -> _Place | None:
        """Return the message that stands nearest before another in its session, None where there is none."""
        if below is None:
            return _place(_BEFORE, self.session_id, END, self.before_sequence)
        return _place(_BEFORE, below.session_id, below.position, below.sequence_number)

    def _messages(self, ids: Sequence[int]) -> list[Message]:
        """Return messages; where not all can be read, one by one."""
        try:
            return _checked(writing.stream_messages(ids))
        except TROUBLES:
            return [message for one in ids for message in self._message(one)]

    def _message(self, message_id: int) -> list[Message]:
        """Return a message, nothing where it cannot be read."""
        try:
            return _checked(writing.stream_messages([message_id]))
        except TROUBLES as error:
            place = _place(f"{_PLACE} id = ?", message_id)
            name = f"message {str(place.uuid)[:8]} at position {place.position}" if place else "a message"
            self.problems.append(f"{name}: {getattr(error, 'message', error)}")
            return []


def _checked(messages: Iterable[Message]) -> list[Message]:
    """Return the messages; raises DamagedConversation where the parts of one do not fit its texts."""
    found = list(messages)
    for message in found:
        if message.parts is not None:
            writing.unpacked(message)
    return found


def _place(sql: str, *values: Any) -> _Place | None:
    try:
        row = database.execute_sql(sql, values).fetchone()
    except TROUBLES:
        return None
    is_place = row is not None and all(isinstance(value, int) for value in (*row[3:], row[2] or 0))
    return _Place(*row) if is_place else None


def of_session(session: str | Session, at: str | Message | None = None) -> Reading:
    """Return the path to a session's head (or to its message `at`), as far as it is readable; raises NotFound."""
    found = sessions.get(session)
    head = found.head_id if at is None else sessions.part_of(found, sessions.get_message(at)).id
    return Reading(head, found.id)


def is_whole(head_id: int | None) -> bool:
    """Return whether every message of a path can be read."""
    reading = Reading(head_id, 0)
    for _ in reading:
        if reading.problems:
            return False
    return not reading.problems
