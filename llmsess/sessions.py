"""Sessions and their messages: a tree of messages, and branches that name a head in it.

A settled message never changes. Appending writes a message whose parent is the head and moves the head; fork, edit and
retry are new pointers into the same tree. `maintenance.check()` proves positions, heads and totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmsess import catalog, door, prices, request_parameters
from llmsess.db import database
from llmsess.errors import InvalidInput, NotFound
from llmsess.listing import Page, SessionFilter, count, find, summaries
from llmsess.models import LanguageModel, Message, Session, SessionTag, now
from llmsess.references import elsewhere, resolve, same_row
from llmsess.rows import get_row, insert_row, update_row
from llmsess.writing import ATTACHED, blocks, check_head, collect, growing, held_by, message_by_id, path_to, written_in

__all__ = [
    "Deletion", "Page", "SessionFilter", "append", "archive", "blocks", "by_id", "close", "count", "create", "delete",
    "edit", "extend", "find", "fork", "get", "get_message", "id_of", "move", "nodes", "path", "rename", "set_head",
    "summaries", "tag",
]  # fmt: skip

VISIBLE = Session.status != "deleted"


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
    tags: str | Iterable[str] = (),
    session_type: str = "single",
) -> Session:
    """Make an empty session and return it.

    `model` is `provider/name` and is stored if new; `project` is made if new; without a title the first prompt gives
    it. Raises InvalidInput for values that cannot be.
    """
    moment, sent_with = now(), request_parameters.given(parameters, temperature, max_tokens)
    given = {
        "title": door.text(title, "title").strip() or None if title is not None else None,
        "system_prompt": door.text(system_prompt, "system_prompt") or None if system_prompt is not None else None,
        "temperature": sent_with.temperature,
        "max_tokens": sent_with.max_tokens,
        "parameters": sent_with.others,
        "metadata": door.json_object(metadata, "metadata") if metadata else None,
        "session_type": door.session_type(session_type, "session type"),
        "started_at": moment,
        "last_activity_at": moment,
    }
    with database.atomic():
        language_model = catalog.model_named(model) if model else None
        project_id = catalog.project_id(project) if project else None
        model_id = language_model.id if language_model else None
        row_id = insert_row(Session, model_id=model_id, project_id=project_id, **given)
        _add_tags(row_id, tags)
    return by_id(row_id)


def by_id(session_id: int) -> Session:
    """Return the session of that inner id; raises NotFound if it is gone."""
    row = get_row(Session, session_id)
    if row is None:
        raise NotFound("session", str(session_id))
    return row


def get(reference: str | Session) -> Session:
    """Return the session of that uuid or prefix, exact title, or @last, as it is now.

    Raises NotFound, Ambiguous, InvalidInput.
    """
    if isinstance(reference, Session):
        row = get_row(Session, reference.id)
        if row is None or row.uuid != reference.uuid or row.status == "deleted":
            raise elsewhere("session", reference.uuid)
        return row
    return resolve(Session, reference, "session", name=Session.title, latest=Session.last_activity_at, visible=VISIBLE)


def id_of(reference: str | Session) -> int:
    """Return the inner id of a session; raises NotFound for the row of another database."""
    if not isinstance(reference, Session):
        return int(get(reference).id)
    return same_row(Session, reference, "session")


def get_message(reference: str | Message) -> Message:
    """Return the message of that uuid or prefix, its text whole; raises NotFound, Ambiguous, InvalidInput."""
    found = resolve(Message, reference, "message", name=None, latest=Message.created_at)
    return message_by_id(found.id)


def append(session: str | Session, role: str, content: str | Sequence[Any], **fields: Any) -> Message:
    """Write a message at the session's head and return it.

    `content` is a text or a list of blocks (see parts.py); `fields` are columns of a message: origin, status,
    reasoning, tool_text, model (`provider/name`), tokens, usage, cost, latency_ms, ttft_ms, finish_reason, error,
    external_id, metadata, created_at, completed_at. A reply of a model with its tokens but no cost is priced. Raises
    NotFound, InvalidInput.
    """
    [message] = extend(session, [{"role": role, "content": content, **fields}])
    return message


def extend(session: str | Session, messages: Iterable[dict[str, Any] | tuple[str, str]]) -> list[Message]:
    """Write several messages in one transaction and return them.

    Each is (role, content) or a dict with both and with what `append()` takes besides.
    """
    given = [_checked(item) for item in messages]
    rows = [(role, content, _priced(role, fields)) for role, content, fields in given]
    with growing(id_of(session)) as end:
        return [end.add(role, content, **fields) for role, content, fields in rows]


def _checked(item: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return a message that a caller gives as its role, its content and its other fields; raises InvalidInput."""
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item = {"role": item[0], "content": item[1]}
    if not isinstance(item, dict) or not {"role", "content"} <= item.keys():
        raise InvalidInput("a message is (role, content) or a dict with role and content")
    role, content = door.role(item["role"], "role"), door.content(item["content"])
    fields = {name: value for name, value in item.items() if name not in ("role", "content", "model")}
    columns = door.of_callers_message(fields)
    if not isinstance(content, str) and not fields.keys().isdisjoint(("reasoning", "tool_text")):
        raise InvalidInput("reasoning and tool texts are blocks, where the content is a list of blocks")
    return role, content, columns | ({"model": item["model"]} if item.get("model") else {})


