"""Sessions and their messages: a tree of messages, and branches that name a head in it.

A settled message never changes. Appending writes a message whose parent is the head and moves the head; fork, edit and
retry are new pointers into the same tree. The head is read and moved in one IMMEDIATE transaction (`growing()`), so
concurrent appends form one line. `maintenance.check()` proves positions, heads and totals.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmsess import catalog, models, texts
from llmsess.db import database, insert_row, row_reader, update_row
from llmsess.errors import InvalidInput, NotFound
from llmsess.models import LanguageModel, Message, Session, SessionTag, new_uuid, now, time_text
from llmsess.parts import Attachment, pack, unpack
from llmsess.references import resolve

ROLES = ("system", "developer", "user", "assistant", "tool", "event")
STATUSES = ("active", "completed", "interrupted", "failed", "archived")
TITLE_CHARACTERS = 80  # of a title cut from a prompt
ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}  # of a role, where nothing else is said
VISIBLE = Session.status != "deleted"
SettingValue = str | float | int | dict[str, Any] | None

_COLUMNS = [field.column_name for field in Message._meta.sorted_fields]
_SELECT = ", ".join(texts.whole("m", name) if name in texts.FIELDS else f"m.{name}" for name in _COLUMNS)
_PATH = f"""
    WITH RECURSIVE path (id, parent_id, position) AS (
        SELECT id, parent_id, position FROM messages WHERE id = ?
        UNION ALL
        SELECT m.id, m.parent_id, m.position FROM path p JOIN messages m
        ON m.id = p.parent_id AND m.position < p.position
    )
    SELECT {_SELECT} FROM path p CROSS JOIN messages m ON m.id = p.id LIMIT ?
"""
_OWN = f"SELECT {_SELECT} FROM messages m WHERE m.session_id = ? ORDER BY m.sequence_number"
_HEAD = """
    SELECT s.head_id, s.next_sequence, m.position, s.status, s.title
    FROM sessions s LEFT JOIN messages m ON m.id = s.head_id WHERE s.id = ?
"""
_ADVANCE = """
    UPDATE sessions SET head_id = ?, next_sequence = ?, last_activity_at = max(last_activity_at, ?), status = ?,
    title = coalesce(title, ?) WHERE id = ?
"""
_read = row_reader(Message, _COLUMNS)


# Growing a session


class End:
    """The growing end of a session, inside one transaction; `growing()` opens it."""

    def __init__(self, session_id: int) -> None:
        row = database.execute_sql(_HEAD, (session_id,)).fetchone()
        if row is None or row[3] == "deleted":
            raise NotFound("session", str(session_id))
        self.session_id = session_id
        self.head_id, self.next_sequence, self.position = row[0], row[1], row[2] or 0
        self.status = "active"
        self.title = row[4]
        self.latest = now()

    def add(self, role: str, content: str | Sequence[Any] | None, **fields: Any) -> Message:
        """Write a message under the head, move the head to it and return it."""
        if role not in ROLES:
            raise InvalidInput(f'"{role}" is no role', hint=f"roles are {', '.join(ROLES)}")
        packed = pack(content)
        values = packed.fields() | {key: _clean(key, value) for key, value in fields.items()}
        values.setdefault("origin", ORIGINS.get(role, "harness"))
        values.setdefault("status", "complete")
        values.setdefault("created_at", self.latest)
        values |= {
            "uuid": new_uuid(),
            "session_id": self.session_id,
            "sequence_number": self.next_sequence,
            "parent_id": self.head_id,
            "position": self.position + 1,
            "role": role,
        }
        if values["status"] not in ("pending", "streaming"):
            values.setdefault("completed_at", self.latest)
        if self.title is None and role == "user" and values["content"]:
            self.title = texts.one_line(values["content"], TITLE_CHARACTERS) or None
        row_id = insert_row(Message, **texts.stored(values))
        keep_attachments(row_id, packed.attachments)
        self.head_id, self.position, self.next_sequence = row_id, self.position + 1, self.next_sequence + 1
        return row_of(row_id, values)

    def save(self) -> None:
        """Write the moved head."""
        moment = time_text(self.latest)
        values = (self.head_id, self.next_sequence, moment, self.status, self.title, self.session_id)
        database.execute_sql(_ADVANCE, values)


@contextlib.contextmanager
def growing(session_id: int) -> Iterator[End]:
    """Open the end of a session in a write transaction; what was added is saved with the head at its end."""
    with database.atomic():
        end = End(session_id)
        yield end
        end.save()


def _clean(key: str, value: Any) -> Any:
    return texts.clean(value) if isinstance(value, str) and key in ("reasoning", "tool_text", "error") else value


def row_of(row_id: int, values: dict[str, Any]) -> Message:
    """Return a Message of values just written, without reading it back."""
    names = Message._meta.combined
    message = Message(__no_default__=1)
    message.__data__.update({field.name: None for field in Message._meta.sorted_fields})
    message.__data__.update({names[key].name: value for key, value in values.items()}, id=row_id)
    message._dirty.clear()
    return message


def keep_attachments(message_id: int, attachments: Sequence[Attachment]) -> None:
    """Store a message's attachments, each once by its content."""
    import hashlib

    for position, attachment in enumerate(attachments):
        sha256 = hashlib.sha256(attachment.data).hexdigest()
        database.execute_sql(
            "INSERT INTO blobs (sha256, media_type, size_bytes, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (sha256, attachment.media_type, len(attachment.data), attachment.data),
        )
        database.execute_sql(
            "INSERT INTO message_blobs (message_id, blob_id, position) SELECT ?, id, ? FROM blobs WHERE sha256 = ?",
            (message_id, position, sha256),
        )


