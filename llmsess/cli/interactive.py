"""The interactive chat: prompts typed at a terminal, replies as they come, and commands that begin with a slash.

The session is made with the first prompt. Ctrl-C stops a reply, of which what came is kept, and Ctrl-D leaves.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from llmsess import chat, search, sessions
from llmsess.attachments import Attachment, load
from llmsess.cli import conversation, output, replying
from llmsess.cli.options import edited_text
from llmsess.cli.sending import Asked
from llmsess.errors import InvalidInput, LlmsessError
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

    def __init__(self, asked: Asked, session: Session | None, create: Callable[[], Session] | None) -> None:
        self.asked, self.session, self.create = asked, session, create
        self.changed: dict[str, Any] = {}  # options set by commands
        self.pending: list[Attachment] = list(asked.attachments)
        self.earlier: list[Turn] = []  # what was said, where nothing is kept

    def run(self) -> None:
        """Talk until the person leaves."""
        way, _ = chat.prepare(chat.Options(**self.asked.options), self.session, keep=False)
        self.show_beginning(way.model.reference)
        typed = _reader(kept=self.create is not None)
        while True:
            try:
                self.take(typed("> "), typed)
            except (EOFError, Leave):
                break
            except KeyboardInterrupt:  # at the prompt: it is empty again
                continue
            except LlmsessError as error:
                output.show_error(error, as_json=False)
        if self.session is not None:
            output.notice(f"To go on: llmsess chat --session {self.session.uuid[: conversation.SHORT_ID]}", dim=True)

    def show_beginning(self, model: str) -> None:
        """Show what was said in a session that goes on, and how to go on or leave."""
        if self.session is not None:
            messages = sessions.path(self.session)
            models = conversation.model_names(messages)
            earlier = len(messages) - RESUMED
            if earlier > 0:
                command = f"llmsess show {self.session.uuid[: conversation.SHORT_ID]}"
                output.notice(f"({output.counted(earlier, 'earlier message')}: {command})", dim=True)
            for message in messages[-RESUMED:]:
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
            _command(command, text)(self, rest.strip())
            return
        if text.strip() or self.pending:
            self.send(text)

    def send(self, typed: str) -> None:
        """Send a prompt with what was attached, and show its reply."""
        prompt, options = self.asked.fill(typed)
        options, files = options | self.changed, self.pending
        if self.create is None:
            reply = self.turn(functools.partial(chat.once, prompt, attachments=files, earlier=self.earlier, **options))
            if reply is not None:
                self.earlier += [chat.turn_of(prompt, files), Turn("assistant", reply.content)]
        else:
            session = self.session = self.session or self.create()
            self.turn(functools.partial(chat.ask, session, prompt, attachments=files, **options))
        self.pending = []

    def turn(self, send: Callable[..., Message]) -> Message | None:
        """Take a turn and return its reply, None where Ctrl-C has stopped it."""
        try:
            return replying.show(send, self.asked.display)
        except KeyboardInterrupt:
            output.notice("Stopped; what came is kept." if self.session else "Stopped.", dim=True)
            return None

    def stored(self) -> Session:
        """Return the session; raises InvalidInput where there is none yet, or none is kept."""
        if self.session is None:
            raise InvalidInput("nothing was said yet" if self.create else "nothing is kept of this conversation")
        return sessions.by_id(self.session.id)


def _reader(*, kept: bool) -> Callable[[str], str]:
    """Return what reads a prompt: with editing, history and the completion of commands."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import create_output

    keys = KeyBindings()
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))
    words = WordCompleter([f"/{name}" for name in (*COMMANDS, "multi")], sentence=True)
    reader: PromptSession[str] = PromptSession(
        history=FileHistory(_history_file()) if kept else InMemoryHistory(),
        key_bindings=keys, completer=words, complete_while_typing=False, enable_open_in_editor=True,
        tempfile_suffix=".md", output=create_output(sys.stdout if output.is_terminal() else sys.stderr),
    )  # fmt: skip
    return reader.prompt


