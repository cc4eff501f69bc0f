"""The interactive chat: prompts typed at a terminal, replies as they come, and commands that begin with a slash.

The session is made with the first prompt. Ctrl-C stops a reply, of which what came is kept, and Ctrl-D leaves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from llmsess import chat, search, sessions, snapshots
from llmsess.attachments import Attachment, load
from llmsess.cli import conversation, output, replying
from llmsess.cli.options import edited_text, text_value
from llmsess.cli.sending import Asked
from llmsess.errors import InvalidInput, LlmsessError, NotFound, ProviderError
from llmsess.models import Message, Session
from llmsess.providers import Turn
from llmsess.settings import Settings
from llmsess.texts import one_line

RESUMED = 6  # messages shown when a conversation is taken up again
HITS = 10  # of a search
END = "/end"


class Leave(Exception):
    """The person wants to go."""


class Talk:
    """One interactive chat; `session` is None until the first prompt, and stays so where nothing is kept."""

    def __init__(
        self, asked: Asked, session: Session | None, create: Callable[[dict[str, Any]], Session] | None
    ) -> None:
        self.asked, self.session, self.create = asked, session, create
        self.changed: dict[str, Any] = {}  # options set by commands
        self.pending: list[Attachment] = list(asked.attachments)
        self.earlier: list[Turn] = []  # what was said, where nothing is kept

    def run(self, autosave_s: float, keep: int) -> None:
        """Talk until the person leaves; a snapshot is made every so many seconds (0: never), the newest `keep` stay."""
        way, _ = chat.prepare(chat.Options(**self.asked.options), self.session, keep=False)
        saving: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if autosave_s and self.create is not None:
            saving = snapshots.Autosave(lambda: self.session, autosave_s, keep)
        self.show_beginning(way.model.reference)
        typed = _reader(kept=self.create is not None)
        with saving:
            self.talk(typed)
        if self.session is not None:
            output.notice(f"To go on: llmsess chat --session {self.session.uuid[: conversation.SHORT_ID]}", dim=True)

    def talk(self, typed: Callable[[str], str]) -> None:
        """Take what is typed until the person leaves."""
        while True:
            try:
                self.take(typed("> "), typed)
            except (EOFError, Leave):
                break
            except KeyboardInterrupt:  # at the prompt: it is empty again
                continue
            except LlmsessError as error:
                output.show_error(error, as_json=False)
                if isinstance(error, ProviderError) and self.session is not None:
                    output.notice("/retry sends it again.", dim=True)

    def show_beginning(self, model: str) -> None:
        """Show what was said in a session that goes on, and how to go on or leave."""
        if self.session is not None:
            messages = sessions.path(self.session, last=RESUMED)
            models = conversation.model_names(messages)
            earlier = messages[0].position - 1 if messages else 0
            if earlier > 0:
                command = f"llmsess show {self.session.uuid[: conversation.SHORT_ID]}"
                output.notice(f"({output.counted(earlier, 'earlier message')}: {command})", dim=True)
            for message in messages:
                output.out("\n".join(conversation.message_lines(message, models)) + "\n")
        output.notice(f"{model} · /help shows the commands, Ctrl-D leaves", dim=True)

    def take(self, line: str, typed: Callable[[str], str]) -> None:
        """Do what a line says: a command, or a prompt to send."""
        text = line.strip()
        if text in ("exit", "quit"):
            raise Leave
        if text == "/multi":
            text = _lines(typed)
        elif text.startswith("//"):
            text = text[1:]
        elif text.startswith("/"):
            command, _, rest = text[1:].partition(" ")
            _command(command)(self, rest.strip())
            return
        if text.strip() or self.pending:
            self.send(text)

    def send(self, typed: str) -> None:
        """Send a prompt with what was attached, and show its reply."""
        prompt, options = self.asked.fill(typed)
        said = {"prompt": prompt, "attachments": self.pending, **options, **self.changed}
        self.pending = []
        if self.create is None:
            reply = self.turn(functools.partial(chat.once, earlier=self.earlier, **said))
            if reply is not None:
                self.earlier += [chat.turn_of(prompt, said["attachments"]), Turn("assistant", reply.content)]
        else:
            session = self.session = self.there() or self.create(said)
            self.turn(functools.partial(chat.ask, session, **said))

    def turn(self, send: Callable[..., Message]) -> Message | None:
        """Take a turn and return its reply, None where Ctrl-C has stopped it."""
        try:
            return replying.show(send, self.asked.display)
        except KeyboardInterrupt:
            fate = "what came is kept" if self.session else "that turn is no part of the conversation"
            output.notice(f"Stopped; {fate}.", dim=True)
            return None

    def there(self) -> Session | None:
        """Return the session as it is now, None where there is none yet, or it was deleted."""
        try:
            return sessions.get(self.session.uuid) if self.session is not None else None
        except NotFound:
            output.notice("The conversation was deleted meanwhile: this is a new one.", fg="yellow")
            self.session = None
            return None

    def stored(self) -> Session:
        """Return the session; raises InvalidInput where there is none yet, or none is kept."""
        session = self.there()
        if session is None:
            raise InvalidInput("nothing was said yet" if self.create else "nothing is kept of this conversation")
        return session


def _reader(*, kept: bool) -> Callable[[str], str]:
    """Return what reads a prompt: with editing, history and the completion of commands."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import create_output

    history = FileHistory(path) if kept and (path := _history_file()) else InMemoryHistory()
    keys = KeyBindings()
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    words = WordCompleter([f"/{name}" for name in (*COMMANDS, "multi")], sentence=True)
    reader: PromptSession[str] = PromptSession(
        history=history, key_bindings=keys, completer=words, complete_while_typing=False, enable_open_in_editor=True,
        tempfile_suffix=".md", output=create_output(sys.stdout if output.is_terminal() else sys.stderr),
    )  # fmt: skip
    return reader.prompt