def blocks(message: Message) -> list[Any] | None:
    """Return the message's exact structured content, attachments included, None where its content says all."""

    def attachment(position: int) -> bytes:
        sql = "SELECT b.data FROM message_blobs mb JOIN blobs b ON b.id = mb.blob_id WHERE mb.message_id = ? AND mb.position = ?"
        return bytes(database.execute_sql(sql, (message.id, position)).fetchone()[0])

    fields = {"content": message.content, "reasoning": message.reasoning, "tool_text": message.tool_text}
    return unpack(fields, message.parts, attachment)


# Sessions


def create(
    title: str | None = None,
    *,
    model: str | LanguageModel | None = None,
    project: str | None = None,
    system_prompt: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    parameters: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    tags: Iterable[str] = (),
    session_type: str = "single",
) -> Session:
    """Make an empty session and return it.

    `model` is `provider/name` and is stored if new; `project` is made if new; without a title the first prompt gives
    it. Raises InvalidInput for values that cannot be.
    """
    if temperature is not None and not 0 <= temperature <= 10:
        raise InvalidInput(f"a temperature of {temperature} cannot be", hint="it is between 0 and 2 as a rule")
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInput("--max-tokens is at least 1")
    language_model = catalog.model_named(model) if model else None
    moment = now()
    with database.atomic():
        row_id = insert_row(
            Session,
            title=texts.clean(title).strip() or None if title else None,
            model_id=language_model.id if language_model else None,
            project_id=catalog.project_id(project) if project else None,
            system_prompt=texts.clean(system_prompt) if system_prompt else None,
            temperature=temperature,
            max_tokens=max_tokens,
            parameters=parameters or None,
            metadata=metadata or None,
            session_type=session_type,
            started_at=moment,
            last_activity_at=moment,
        )
        _add_tags(row_id, tags)
    return by_id(row_id)


def by_id(session_id: int) -> Session:
    """Return the session of that inner id."""
    return Session.get_by_id(session_id)


def get(reference: str | Session) -> Session:
    """Return the session of that uuid or prefix, exact title, or @last, as it is now.

    Raises NotFound, Ambiguous, InvalidInput.
    """
    if isinstance(reference, Session):
        return by_id(reference.id)
    return resolve(
        Session, reference, "session", name=Session.title, latest=Session.last_activity_at, visible=VISIBLE
    )