def _history_file() -> str:
    """Return the file of what was typed before, which only its owner reads."""
    home = Settings.load().home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = home / "history"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
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
    width = max(map(len, (*_USAGE, "/multi"))) + 2
    for usage, text in _USAGE.items():
        output.out(f"{usage:{width}}{text}")
    output.out("\nAlt-Enter begins a new line, Ctrl-X Ctrl-E opens $EDITOR, Ctrl-C stops a reply, Ctrl-D leaves.")
    output.out("A prompt that begins with a slash is typed with two.")


def _fork(talk: Talk, title: str) -> None:
    talk.session = sessions.fork(talk.stored(), title=title or None)
    output.notice(f"This is now {_name(talk.session)}; the other stays as it is.")


def _edit(talk: Talk, rest: str) -> None:
    if talk.session is None:
        talk.send(edited_text(rest))
        return
    session = talk.stored()
    prompts = [message for message in sessions.path(session) if message.role == "user"]
    if not prompts:
        raise InvalidInput("there is no prompt to change")
    changed = rest or edited_text(prompts[-1].content)
    sessions.edit(prompts[-1], changed, session=session)
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
        talk.changed["system"] = text
    session = talk.session
    shown = talk.changed.get("system") or talk.asked.options.get("system") or (session and session.system_prompt)
    output.notice(shown or "There is no system prompt.")


def _tag(talk: Talk, words: str) -> None:
    tags = sessions.tag(talk.stored(), words.split())
    output.notice(" ".join(f"#{tag}" for tag in tags) or "There are no tags.")


def _cost(talk: Talk, rest: str) -> None:
    row = sessions.summaries([talk.stored().id])[0]
    spent = output.money(row["cost_nano_usd"], row["unpriced_messages"])
    tokens = f"{output.number(row['input_tokens'])} tokens in, {output.number(row['output_tokens'])} out"
    replies = output.counted(row["unpriced_messages"], "reply", "replies")
    output.notice(f"{spent} · {tokens}" + (f" · {replies} without a price" if row["unpriced_messages"] else ""))


def _context(talk: Talk, rest: str) -> None:
    found = chat.context(talk.stored(), **_options(talk))
    about = "" if found.exact else "about "
    window = f" of {output.number(found.window)}" if found.window else ""
    before = f" · the last request had {output.number(found.last_input_tokens)}" if found.last_input_tokens else ""
    messages = output.counted(found.messages, "message")
    output.notice(f"{found.model} · {messages} · {about}{output.number(found.tokens)}{window} tokens{before}")


def _attach(talk: Talk, path: str) -> None:
    if path:
        talk.pending.append(load(path))
    for file in talk.pending:
        output.notice(f"With the next prompt: {file.name or 'what was piped in'} ({file.media_type})")


def _search(talk: Talk, query: str) -> None:
    from llmsess.cli.search import show_hits

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
    "system": (_system, "[TEXT]", "Show the system prompt, or go on with another."),
    "attach": (_attach, "[FILE]", "Attach a file or a URL to the next prompt."),
    "context": (_context, "", "Show what is sent with the next prompt."),
    "cost": (_cost, "", "Show what this conversation has cost."),
    "tag": (_tag, "[TAG...]", "Tag this conversation."),
    "search": (_search, "WORDS", "Search all conversations."),
    "exit": (_exit, "", "Leave, as Ctrl-D does."),
    "quit": (_exit, "", "Leave."),
}
_USAGE = {f"/{name} {argument}".strip(): text for name, (_, argument, text) in COMMANDS.items() if name != "quit"}
_USAGE["/multi"] = f"Type a prompt of several lines, up to {END}."


def _command(name: str, line: str) -> Command:
    """Return what a command does; raises InvalidInput for one there is not."""
    if name in COMMANDS:
        return COMMANDS[name][0]
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, 1)
    guess = f'; did you mean "/{near[0]}"?' if near else ""
    raise InvalidInput(f'no command "/{one_line(name, 40)}"{guess}', hint="/help; a prompt with a slash: //...")
