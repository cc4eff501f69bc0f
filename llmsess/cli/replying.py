"""A reply on its way to a person or a program: its pieces as they come, the waits before it, and what is said after."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmsess import codeblocks, prices, schemas, sessions
from llmsess.cli import Terminated, conversation, markdown, output
from llmsess.errors import LostReply, MissingKey, ProviderError, UnusableReply
from llmsess.models import Message, Session
from llmsess.providers import Delta
from llmsess.retrying import Wait
from llmsess.texts import without_controls

CUT = ("length", "max_tokens")  # finish reasons of a reply that ended at a limit of tokens


@dataclass(frozen=True)
class Display:
    """How a reply is shown: as JSON, its text, or only a part of it.

    `extract` is which code block is wanted, first or last; with `schema` it is the JSON value.
    """

    as_json: bool = False
    extract: str | None = None
    schema: Any = None
    hide_reasoning: bool = False
    raw: bool = False

    @property
    def streams(self) -> bool:
        """Return whether the text is shown as it comes."""
        return not (self.as_json or self.extract or self.schema)


class Printer:
    """Writes the pieces of a reply as they come: the text to standard output, the reasoning, dimmed, beside it."""

    def __init__(self, display: Display) -> None:
        self.display = display
        self.rendered = markdown.Live() if display.streams and not display.raw and markdown.is_wanted() else None
        self.wrote = self.thinking = False
        self.last = ""

    def __call__(self, delta: Delta) -> None:
        if delta.reasoning and not (self.display.hide_reasoning or self.display.as_json):
            self.break_off()
            output.thought(delta.reasoning)
            self.thinking, self.last = True, "\n"
        if delta.text and self.display.streams:
            self.write(delta.text)

    def write(self, text: str) -> None:
        """Write a piece of the text."""
        if self.thinking:
            output.thought("", newline=True)
            self.thinking = False
        shown = without_controls(text) if output.is_terminal() else text
        if self.rendered is not None:
            self.rendered.write(shown)
        else:
            output.out(shown, newline=False)
        self.wrote, self.last = True, text

    def break_off(self) -> None:
        """End the line that the text has begun, and leave what is there as it is."""
        if self.rendered is not None:
            self.rendered.leave()
        if self.wrote and not self.last.endswith("\n"):
            output.out()
            self.last = "\n"

    def finish(self, content: str) -> None:
        """End the line; write the whole text where it did not come in pieces."""
        if not self.wrote and content:
            self.write(content)
        if self.thinking:
            output.thought("", newline=True)
        if self.rendered is not None:
            self.rendered.finish()
        elif not self.last.endswith("\n"):
            output.out()


def show(send: Callable[..., Message], display: Display) -> Message:
    """Take a turn, `send(on_delta=, on_wait=)`, show its reply and return it; raises what the turn does."""
    printer = Printer(display)
    try:
        reply = send(on_delta=printer, on_wait=waiting)
    except BaseException as error:
        printer.break_off()
        if isinstance(error, UnusableReply) and error.session is None:
            output.notice(error.content)
        if isinstance(error, LostReply):
            output.out(error.content)
        raise
    if display.streams:
        printer.finish(reply.content)
    else:
        _show_whole(reply, display)
    for text in _afterwords(reply):
        output.notice(text, dim=True)
    return reply


def say_how_to_go_on(error: BaseException, session: Session) -> None:
    """Say what to do after a turn that has not ended well, in so far as its error does not say so."""
    name = session.uuid[: conversation.SHORT_ID]
    if isinstance(error, (KeyboardInterrupt, Terminated)):
        text = f"What came is kept; to go on: llmsess chat --session {name} PROMPT"
    elif isinstance(error, ProviderError) and not isinstance(error, MissingKey):
        text = f"What was said is kept; to send it again: llmsess session retry {name}"
    else:
        return
    with contextlib.suppress(OSError):  # the terminal may be gone
        output.notice(text)


def _show_whole(reply: Message, display: Display) -> None:
    """Write a reply that is shown when it is whole; raises UnusableReply where it has no code block to extract."""
    parts: dict[str, Any] = {}
    if display.schema:
        parts["data"] = schemas.value(reply.content, display.schema)
    if display.extract:
        find = codeblocks.first if display.extract == "first" else codeblocks.last
        parts["code"] = find(reply.content)
        if parts["code"] is None:
            kept_in = sessions.by_id(reply.session_id).uuid if _is_stored(reply) else None
            raise UnusableReply("has no code block", reply.content, kept_in)
    if display.as_json:
        output.show_json(conversation.reply_json(reply) | parts)
    elif display.schema:
        output.show_json(parts["data"])
    else:
        output.show_text(parts["code"])


def waiting(wait: Wait) -> None:
    attempt = f"attempt {wait.attempt + 1} of {wait.attempts}"
    output.notice(f"{wait.error.message}; trying again in {wait.seconds:.1f} s ({attempt}, Ctrl-C stops)", fg="yellow")


def _afterwords(reply: Message) -> list[str]:
    """Return what a person should know of a reply."""
    said = []
    if not reply.content:
        calls = "; it asks for tools: llmsess show @last" if reply.tool_text else ""
        said.append(f"The reply is empty ({reply.finish_reason or 'no reason is given'}){calls}.")
    if reply.finish_reason in CUT:
        said.append("The reply was cut at the limit of tokens; -o max_tokens N sets it.")
    if reply.model and _is_stored(reply) and prices.first_unpriced(reply):
        name = reply.model.reference
        command = f"llmsess model edit {name} --input-price USD --output-price USD (per million tokens)"
        said.append(f"No price is known for {name}, so its cost is unknown; to set one: {command}")
    return said


def _is_stored(reply: Message) -> bool:
    return reply.__data__["id"] is not None


def is_conversation_possible() -> bool:
    """Return whether a person sits at a terminal, and can type."""
    ends = (sys.stdin, sys.stdout if sys.stdout and sys.stdout.isatty() else sys.stderr)
    return all(stream is not None and stream.isatty() for stream in ends)