def id_of(reference: str | Session) -> int:
    """Return the inner id of a session, without a query where its row is given."""
    return int(reference.id if isinstance(reference, Session) else get(reference).id)


def get_message(reference: str | Message) -> Message:
    """Return the message of that uuid or prefix, its text whole; raises NotFound, Ambiguous, InvalidInput."""
    found = resolve(Message, reference, "message", name=None, latest=Message.created_at)
    return message_by_id(found.id)


def message_by_id(message_id: int) -> Message:
    """Return the message of that inner id, its text whole."""
    row = database.execute_sql(f"SELECT {_SELECT} FROM messages m WHERE m.id = ?", (message_id,)).fetchone()
    return _read(row)  # type: ignore[no-any-return]


def append(session: str | Session, role: str, content: str | Sequence[Any], **fields: Any) -> Message:
    """Write a message at the session's head and return it.

    `content` is a text or a list of blocks (see parts.py); `fields` are columns of a message. Raises NotFound,
    InvalidInput.
    """
    with growing(id_of(session)) as end:
        return end.add(role, content, **fields)


def extend(session: str | Session, messages: Iterable[dict[str, Any] | tuple[str, str]]) -> list[Message]:
    """Write several messages in one transaction and return them; each is (role, content) or a dict with both."""
    written = []
    with growing(id_of(session)) as end:
        for item in messages:
            fields = dict(item) if isinstance(item, dict) else {"role": item[0], "content": item[1]}
            written.append(end.add(fields.pop("role"), fields.pop("content"), **fields))
    return written


def path(session: str | Session, *, last: int | None = None, at: str | Message | None = None) -> list[Message]:
    """Return the messages from the root to the session's head (or to the message `at`), texts whole, in order.

    `last` limits them to the newest so many.
    """
    head = get_message(at).id if at is not None else _head_of(id_of(session))
    return [] if head is None else path_to(head, last=last)


def _head_of(session_id: int) -> int | None:
    row = database.execute_sql("SELECT head_id FROM sessions WHERE id = ?", (session_id,)).fetchone()
    return row[0] if row else None


def path_to(message_id: int, *, last: int | None = None) -> list[Message]:
    """Return the messages from the root (or the newest `last`) to the message of that inner id, in order."""
    rows = database.execute_sql(_PATH, (message_id, -1 if last is None else last)).fetchall()
    rows.reverse()
    return [_read(row) for row in rows]


def nodes(session: str | Session) -> list[Message]:
    """Return every message written in the session, on its path or not, in the order of writing."""
    return [_read(row) for row in database.execute_sql(_OWN, (id_of(session),)).fetchall()]


def fork(session: str | Session, at: str | Message | None = None, *, title: str | None = None) -> Session:
    """Return a new session whose head is the session's head (or the message `at`); nothing is copied.

    Raises InvalidInput where `at` is not part of the session.
    """
    with database.atomic():
        origin = by_id(get(session).id)
        head = origin.head_id if at is None else _part_of(origin, get_message(at)).id
        row_id = insert_row(
            Session,
            title=title or (f"{origin.title} (fork)" if origin.title else None),
            head_id=head,
            parent_session_id=origin.id,
            relation="fork",
            **{name: getattr(origin, name) for name in _INHERITED},
        )
        return by_id(row_id)


_INHERITED = ("model_id", "project_id", "system_prompt", "temperature", "max_tokens", "parameters", "metadata")


def _part_of(session: Session, message: Message) -> Message:
    """Return the message if the session wrote it or has it on its path, else raise InvalidInput."""
    if message.session_id != session.id and message.id not in {node.id for node in path(session)}:
        raise InvalidInput(f"message {message.uuid[:8]} is not part of session {session.uuid[:8]}")
    return message


