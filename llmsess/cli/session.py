"""`llmsess session`: conversations."""

from __future__ import annotations

import functools
from typing import Any

import click

from llmsess import salvaging, sessions
from llmsess.cli import SuggestingGroup, conversation, output
from llmsess.cli.completion_types import MODEL, PROJECT
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    edited_text,
    format_options,
    json_or_text,
    list_options,
    open_database,
    pair,
    recovered,
    request_options,
    session_argument,
    session_filter,
    session_filters,
    standard_input,
    text_value,
    yes_option,
)
from llmsess.errors import InvalidInput
from llmsess.models import Session

SHORT = conversation.SHORT_ID


@click.group(cls=SuggestingGroup)
def session() -> None:
    """Conversations. SESSION is an id or its first 4 characters, a title, or @last."""


def _show_one(row: Session, format_: str | None) -> None:
    """Write a session's record, as its line in a list has it."""
    summary = sessions.summaries([row.id])[0]
    if format_ == "json":
        output.show_json(conversation.session_json(summary))
    else:
        conversation.show_sessions([summary], format_)


@session.command()
@click.argument("title", required=False)
@click.option("--model", "-m", shell_complete=MODEL, help="The model, as provider/name.")
@click.option("--project", shell_complete=PROJECT, help="The project, made if new.")
@click.option("--system", "-s", help="The system prompt; @FILE reads a file.")
@click.option("--temperature", type=float, help="Sampling temperature.")
@click.option("--max-tokens", type=int, help="Tokens of a reply.")
@click.option("-o", "--option", "options", nargs=2, multiple=True, metavar="NAME VALUE", help="A request parameter.")
@click.option("--tag", "tags", multiple=True, help="A tag.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata.")
@format_options
@database
def create(
    title: str | None, system: str | None, options: Any, meta: Any, format_: str | None, as_json: bool, **given: Any
) -> None:
    """Make an empty session.

    \b
    Example:
      llmsess session create "Trip to Oslo" -m openai/gpt-5 --project travel
    """
    parameters = {name: json_or_text(value) for name, value in options}
    metadata = dict(map(pair, meta))
    made = sessions.create(title, system_prompt=text_value(system), parameters=parameters, metadata=metadata, **given)
    _show_one(made, chosen_format(format_, as_json))


@session.command("list")
@session_filters
@list_options
@format_options
@database
def list_(limit: int, all_: bool, cursor: str | None, format_: str | None, as_json: bool, **filters: Any) -> None:
    """List sessions, the latest first.

    \b
    Examples:
      llmsess list --since 7d --model openai/gpt-5
      llmsess list --tag bug --json
    """
    chosen = session_filter(filters)
    page = sessions.find(chosen, limit=None if all_ else limit, cursor=cursor)
    conversation.show_sessions(page.rows, chosen_format(format_, as_json))
    if page.cursor is not None:
        output.show_next(len(page.rows), sessions.count(chosen), page.cursor)


@session.command()
@session_argument
@click.option("--at", metavar="MESSAGE", help="Only up to this message, on its own branch.")
@click.option("--nodes", is_flag=True, help="Every message written in the session, not only its path.")
@click.option("--hidden", is_flag=True, help="Messages that their tool did not show too.")
@format_options
@database
def show(reference: str, at: str | None, nodes: bool, hidden: bool, format_: str | None, as_json: bool) -> None:
    """Show a conversation.

    \b
    Examples:
      llmsess show @last
      llmsess show 3f9c --json
    """
    chosen = chosen_format(format_, as_json)
    row = sessions.get(reference)
    reading = salvaging.of_session(row, at)
    messages = sessions.nodes(row) if nodes else reading
    summary = sessions.summaries([row.id])[0]
    if at is not None and chosen is None:
        summary |= {"messages": sessions.get_message(at).position}
    if chosen == "json":
        settings = {"system_prompt": row.system_prompt, "parameters": row.parameters}
        record = conversation.session_json(summary) | settings
        output.show_json(record | {"messages": conversation.messages_json(list(messages))})
    elif chosen in ("jsonl", "csv"):
        output.show_rows(conversation.messages_json(list(messages)), chosen)
    elif chosen == "markdown":
        output.out(conversation.session_markdown(list(messages), summary))
    else:
        output.page(conversation.session_pieces(row, messages, summary, hidden=hidden))
    reading.check()


