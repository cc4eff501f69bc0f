"""How sessions and messages are shown: as the documented JSON objects, and as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from llmsess import sessions, tree
from llmsess.cli import output, table
from llmsess.cli.output import Row, cost_usd, iso, local_time, money, number, style
from llmsess.db import database
from llmsess.models import LanguageModel, Message, Session, SessionSnapshot
from llmsess.texts import one_line, without_controls

if TYPE_CHECKING:
    from llmsess.attachments import Stored

SESSIONS = output.Layout(
    {"id": "id", "title": "title", "model": "model", "messages": "messages", "tokens": "tokens", "cost": "cost",
     "last_activity": "last activity"},
    flexible="title", spare=("tokens", "model", "messages", "cost"),
)  # fmt: skip
ROLE_COLOURS = {"user": "green", "assistant": "cyan", "tool": "yellow", "system": "magenta", "developer": "magenta"}
SHORT_ID = 8
TITLE_CHARACTERS = 70  # of a list


def session_json(row: Row) -> Row:
    """Return a row of v_session_summary as the object that `session list --json` has."""
    return {
        "id": row["uuid"],
        "title": row["title"],
        "type": row["type"],
        "status": row["status"],
        "project": row["project"],
        "model": row["model"],
        "tags": sorted(row["tags"].split()) if row["tags"] else [],
        "messages": row["messages"],
        "input_tokens": row["input_tokens"],
        "cached_input_tokens": row["cached_input_tokens"],
        "cache_write_tokens": row["cache_write_tokens"],
        "output_tokens": row["output_tokens"],
        "cost_usd": cost_usd(row["cost_nano_usd"], row["unpriced_messages"]),
        "unpriced_messages": row["unpriced_messages"],
        "source": row["source"],
        "external_id": row["external_id"],
        "parent": row["parent"],
        "started_at": row["started_at"],
        "last_activity_at": row["last_activity_at"],
    }


def session_line(row: Row) -> Row:
    """Return a row of v_session_summary as a person reads it in a list."""
    words = row["title"] or row["first_prompt"] or _nameless(row)
    mark = {"interrupted": "(interrupted) ", "failed": "(failed) ", "completed": "(closed) "}.get(row["status"], "")
    return {
        "id": row["uuid"][:SHORT_ID],
        "title": mark + " ".join(filter(None, (one_line(words, TITLE_CHARACTERS), _tags(row)))),
        "model": one_line(row["model"] or "", 40),
        "messages": number(row["messages"]),
        "tokens": number(row["input_tokens"] + row["output_tokens"] or None),
        "cost": _cost(row),
        "last_activity": local_time(row["last_activity_at"]),
    }


def _tags(row: Row) -> str:
    return " ".join(f"#{tag}" for tag in sorted((row["tags"] or "").split()))


def _nameless(row: Row) -> str:
    return "(untitled)" if row["messages"] else "(empty)"


def _cost(row: Row) -> str:
    """Return what a session cost, nothing where no model has answered in it."""
    spent = row["cost_nano_usd"] or row["unpriced_messages"] or row["output_tokens"]
    return money(row["cost_nano_usd"], row["unpriced_messages"]) if spent else ""


def show_sessions(rows: Sequence[Row], format: str | None) -> None:
    """Write a list of sessions."""
    if format in ("json", "jsonl", "csv"):
        output.show_rows([session_json(row) for row in rows], format)
    else:
        output.show_rows(rows, format, SESSIONS, session_line)


def model_names(messages: Sequence[Message]) -> dict[int, str]:
    """Return the references of the models that wrote the messages, by inner id."""
    wanted = {message.model_id for message in messages if message.model_id}
    return {model.id: model.reference for model in LanguageModel.select().where(LanguageModel.id << list(wanted))}


def parent_ids(messages: Sequence[Message]) -> dict[int, str]:
    """Return the uuids of the messages' parents, by inner id."""
    known = {message.id: message.uuid for message in messages}
    missing = [m.parent_id for m in messages if m.parent_id is not None and m.parent_id not in known]
    for start in range(0, len(missing), 500):
        chunk = missing[start : start + 500]
        marks = ", ".join("?" * len(chunk))
        known |= dict(database.execute_sql(f"SELECT id, uuid FROM messages WHERE id IN ({marks})", chunk).fetchall())
    return known