def edit(
    message: str | Message, content: str, *, session: str | Session | None = None, settings: dict[str, Any] | None = None
) -> Message:
    """Write a changed version of a message beside it, move the session's head to it and return it.

    The original and what followed it stay; `tree()` shows both. `session` is needed only where the message lies in
    another session than the branch to change.
    """
    original = get_message(message)
    owner = get(session) if session is not None else by_id(original.session_id)
    _part_of(owner, original)
    with growing(owner.id) as end:
        end.head_id, end.position = original.parent_id, original.position - 1
        metadata = (original.metadata or {}) | {"edited_from": original.uuid}
        return end.add(original.role, content, origin="human", metadata=metadata, **(settings or {}))


def set_head(session: str | Session, at: str | Message | None) -> Session:
    """Move the session's head to one of its messages (None: before the first) and return the session."""
    found = get(session)
    head = None if at is None else _part_of(found, get_message(at)).id
    with database.atomic():
        update_row(Session, found.id, head_id=head)
    return by_id(found.id)


def rename(session: str | Session, title: str) -> Session:
    """Give the session a title and return it; raises InvalidInput for an empty one."""
    title = texts.clean(title).strip()
    if not title:
        raise InvalidInput("a title cannot be empty")
    return _change(session, title=title)


def tag(session: str | Session, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str]:
    """Add and remove tags and return the session's tags, sorted."""
    found = get(session)
    with database.atomic():
        _add_tags(found.id, add)
        gone = [_tag(word) for word in remove]
        SessionTag.delete().where((SessionTag.session == found.id) & (SessionTag.tag << gone)).execute()
        rows = SessionTag.select(SessionTag.tag).where(SessionTag.session == found.id).order_by(SessionTag.tag)
        return [row.tag for row in rows]


def _add_tags(session_id: int, tags: Iterable[str]) -> None:
    for word in {_tag(word) for word in tags}:
        database.execute_sql(
            "INSERT INTO session_tags (session_id, tag) VALUES (?, ?) ON CONFLICT DO NOTHING", (session_id, word)
        )


def _tag(word: str) -> str:
    cleaned = texts.clean(word).strip().lower()
    if not cleaned or any(character.isspace() for character in cleaned):
        raise InvalidInput(f'"{word}" is no tag', hint="a tag is one word")
    return cleaned


def move(session: str | Session, project: str | None) -> Session:
    """Put the session into a project, made if new, or with None into none; return it."""
    with database.atomic():
        return _change(session, project_id=catalog.project_id(project) if project else None)


def close(session: str | Session) -> Session:
    """Mark the session as completed and return it; appending to it opens it again."""
    return _change(session, status="completed", ended_at=now())


def archive(session: str | Session, archived: bool = True) -> Session:
    """Take the session out of the lists, or with False put it back, and return it."""
    return _change(session, status="archived" if archived else "active")


def _change(session: str | Session, **fields: Any) -> Session:
    found = get(session)
    with database.atomic():
        update_row(Session, found.id, **fields)
    return by_id(found.id)


# Deleting


@dataclass(frozen=True)
class Deletion:
    """What deleting a session removed; `kept` messages live on because other sessions or snapshots reach them."""

    deleted: int
    kept: int


_REACHED = """
    WITH RECURSIVE reached (id) AS (
        SELECT m.id FROM messages m WHERE m.session_id = :session AND (
            EXISTS (SELECT 1 FROM sessions s WHERE s.head_id = m.id AND s.id <> :session)
            OR EXISTS (SELECT 1 FROM session_snapshots p WHERE p.head_id = m.id AND p.session_id <> :session)
            OR EXISTS (SELECT 1 FROM messages c WHERE c.parent_id = m.id AND c.session_id <> :session)
        )
        UNION
        SELECT m.parent_id FROM reached r JOIN messages m ON m.id = r.id
        JOIN messages parent ON parent.id = m.parent_id WHERE parent.session_id = :session
    ) SELECT id FROM reached
"""