@session.command()
@session_argument
@click.argument("text", required=False)
@click.option("--role", default="user", show_default=True, help="system, developer, user, assistant, tool or event.")
@click.option("--edit", "in_editor", is_flag=True, help="Write it in $EDITOR.")
@format_options
@database
def add(reference: str, text: str | None, role: str, in_editor: bool, format_: str | None, as_json: bool) -> None:
    """Add a message to a session, without sending it; the text may come from standard input.

    \b
    Example:
      llmsess add @last --role assistant "It is the scattering." """
    content = edited_text(text or "") if in_editor else text if text is not None else standard_input()
    if not content:
        raise InvalidInput("there is no text to add", hint="as an argument, on standard input, or with --edit")
    message = sessions.append(reference, role, content)
    output.show_fields(conversation.messages_json([message])[0], chosen_format(format_, as_json), _brief)


def _brief(record: output.Row) -> output.Row:
    return {key: record[key] for key in ("id", "position", "role", "status", "content")}


@session.command()
@session_argument
@click.option("--at", metavar="MESSAGE", help="The message to branch at; the session's last if not given.")
@click.option("--title", help="The new session's title.")
@format_options
@database
def fork(reference: str, at: str | None, title: str | None, format_: str | None, as_json: bool) -> None:
    """Branch a session: a new one that shares all messages so far.

    \b
    Example:
      llmsess session fork @last --at 7d1e
    """
    _show_one(sessions.fork(reference, at, title=title), chosen_format(format_, as_json))


@session.command()
@click.argument("message", metavar="MESSAGE")
@click.argument("text", required=False)
@click.option("--session", "reference", help="The branch to change, if the message is shared.")
@format_options
@database
def edit(message: str, text: str | None, reference: str | None, format_: str | None, as_json: bool) -> None:
    """Replace a message by a changed version on a new branch; the old one stays in the tree.

    Without TEXT it comes from standard input, or $EDITOR opens with the message.

    \b
    Example:
      llmsess session edit 7d1e "why is the sky red?"
    """
    original = sessions.get_message(message)
    content = text if text is not None else standard_input() or edited_text(original.content)
    changed = sessions.edit(original, content, session=reference)
    output.show_fields(conversation.messages_json([changed])[0], chosen_format(format_, as_json), _brief)
    if changed.role == "user":
        output.notice(f"To get its answer: llmsess session retry {sessions.by_id(changed.session_id).uuid[:SHORT]}")


@session.command()
@session_argument
@click.option("--at", metavar="MESSAGE", help="The prompt to send again; the last if not given.")
@request_options
@format_options
@database
def retry(reference: str, at: str | None, format_: str | None, as_json: bool, **given: Any) -> None:
    """Send the last prompt again; the new reply is a branch beside the old one.

    \b
    Example:
      llmsess session retry @last -m openai/gpt-5-mini
    """
    from llmsess import chat
    from llmsess.cli import replying, sending

    send = functools.partial(chat.retry, reference, at, **sending.request(given))
    replying.show(send, sending.display(given, as_json=chosen_format(format_, as_json) == "json"))


@session.command("attachments")
@session_argument
@click.option("--output", "-o", "folder", metavar="FOLDER", help="Write them into this folder, made if new.")
@format_options
@database
def attachments_(reference: str, folder: str | None, format_: str | None, as_json: bool) -> None:
    """List what was attached to a conversation's messages, or write it into a folder.

    \b
    Examples:
      llmsess session attachments @last
      llmsess session attachments @last -o pictures
    """
    from llmsess import attachments

    if folder is not None:
        for path in attachments.save(reference, folder):
            output.notice(f"Wrote {path}")
    rows = [conversation.attachment_json(found) for found in attachments.of_session(reference)]
    output.show_rows(rows, chosen_format(format_, as_json), conversation.ATTACHMENTS, _attachment_line)


def _attachment_line(row: output.Row) -> output.Row:
    return row | {"message": row["message"][:SHORT]}