def _priced(role: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a message as columns; a whole reply of a model that tells its tokens gets its price."""
    if "model" not in fields:
        return fields
    model = catalog.model_named(fields["model"])
    columns = {name: value for name, value in fields.items() if name != "model"} | {"model_id": model.id}
    if role != "assistant" or columns.get("cost") is not None or columns.get("status", "complete") != "complete":
        return columns
    usage = prices.Usage(**{name: columns.get(name) for name in prices.Usage._fields})
    price = prices.price(model, usage, at=columns.get("created_at"))
    return columns | {"cost": price.cost, "cost_source": price.source}


def path(session: str | Session, *, last: int | None = None, at: str | Message | None = None) -> list[Message]:
    """Return the messages from the root to the session's head (or to the message `at`), texts whole, in order.

    `last` limits them to the newest so many. Raises NotFound, InvalidInput where `at` is not part of the session.
    """
    if last is not None:
        door.count(last, "last")
    head = _head_of(id_of(session)) if at is None else part_of(get(session), get_message(at)).id
    return [] if head is None else path_to(head, last=last)


def _head_of(session_id: int) -> int | None:
    row = database.execute_sql("SELECT head_id FROM sessions WHERE id = ?", (session_id,)).fetchone()
    return row[0] if row else None


def nodes(session: str | Session) -> list[Message]:
    """Return every message written in the session, on its path or not, in the order of writing."""
    return written_in(id_of(session))


def fork(session: str | Session, at: str | Message | None = None, *, title: str | None = None) -> Session:
    """Return a new session whose head is the session's head (or the message `at`); nothing is copied.

    Raises NotFound for a session or message that is not there, InvalidInput where `at` is not part of the session.
    """
    with database.atomic():
        origin = get(session)
        head = origin.head_id if at is None else part_of(origin, get_message(at)).id
        check_head(head)
        row_id = insert_row(
            Session,
            title=door.text(title, "title") if title else f"{origin.title} (fork)" if origin.title else None,
            head_id=head,
            parent_session_id=origin.id,
            relation="fork",
            **{name: getattr(origin, name) for name in _INHERITED},
        )
        return by_id(row_id)


_INHERITED = ("model_id", "project_id", "system_prompt", "temperature", "max_tokens", "parameters", "metadata")


def part_of(session: Session, message: Message) -> Message:
    """Return the message if the session wrote it or has it on its path, else raise InvalidInput."""
    if message.session_id != session.id and message.id not in {node.id for node in path(session)}:
        raise InvalidInput(f"message {message.uuid[:8]} is not part of session {session.uuid[:8]}")
    return message


def edit(
    message: str | Message,
    content: str,
    *,
    session: str | Session | None = None,
) -> Message:
    """Write a changed version of a message beside it, move the session's head to it and return it.

    The original and what followed it stay; `tree.branches()` has both. `session` is needed only where the message lies
    in another session than the branch to change. Raises NotFound, InvalidInput.
    """
    if not door.text(content, "content").strip():
        raise InvalidInput("a message cannot be edited into nothing")
    with database.atomic():  # what is looked up must not be deleted before it is used
        original = get_message(message)
        owner = get(session) if session is not None else by_id(original.session_id)
        part_of(owner, original)
        metadata = (original.metadata or {}) | {"edited_from": original.uuid}
        with growing(owner.id) as end:
            end.head_id, end.position = original.parent_id, original.position - 1
            return end.add(original.role, _with_attachments(original, content), origin="human", metadata=metadata)


def _with_attachments(original: Message, text: str) -> str | list[Any]:
    """Return a changed text with what the original had besides text: images and files stay."""
    kept = [block for block in blocks(original) or [] if isinstance(block, dict) and block.get("type") in ATTACHED]
    return [{"type": "text", "text": text}, *kept] if kept else text


def set_head(session: str | Session, at: str | Message | None) -> Session:
    """Move the session's head to one of its messages (None: before the first) and return the session."""
    with database.atomic():
        found = get(session)
        update_row(Session, found.id, head_id=None if at is None else part_of(found, get_message(at)).id)
        return by_id(found.id)


def rename(session: str | Session, title: str) -> Session:
    """Give the session a title and return it; raises InvalidInput for an empty one."""
    title = door.text(title, "title").strip()
    if not title:
        raise InvalidInput("a title cannot be empty")
    return _change(session, title=title)


def tag(session: str | Session, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> list[str]:
    """Add and remove tags and return the session's tags, sorted."""
    with database.atomic():
        found = get(session)
        _add_tags(found.id, add)
        gone = [_tag(word) for word in door.words(remove)]
        SessionTag.delete().where((SessionTag.session == found.id) & (SessionTag.tag << gone)).execute()
        rows = SessionTag.select(SessionTag.tag).where(SessionTag.session == found.id).order_by(SessionTag.tag)
        return [row.tag for row in rows]


def _add_tags(session_id: int, tags: str | Iterable[str]) -> None:
    for word in {_tag(word) for word in door.words(tags)}:
        database.execute_sql(
            "INSERT INTO session_tags (session_id, tag) VALUES (?, ?) ON CONFLICT DO NOTHING", (session_id, word)
        )


def _tag(word: str) -> str:
    cleaned = door.text(word, "a tag").strip().lower()
    if not cleaned or any(character.isspace() for character in cleaned):
        raise InvalidInput(f'"{word}" is no tag', hint="a tag is one word")
    return cleaned


def move(session: str | Session, project: str | None) -> Session:
    """Put the session into a project, made if new, or with None into none; return it."""
    with database.atomic():
        return _change(session, project_id=catalog.project_id(project) if project else None)


def close(session: str | Session) -> Session:
    """Mark the session as completed and return it; appending to it opens it again."""
    with database.atomic():
        found = get(session)
        return _change(found, status=found.status if found.status == "archived" else "completed", ended_at=now())


def archive(session: str | Session, archived: bool = True) -> Session:
    """Take the session out of the lists, or with False put it back, and return it."""
    found = get(session)
    own = "completed" if found.ended_at is not None else status_at(found.head_id)
    return _change(found, status="archived" if archived else own)


def status_at(head_id: int | None) -> str:
    """Return the status of an open session whose last message is that: as this has ended."""
    ended = message_by_id(head_id).status if head_id else None
    return ended if ended in ("interrupted", "failed") else "active"


def _change(session: str | Session, **fields: Any) -> Session:
    with database.atomic():
        found = get(session)
        update_row(Session, found.id, **fields)
        return by_id(found.id)


# Deleting


@dataclass(frozen=True)
class Deletion:
    """How many messages a deletion removes, its own and those that earlier deletions kept for it; `kept` live on.

    `snapshots` of the session go with it.
    """

    deleted: int
    kept: int
    snapshots: int = 0


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
    import does not bring it back. A dry run only says. Raises NotFound, Ambiguous.
    """
    with database.atomic() as transaction:
        found = get(session)
        kept, doomed = _kept_and_doomed(found.id)
        marks = database.execute_sql("SELECT count(*) FROM session_snapshots WHERE session_id = ?", (found.id,))
        snapshots = int(marks.fetchone()[0])
        _delete(found, doomed, keep_row=bool(kept) or found.external_id is not None)
        collected = collect_unreached()
        if dry_run:
            transaction.rollback()
    return Deletion(len(doomed) + collected, len(kept), snapshots)


def _kept_and_doomed(session_id: int) -> tuple[set[int], list[int]]:
    """Return which messages of a session others reach, and the other ones."""
    kept = {row[0] for row in database.execute_sql(_REACHED, {"session": session_id}).fetchall()}
    own = database.execute_sql("SELECT id FROM messages WHERE session_id = ?", (session_id,)).fetchall()
    return kept, [row[0] for row in own if row[0] not in kept]


def collect_unreached() -> int:
    """Delete what deleted sessions kept for others and nobody reaches any more; return how many messages that was."""
    sql = "SELECT id FROM sessions WHERE status = 'deleted' AND (total_messages > 0 OR external_id IS NULL)"
    changed, collected = True, 0
    while changed:  # ancestors after their branches
        changed = False
        for (row_id,) in database.execute_sql(sql).fetchall():
            kept, doomed = _kept_and_doomed(row_id)
            tombstone = by_id(row_id)
            if doomed or (not kept and tombstone.external_id is None):
                _delete(tombstone, doomed, keep_row=bool(kept) or tombstone.external_id is not None)
                changed, collected = True, collected + len(doomed)
    return collected


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
    left = held_by("SELECT id FROM doomed")
    run("DELETE FROM messages WHERE id IN (SELECT id FROM doomed)")
    collect(left)
    if keep_row:
        cleared = {"title": None, "system_prompt": None, "metadata": None, "parameters": None}
        update_row(Session, session.id, status="deleted", **cleared)
        run("DELETE FROM session_tags WHERE session_id = ?", (session.id,))
    else:
        run("DELETE FROM sessions WHERE id = ?", (session.id,))