def _history_file() -> str | None:
    """Return the file of what was typed before, which only its owner reads; None where there can be none."""
    path = Settings.load().home / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        output.notice(f"What is typed is not remembered: {error}", fg="yellow")
        return None
    return str(path)


def _lines(typed: Callable[[str], str]) -> str:
    """Return the lines that are typed up to /end; Ctrl-C gives them up, Ctrl-D ends them too."""
    lines: list[str] = []
    while True:
        try:
            line = typed(". ")
        except EOFError:
            break
        if line.strip() == END:
            break
        lines.append(line)
    return "\n".join(lines)


# Commands


def _help(talk: Talk, rest: str) -> None:
    width = max(map(len, _USAGE)) + 2
    for usage, text in _USAGE.items():
        output.out(f"{usage:{width}}{text}")
    output.out("\nAlt-Enter begins a new line, Ctrl-X Ctrl-E opens $EDITOR, Ctrl-C stops a reply, Ctrl-D leaves.")
    output.out("A prompt that begins with a slash is typed with two.")


def _fork(talk: Talk, title: str) -> None:
    talk.session = sessions.fork(talk.stored(), title=title or None)
    output.notice(f"This is now {_name(talk.session)}; the other stays as it is.")


def _edit(talk: Talk, rest: str) -> None:
    if talk.session is None and talk.create is not None:
        talk.send(rest or edited_text())
        return
    session = talk.stored()
    prompt = chat.last_prompt(session)
    if prompt is None:
        raise InvalidInput("there is no prompt to change")
    sessions.edit(prompt, rest or edited_text(prompt.content), session=session)
    talk.turn(functools.partial(chat.retry, session, **_options(talk)))


def _retry(talk: Talk, model: str) -> None:
    options = _options(talk) | ({"model": model} if model else {})
    talk.turn(functools.partial(chat.retry, talk.stored(), **options))


def _options(talk: Talk) -> dict[str, Any]:
    """Return what a turn is sent with when its prompt is there already."""
    return talk.asked.options | talk.changed


def _undo(talk: Talk, rest: str) -> None:
    prompt = chat.undo(talk.stored())
    output.notice(f'Took back "{one_line(prompt.content, 60)}" and what followed; it stays stored.')


def _model(talk: Talk, reference: str) -> None:
    options = chat.Options(**_options(talk) | ({"model": reference} if reference else {}))
    name = chat.prepare(options, talk.session, keep=False)[0].model.reference
    if reference:
        talk.changed["model"] = name
    output.notice(name)


def _system(talk: Talk, text: str) -> None:
    if text:
        talk.changed["system"] = text_value(text)
    session = talk.session
    shown = talk.changed.get("system") or talk.asked.options.get("system") or (session and session.system_prompt)
    output.notice(shown or "There is no system prompt.")