@session.command()
@session_argument
@click.argument("title")
@database
def rename(reference: str, title: str) -> None:
    """Give a session a title.

    \b
    Example:
      llmsess session rename @last "Sky colours"
    """
    row = sessions.rename(reference, title)
    output.notice(f'Session {row.uuid[:SHORT]} is "{row.title}".')


@session.command()
@session_argument
@click.argument("tags", nargs=-1)
@click.option("--remove", multiple=True, metavar="TAG", help="A tag to take away.")
@format_options
@database
def tag(reference: str, tags: tuple[str, ...], remove: tuple[str, ...], format_: str | None, as_json: bool) -> None:
    """Add or remove tags, and show what is there.

    \b
    Example:
      llmsess session tag @last bug urgent --remove idea
    """
    rows = [{"tag": word} for word in sessions.tag(reference, tags, remove)]
    output.show_rows(rows, chosen_format(format_, as_json))


@session.command()
@session_argument
@click.argument("project", required=False, shell_complete=PROJECT)
@database
def move(reference: str, project: str | None) -> None:
    """Put a session into a project, made if new; without PROJECT take it out of its project.

    \b
    Example:
      llmsess session move @last thesis
    """
    row = sessions.move(reference, project)
    output.notice(f"Session {row.uuid[:SHORT]} is in {project or 'no project'}.")


@session.command()
@session_argument
@database
def close(reference: str) -> None:
    """Mark a session as completed; a further message opens it again.

    \b
    Example:
      llmsess session close @last
    """
    output.notice(f"Session {sessions.close(reference).uuid[:SHORT]} is completed.")


@session.command()
@session_argument
@click.option("--undo", is_flag=True, help="Bring it back.")
@database
def archive(reference: str, undo: bool) -> None:
    """Take a session out of the lists, or bring it back.

    \b
    Example:
      llmsess session archive @last
    """
    row = sessions.archive(reference, archived=not undo)
    output.notice(f"Session {row.uuid[:SHORT]} is {'back' if undo else 'archived'}.")


@session.command()
@click.argument("references", metavar="SESSION...", nargs=-1, required=True)
@yes_option
@database
def delete(references: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Delete sessions and their messages, except those that other sessions share.

    \b
    Example:
      llmsess session delete 3f9c --yes
    """
    rows = list({row.id: row for row in map(sessions.get, references)}.values())
    for row in rows:
        would = sessions.delete(row, dry_run=True)
        shared = f", keep {would.kept} shared ones" if would.kept else ""
        shared += f", {output.counted(would.snapshots, 'snapshot')}" if would.snapshots else ""
        output.notice(
            f"{row.uuid[:SHORT]} {row.title or '(untitled)'}: {output.counted(would.deleted, 'message')}{shared}"
        )
    if confirmed(f"Delete {output.counted(len(rows), 'session')}", yes=yes, dry_run=dry_run):
        done = [sessions.delete(row) for row in rows]
        output.notice(f"Deleted {output.counted(sum(deletion.deleted for deletion in done), 'message')}.")


@session.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@format_options
def recover(files: tuple[str, ...], format_: str | None, as_json: bool) -> None:
    """Settle replies that a crash left unfinished, or store replies kept in side FILEs.

    \b
    Example:
      llmsess session recover
    """
    from llmsess import settling

    open_database(recover=False)
    rows = [conversation.reply_json(message) for message in [*map(settling.restore_aside, files), *recovered()]]
    output.show_rows(
        rows,
        chosen_format(format_, as_json),
        output.Layout({"session_id": "session", "id": "message", "status": "status"}),
    )
    output.notice(f"{output.counted(len(rows), 'reply', 'replies')} recovered.")


@session.command()
@session_argument
@format_options
@database
def tree(reference: str, format_: str | None, as_json: bool) -> None:
    """Draw the branches of a session; ◆ is where a session ends, ◇ a snapshot.

    \b
    Examples:
      llmsess session tree @last
      llmsess session tree @last --json
    """
    from llmsess import tree as trees

    row, chosen = sessions.get(reference), chosen_format(format_, as_json)
    branches = trees.branches(row)
    if chosen in ("json", "jsonl", "csv"):
        output.show_rows(conversation.tree_json(branches), chosen)
    else:
        output.page([conversation.tree_text(row, branches)])