def message_json(message: Message, models: dict[int, str], parents: dict[int, str]) -> Row:
    """Return a message as the object that `session show --json` has."""
    return {
        "id": message.uuid,
        "sequence": message.sequence_number,
        "position": message.position,
        "parent": parents.get(message.parent_id) if message.parent_id else None,
        "role": message.role,
        "origin": message.origin,
        "status": message.status,
        "content": message.content,
        "reasoning": message.reasoning,
        "parts": sessions.blocks(message),
        "model": models.get(message.model_id) if message.model_id else None,
        "input_tokens": message.input_tokens,
        "cached_input_tokens": message.cached_input_tokens,
        "cache_write_tokens": message.cache_write_tokens,
        "output_tokens": message.output_tokens,
        "reasoning_tokens": message.reasoning_tokens,
        "cost_usd": cost_usd(message.cost),
        "latency_ms": message.latency_ms,
        "ttft_ms": message.ttft_ms,
        "finish_reason": message.finish_reason,
        "error": message.error,
        "external_id": message.external_id,
        "created_at": iso(message.created_at),
    }


def messages_json(messages: Sequence[Message]) -> list[Row]:
    """Return messages as their objects."""
    models, parents = model_names(messages), parent_ids(messages)
    return [message_json(message, models, parents) for message in messages]


def reply_json(message: Message) -> Row:
    """Return a reply as `chat --json` has it: the message, and its session where it is stored."""
    if message.__data__["id"] is None:
        named = {"model": message.model.reference if message.model else None}
        return {"session_id": None, "session_title": None} | messages_json([message])[0] | named
    session = sessions.by_id(message.session_id)
    return {"session_id": session.uuid, "session_title": session.title} | messages_json([message])[0]


def session_pieces(session: Session, messages: Iterable[Message], row: Row, *, hidden: bool = True) -> Iterator[str]:
    """Yield a whole conversation as a person reads it, a message at a time; hidden ones are told by their number."""
    title = one_line(row["title"] or _nameless(row), 200)
    lines = [output.wrapped(style(title, bold=True)), output.wrapped(style(_facts(row), dim=True))]
    yield _text([*lines, *prompt_lines(session.system_prompt)])
    yield from message_pieces(messages, hidden=hidden)


def prompt_lines(system_prompt: str | None) -> list[str]:
    """Return a system prompt as lines, none where there is none."""
    return ["", style("system prompt", fg="magenta", bold=True), output.prose(system_prompt)] if system_prompt else []


def message_pieces(messages: Iterable[Message], *, hidden: bool = True) -> Iterator[str]:
    """Yield messages as a person reads them, as they come; hidden ones are told by their number unless wanted."""
    models: dict[int, str] = {}
    left = 0
    for message in messages:
        if not hidden and (message.metadata or {}).get("hidden"):
            left += 1
            continue
        if message.model_id is not None and message.model_id not in models:
            models |= model_names([message])
        yield _text(["", *message_lines(message, models)])
    if left:
        told = output.counted(left, "hidden message")
        yield _text(["", style(f"({told}: --hidden shows {'it' if left == 1 else 'them'})", dim=True)])


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _facts(row: Row) -> str:
    told = row["input_tokens"] or row["output_tokens"]
    tokens = f"{number(row['input_tokens'])} in, {number(row['output_tokens'])} out" if told else ""
    unpriced = f" ({row['unpriced_messages']} unpriced)" if row["unpriced_messages"] and row["cost_nano_usd"] else ""
    facts = [
        row["uuid"][:SHORT_ID], row["model"], row["project"], row["status"],
        output.counted(row["messages"], "message"), tokens,
        _cost(row) + unpriced, local_time(row["last_activity_at"]),
        _tags(row), f"from {row['source']}" if row["source"] else "",
    ]  # fmt: skip
    return " · ".join(one_line(str(fact), 80) for fact in facts if fact)


def message_lines(message: Message, models: dict[int, str]) -> list[str]:
    """Return a message as lines: a heading with its facts, then what it says."""
    colour = ROLE_COLOURS.get(message.role, "white")
    facts = [
        message.uuid[:SHORT_ID], local_time(message.created_at), models.get(message.model_id or 0, ""),
        f"{number(message.input_tokens)} in, {number(message.output_tokens)} out" if message.output_tokens else "",
        money(message.cost) if message.cost is not None else "",
        f"{message.latency_ms / 1000:.1f} s" if message.latency_ms else "",
        message.status if message.status != "complete" else "",
        message.origin if message.role == "user" and message.origin != "human" else "",
    ]  # fmt: skip
    heading = style(" · ".join(fact for fact in facts if fact), dim=True)
    lines = [output.wrapped(f"{style(message.role, fg=colour, bold=True)} {heading}")]
    sent_with = (message.metadata or {}).get("sent_with")
    if sent_with:
        lines.append(style(one_line(f"(sent with {output.json_text(sent_with)})", 300), dim=True))
    if message.reasoning:
        lines.append(style(output.prose(message.reasoning), dim=True, italic=True))
    if message.content:
        lines.append(output.prose(message.content))
    lines += [_attachment_line(found) for found in _attached(message)]
    if message.tool_text:
        lines.append(style(without_controls(message.tool_text), fg="yellow"))
    if message.error:
        lines.append(style(f"({one_line(message.error, 300)})", fg="red"))
    return lines