def _tag(talk: Talk, words: str) -> None:
    given = words.split()
    removed = [word[1:] for word in given if word.startswith("-")]
    tags = sessions.tag(talk.stored(), [word for word in given if not word.startswith("-")], removed)
    output.notice(" ".join(f"#{tag}" for tag in tags) or "There are no tags.")


def _save(talk: Talk, name: str) -> None:
    made = snapshots.create(talk.stored(), name=name or None)
    called = f' as "{made.name}"' if made.name else ""
    output.notice(f"Saved{called}; to come back: llmsess snapshot restore {made.uuid[: conversation.SHORT_ID]}")


def _cost(talk: Talk, rest: str) -> None:
    row = sessions.summaries([talk.stored().id])[0]
    spent = output.money(row["cost_nano_usd"], row["unpriced_messages"])
    given, taken = row["input_tokens"], row["output_tokens"]
    tokens = f"{output.number(given)} tokens in, {output.number(taken)} out" if given or taken else ""
    replies = output.counted(row["unpriced_messages"], "reply", "replies")
    unpriced = f"{replies} without a price" if row["unpriced_messages"] else ""
    output.notice(" · ".join(filter(None, (spent, tokens, unpriced))))


def _context(talk: Talk, rest: str) -> None:
    found = chat.context(talk.stored(), **_options(talk))
    about = "" if found.exact else "about "
    window = f" of {output.number(found.window)}" if found.window else ""
    before = f" · the last request had {output.number(found.last_input_tokens)}" if found.last_input_tokens else ""
    messages = output.counted(found.messages, "message")
    output.notice(f"{found.model} · {messages} · {about}{output.number(found.tokens)}{window} tokens{before}")


def _attach(talk: Talk, path: str) -> None:
    if path:
        talk.pending.append(load(path[1:-1] if path[0] == path[-1] and path[0] in "'\"" else path))
    if not talk.pending:
        output.notice("Nothing is attached.")
    for file in talk.pending:
        output.notice(f"With the next prompt: {file.name or 'what was piped in'} ({file.media_type})")


def _search(talk: Talk, query: str) -> None:
    from llmsess.cli.search import show_hits

    if not query:
        raise InvalidInput("what is to be searched for?", hint="/search WORDS")
    show_hits([hit._asdict() for hit in search.find(query, search.SearchFilter(limit=HITS))])


def _exit(talk: Talk, rest: str) -> None:
    raise Leave


def _name(session: Session) -> str:
    title = f" ({session.title})" if session.title else ""
    return f"session {session.uuid[: conversation.SHORT_ID]}{title}"


Command = Callable[[Talk, str], None]
COMMANDS: dict[str, tuple[Command, str, str]] = {  # name: (function, its argument, help)
    "help": (_help, "", "Show this."),
    "edit": (_edit, "[TEXT]", "Change the last prompt, in $EDITOR, and send it on a new branch."),
    "retry": (_retry, "[MODEL]", "Send the last prompt again."),
    "undo": (_undo, "", "Take the last prompt and its reply back."),
    "fork": (_fork, "[TITLE]", "Go on in a branch of this conversation."),
    "model": (_model, "[MODEL]", "Show the model, or go on with another."),
    "system": (_system, "[TEXT]", "Show the system prompt, or go on with another; @FILE reads it."),
    "attach": (_attach, "[FILE]", "Attach a file or a URL to the next prompt."),
    "context": (_context, "", "Show what is sent with the next prompt."),
    "cost": (_cost, "", "Show what this conversation has cost."),
    "tag": (_tag, "[TAG...]", "Tag this conversation; -TAG takes one away."),
    "save": (_save, "[NAME]", "Make a snapshot of this conversation, to come back to."),
    "search": (_search, "WORDS", "Search all conversations."),
    "exit": (_exit, "", "Leave, as Ctrl-D does."),
    "quit": (_exit, "", "Leave."),
}
_USAGE = {f"/{name} {argument}".strip(): text for name, (_, argument, text) in COMMANDS.items() if name != "quit"}
_USAGE["/multi"] = f"Type a prompt of several lines, up to {END}."


def _command(name: str) -> Command:
    """Return what a command does; raises InvalidInput for one there is not."""
    if name in COMMANDS:
        return COMMANDS[name][0]
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, 1)
    guess = f'; did you mean "/{near[0]}"?' if near else ""
    raise InvalidInput(f'no command "/{one_line(name, 40)}"{guess}', hint="/help; a prompt with a slash: //...")