def delete(session: str | Session, *, dry_run: bool = False) -> Deletion:
    """Delete a session with the messages that no other session or snapshot reaches, and say how many.

    Its row stays hidden while others reach some of its messages, and as the tombstone of an import, so that the next
    import does not bring it back.
    """
    found = get(session)
    with database.atomic():
        kept = {row[0] for row in database.execute_sql(_REACHED, {"session": found.id}).fetchall()}
        own = [row[0] for row in database.execute_sql("SELECT id FROM messages WHERE session_id = ?", (found.id,))]
        doomed = [row_id for row_id in own if row_id not in kept]
        if not dry_run:
            _delete(found, doomed, keep_row=bool(kept) or found.external_id is not None)
    return Deletion(len(doomed), len(kept))


def _delete(session: Session, doomed: list[int], keep_row: bool) -> None:
    run = database.execute_sql
    run("CREATE TEMP TABLE IF NOT EXISTS doomed (id INTEGER PRIMARY KEY)")
    run("DELETE FROM doomed")
    for start in range(0, len(doomed), 500):
        chunk = doomed[start : start + 500]
        run(f"INSERT INTO doomed (id) VALUES {', '.join(['(?)'] * len(chunk))}", chunk)
    run("DELETE FROM session_snapshots WHERE session_id = ?", (session.id,))
    run("UPDATE sessions SET head_id = NULL WHERE id = ?", (session.id,))
    run("UPDATE sessions SET parent_session_id = NULL WHERE parent_session_id = ? AND ?", (session.id, not keep_row))
    for name in texts.FIELDS:  # which large texts may have lost their last message
        run(
            f"CREATE TEMP TABLE IF NOT EXISTS orphans_{name} AS SELECT DISTINCT {name}_sha256 AS sha256 FROM messages "
            f"WHERE id IN (SELECT id FROM doomed) AND {name}_sha256 IS NOT NULL"
        )
    blobs = [row[0] for row in run("SELECT blob_id FROM message_blobs WHERE message_id IN (SELECT id FROM doomed)")]
    run("DELETE FROM messages WHERE id IN (SELECT id FROM doomed)")
    unused = " AND ".join(f"NOT EXISTS (SELECT 1 FROM messages WHERE {name}_sha256 = t.sha256)" for name in texts.FIELDS)
    for name in texts.FIELDS:
        run(f"DELETE FROM texts AS t WHERE sha256 IN (SELECT sha256 FROM orphans_{name}) AND {unused}")
        run(f"DROP TABLE orphans_{name}")
    for blob in set(blobs):
        run("DELETE FROM blobs WHERE id = ? AND NOT EXISTS (SELECT 1 FROM message_blobs WHERE blob_id = ?)", (blob, blob))
    if keep_row:
        cleared = {"title": None, "system_prompt": None, "metadata": None, "parameters": None}
        update_row(Session, session.id, status="deleted", **cleared)
        run("DELETE FROM session_tags WHERE session_id = ?", (session.id,))
    else:
        run("DELETE FROM sessions WHERE id = ?", (session.id,))


# The tree


@dataclass(frozen=True)
class Branch:
    """A node of the drawn tree: a run of messages without a fork, and what comes after it.

    `heads` are the sessions whose head is its last message; `main` is whether the asked session's path runs through.
    """

    messages: list[Message]
    heads: list[Session]
    main: bool
    children: list[Branch]


def tree(session: str | Session) -> list[Branch]:
    """Return all messages of a session and of the sessions that share messages with it, as runs between forks."""
    found = get(session)
    rows = _family(found.id)
    known = {message.id for message in rows}
    children: dict[int | None, list[Message]] = {}
    for message in rows:
        parent = message.parent_id if message.parent_id in known else None
        children.setdefault(parent, []).append(message)
    heads: dict[int, list[Session]] = {}
    for branch in Session.select().where(VISIBLE & (Session.head << list(known))):
        heads.setdefault(branch.head_id, []).append(branch)
    main = {message.id for message in path(found)}
    return [_branch(root, children, heads, main) for root in children.get(None, [])]


def _branch(
    first: Message, children: dict[int | None, list[Message]], heads: dict[int, list[Session]], main: set[int]
) -> Branch:
    run = [first]
    while len(children.get(run[-1].id, [])) == 1 and run[-1].id not in heads:
        run.append(children[run[-1].id][0])
    last = run[-1].id
    after = [_branch(child, children, heads, main) for child in children.get(last, [])]
    return Branch(run, heads.get(last, []), first.id in main, after)