ATTACHMENTS = output.Layout(
    {"message": "message", "name": "name", "media_type": "type", "size_bytes": "bytes"}, flexible="name"
)


def attachment_json(found: Stored) -> Row:
    """Return an attachment as the object that `session attachments --json` has."""
    return {
        "message": found.message,
        "position": found.position,
        "name": found.name,
        "media_type": found.media_type,
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
    }


def _attached(message: Message) -> list[Stored]:
    if message.parts is None:
        return []
    from llmsess import attachments  # here: few conversations have any

    return attachments.of_message(message)


def _attachment_line(found: Stored) -> str:
    kind = found.media_type or "unknown"
    return style(f"[{one_line(found.name or kind, 80)}, {kind}, {found.size_bytes:,} bytes]", fg="blue")


def session_markdown(messages: Sequence[Message], row: Row) -> str:
    """Return a whole conversation as Markdown: a heading a message, and what it says as it stands."""
    parts = [f"# {one_line(row['title'] or _nameless(row), 200)}"]
    for message in messages:
        moment = local_time(message.created_at)
        parts.append(f"## {message.role}{f' · {moment}' if moment else ''}")
        parts += [f"> {line}" for line in [(message.reasoning or "").replace("\n", "\n> ")] if line]
        parts += [message.content] if message.content else []
        parts += [f"*{found.name or found.media_type}*" for found in _attached(message)]
        if message.tool_text:
            parts.append(f"````\n{message.tool_text}\n````")
    return "\n\n".join(map(without_controls, parts))


def tree_text(session: Session, branches: Sequence[tree.Branch]) -> str:
    """Return the branches of a session drawn as a tree."""
    lines: list[str] = []
    waiting = _places(branches, "")
    while waiting:
        branch, first, below = waiting.pop()
        for i, message in enumerate(branch.messages):
            lines.append(_tree_line(message, below if i else first, branch.main))
        lines += [style(f"{below}{_tree_head(head, session)}", bold=True) for head in branch.heads]
        lines += [style(f"{below}{_tree_mark(mark)}", dim=True) for mark in branch.marks]
        waiting += _places(branch.children, below)
    return "\n".join(lines or [_tree_head(session, session)]) + "\n"


def tree_json(branches: Sequence[tree.Branch]) -> list[Row]:
    """Return the messages of a tree as their objects, each with the sessions and snapshots that end there."""
    waiting, found, ends, marks = list(branches), [], {}, {}
    while waiting:
        branch = waiting.pop(0)
        found += branch.messages
        ends[branch.messages[-1].id] = [head.uuid for head in branch.heads]
        marks[branch.messages[-1].id] = [mark.uuid for mark in branch.marks]
        waiting += branch.children
    return [
        record | {"sessions": ends.get(message.id, []), "snapshots": marks.get(message.id, [])}
        for message, record in zip(found, messages_json(found), strict=True)
    ]


def _places(branches: Sequence[tree.Branch], indent: str) -> list[tuple[tree.Branch, str, str]]:
    """Return siblings, the last first, with what stands before their first and their further lines."""
    if len(branches) == 1:  # no fork: the line goes on
        return [(branches[0], indent, indent)]
    last = len(branches) - 1
    signs = [("└─ ", "   ") if i == last else ("├─ ", "│  ") for i in range(len(branches))]
    places = [(branch, indent + first, indent + below) for branch, (first, below) in zip(branches, signs, strict=True)]
    return places[::-1]


def _tree_head(head: Session, session: Session) -> str:
    here = " (this)" if head.id == session.id else ""
    return f"◆ {head.uuid[:SHORT_ID]} {one_line(head.title or '(untitled)', 60)}{here}"


def _tree_mark(mark: SessionSnapshot) -> str:
    return f"◇ {mark.uuid[:SHORT_ID]} {one_line(mark.name or mark.snapshot_type, 60)}"


def _tree_line(message: Message, before: str, main: bool) -> str:
    words = one_line(message.content or message.tool_text or message.error or "", 60)
    mark = "" if message.status == "complete" else f" ({message.status})"
    text = table.cut(f"{message.uuid[:SHORT_ID]} {message.role}: {words}{mark}", output.columns() - len(before))
    return before + (text if main else style(text, dim=True))
