"""The rows of snapshots: made, found again, and what they say of the session's settings then."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from llmsess import catalog, contexts, crashpoints, door, sessions
from llmsess.db import database
from llmsess.errors import Conflict, DamagedConversation, InvalidInput, NotFound
from llmsess.models import LanguageModel, Session, SessionSnapshot, new_uuid, now
from llmsess.references import resolve
from llmsess.rows import get_row, insert_row
from llmsess.texts import without_controls

SETTINGS: dict[str, Any] = {  # and what they are, where they are set
    "model": str,
    "system_prompt": str,
    "temperature": (int, float),
    "max_tokens": int,
    "parameters": dict,
}
NAME_CHARACTERS = 200
Settings = dict[str, Any]
_PRESENT = """
    SELECT s.status, s.next_sequence, s.head_id, h.status, h.parent_id, h.metadata
    FROM sessions s LEFT JOIN messages h ON h.id = s.head_id WHERE s.id = ?
"""
_NAMED = "SELECT uuid FROM session_snapshots WHERE session_id = ? AND name = ?"


def create(session: str | Session, *, name: str | None = None, type: str = "manual") -> SessionSnapshot:
    """Tag where a session is now, and return the snapshot; a reply that is still being written is not part of it.

    `type` is manual, checkpoint, auto_save or pre_restore. An empty session has a snapshot of nothing. Raises NotFound,
    InvalidInput, and Conflict where the session has a snapshot of that name.
    """
    kind, label = door.snapshot_type(type, "type of snapshot"), label_of(name)
    session_id = sessions.id_of(session)
    with database.atomic():
        made = mark(session_id, label, kind)
        crashpoints.reach("snapshot.writing")
    crashpoints.reach("snapshot.written")
    return made


def mark(session_id: int, name: str | None, type: str, *, settled: bool = True) -> SessionSnapshot:
    """Write the row of a snapshot, inside a transaction; not `settled`, a reply that is being written is tagged too."""
    row = database.execute_sql(_PRESENT, (session_id,)).fetchone()
    if row is None or row[0] == "deleted":
        raise NotFound("session", "(deleted)", hint="it was deleted meanwhile")
    _, sequence, head, status, parent, metadata = row
    if head is not None and status is None:
        raise DamagedConversation("the last message is gone")
    if settled and status in ("pending", "streaming"):
        head, metadata = parent, None
    if name is not None:
        taken = database.execute_sql(_NAMED, (session_id, name)).fetchone()
        if taken is not None:
            raise Conflict(
                f'the session has a snapshot "{name}" already',
                hint=f"another name, or first: llmsess snapshot delete {taken[0][:8]}",
            )
    values = {
        "uuid": new_uuid(),
        "session_id": session_id,
        "name": name,
        "snapshot_type": type,
        "head_id": head,
        "sequence_number": sequence,
        "context_window": _window(parent, metadata),
        "created_at": now(),
    }
    row_id = insert_row(SessionSnapshot, **values)
    return SessionSnapshot(id=row_id, **values)


def _window(prompt_id: int, metadata: str | None) -> list[str] | None:
    """Return the uuids of what the model was sent for the last reply, None where that was the path."""
    if metadata is None or '"context"' not in metadata:
        return None
    try:
        choice = json.loads(metadata)["sent_with"]["context"]
        return None if contexts.last(choice) is None else contexts.seen(prompt_id, choice)
    except (ValueError, TypeError, KeyError, InvalidInput):  # not written by a turn of ours, or damaged
        return None


def label_of(name: str | None) -> str | None:
    """Return a name as it is stored; raises InvalidInput for one that cannot be typed again."""
    if name is None:
        return None
    label = _plain(door.text(name, "the name of a snapshot"))
    if len(label) > 2 and label[0] == label[-1] and label[0] in "\"'" and label[0] not in label[1:-1]:
        label = label[1:-1].strip()
    if not any(character.isprintable() and not character.isspace() for character in label):
        raise InvalidInput("the name of a snapshot cannot be empty")
    if len(label) > NAME_CHARACTERS or label.startswith("@"):
        raise InvalidInput(f"the name of a snapshot has at most {NAME_CHARACTERS} characters, and begins with no @")
    return label


def _plain(text: str) -> str:
    """Return a text as names are compared: one form of each character, no controls, single spaces."""
    return " ".join(unicodedata.normalize("NFC", without_controls(text)).split())


def _found(reference: str | SessionSnapshot) -> SessionSnapshot:
    """Return what tells which snapshot is meant; its settings are not read, as they may be damaged."""
    named = _plain(reference) if isinstance(reference, str) else reference
    table = SessionSnapshot
    columns = (table.id, table.uuid, table.name, table.created_at)
    return resolve(table, named, "snapshot", name=table.name, latest=table.created_at, columns=columns)


def id_of(reference: str | SessionSnapshot) -> int:
    """Return the inner id of a snapshot, also of a damaged one; raises NotFound, Ambiguous."""
    return int(_found(reference).id)


def get(reference: str | SessionSnapshot) -> SessionSnapshot:
    """Return the snapshot of that uuid or prefix, name, or @last, as it is now.

    Raises NotFound, Ambiguous, DamagedConversation.
    """
    return by_id(id_of(reference))


def by_id(snapshot_id: int) -> SessionSnapshot:
    """Return the snapshot of that inner id; raises NotFound, DamagedConversation."""
    row = get_row(SessionSnapshot, snapshot_id)
    if row is None:
        raise NotFound("snapshot", "(deleted)")
    if get_row(Session, row.session_id) is None:
        raise DamagedConversation(f"the session of snapshot {str(row.uuid)[:8]} is gone")
    is_odd = not isinstance(row.session_state or {}, dict) or not isinstance(row.context_window or [], list)
    if is_odd or not isinstance(row.sequence_number, int):
        raise DamagedConversation(f"snapshot {row.uuid[:8]} cannot be read")
    return row


def settings(snapshot: str | SessionSnapshot) -> Settings:
    """Return the settings that the session had, by the names in SETTINGS; model is `provider/name`, None was not set.

    Raises NotFound, DamagedConversation.
    """
    found = get(snapshot)
    state = {name: value for name, value in (found.session_state or {}).items() if name in SETTINGS}
    then = settings_of(sessions.by_id(found.session_id)) | state
    for name, value in then.items():
        if value is not None and not isinstance(value, SETTINGS[name]):
            raise DamagedConversation(f"the {name} of snapshot {found.uuid[:8]} cannot be read")
    return then


def settings_of(session: Session) -> Settings:
    """Return the settings that a session has now."""
    model = get_row(LanguageModel, session.model_id) if session.model_id else None
    others = {name: getattr(session, name) for name in SETTINGS if name != "model"}
    return {"model": model.reference if model else None} | others


def columns_of(wanted: Settings) -> dict[str, Any]:
    """Return settings as columns of a session."""
    others = {name: value for name, value in wanted.items() if name != "model"}
    return others | {"model_id": catalog.model_named(wanted["model"]).id if wanted["model"] else None}


def branch(
    session: Session, head_id: int | None, wanted: Settings, title: str | None, otherwise: str | None
) -> Session:
    """Make a session that begins at a message of another one, with settings of then, and return it."""
    given = door.text(title, "title").strip() if title is not None else ""
    with database.atomic():
        row_id = insert_row(
            Session,
            title=given or otherwise,
            head_id=head_id,
            project_id=session.project_id,
            metadata=session.metadata,
            parent_session_id=session.id,
            relation="restore",
            **columns_of(wanted),
        )
        return sessions.by_id(row_id)