_FAMILY = f"""
    WITH RECURSIVE family (id) AS (
        SELECT ?
        UNION
        SELECT other.session_id FROM family f JOIN messages m ON m.session_id = f.id
        JOIN messages other ON (other.parent_id = m.id OR other.id = m.parent_id) AND other.session_id <> f.id
    )
    SELECT {_SELECT} FROM messages m WHERE m.session_id IN (SELECT id FROM family)
    ORDER BY m.position, m.created_at, m.id
"""


def _family(session_id: int) -> list[Message]:
    return [_read(row) for row in database.execute_sql(_FAMILY, (session_id,)).fetchall()]


# Lists


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
        wheres, values = ["s.status NOT IN ('archived', 'deleted')"], []
        if self.status is not None:
            if self.status not in STATUSES:
                raise InvalidInput(f'"{self.status}" is no status', hint=f"statuses are {', '.join(STATUSES)}")
            wheres, values = ["s.status = ?"], [self.status]
        for value, column in ((self.type, "session_type"), (self.source, "source")):
            if value is not None:
                wheres.append(f"s.{column} = ?")
                values.append(value)
        if self.project is not None:
            wheres.append("s.project_id = ?")
            values.append(catalog.get_project(self.project).id)
        if self.model is not None:
            wheres.append("s.model_id = ?")
            values.append(catalog.get_model(self.model).id)
        if self.tag is not None:
            wheres.append("EXISTS (SELECT 1 FROM session_tags t WHERE t.session_id = s.id AND t.tag = ?)")
            values.append(self.tag.lower())
        for moment, comparison in ((self.since, ">="), (self.until, "<")):
            if moment is not None:
                wheres.append(f"s.last_activity_at {comparison} ?")
                values.append(time_text(moment))
        for key, value in self.metadata:
            wheres.append("CAST(json_extract(s.metadata, ?) AS TEXT) = ?")
            values.extend([f'$."{key}"', value])
        return wheres, values


@dataclass(frozen=True)
class Page:
    """A page of a list: rows of v_session_summary as dicts, and the cursor of the next page, None at the end."""

    rows: list[dict[str, Any]]
    cursor: str | None


def find(filter: SessionFilter | None = None, *, limit: int | None = 50, cursor: str | None = None) -> Page:
    """Return sessions by last activity, newest first; `limit` None means all, `cursor` continues a page."""
    wheres, values = (filter or SessionFilter()).conditions()
    if cursor is not None:
        wheres.append("(s.last_activity_at, s.id) < (?, ?)")
        values.extend(_parse_cursor(cursor))
    sql = (
        f"SELECT s.id, s.last_activity_at FROM sessions s WHERE {' AND '.join(wheres)} "
        "ORDER BY s.last_activity_at DESC, s.id DESC LIMIT ?"
    )
    ids = database.execute_sql(sql, [*values, -1 if limit is None else limit + 1]).fetchall()
    more = limit is not None and len(ids) > limit
    ids = ids[:limit] if more else ids
    return Page(summaries([row[0] for row in ids]), f"{ids[-1][1]}~{ids[-1][0]}" if more and ids else None)


def count(filter: SessionFilter | None = None) -> int:
    """Return how many sessions the filter lets through."""
    if filter is None or filter == SessionFilter():
        sql = "SELECT (SELECT count(*) FROM sessions) - (SELECT count(*) FROM sessions WHERE status IN ('archived', 'deleted'))"
        return int(database.execute_sql(sql).fetchone()[0])
    wheres, values = filter.conditions()
    sql = f"SELECT count(*) FROM sessions s WHERE {' AND '.join(wheres)}"
    return int(database.execute_sql(sql, values).fetchone()[0])


def _parse_cursor(cursor: str) -> tuple[str, int]:
    moment, _, row_id = cursor.rpartition("~")
    try:
        models.parse_time(moment)
        return moment, int(row_id)
    except ValueError as error:
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
