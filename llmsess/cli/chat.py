"""`llmsess chat`: one prompt and its reply."""

from __future__ import annotations

import functools
import sys
from typing import Any

import click

from llmsess import chat as chats
from llmsess import sessions
from llmsess.cli import conversation, output
from llmsess.cli.completion_types import MODEL, PROJECT, SESSION
from llmsess.cli.options import database, json_or_text, standard_input, text_value
from llmsess.errors import InvalidInput, LlmsessError, LostReply
from llmsess.models import Session
from llmsess.providers import Delta
from llmsess.texts import without_controls

SETTINGS = {"temperature": float, "max_tokens": int}  # options that are columns; others go to the server as they are


class Printer:
    """Writes the pieces of a reply as they come: the text to standard output, the reasoning, dimmed, beside it."""

    def __init__(self) -> None:
        self.wrote = self.thinking = False
        self.last = ""

    def __call__(self, delta: Delta) -> None:
        if delta.reasoning and sys.stderr.isatty():
            output.thought(delta.reasoning)
            self.thinking = True
        if delta.text:
            if self.thinking:
                output.thought("\n", newline=True)
                self.thinking = False
            output.out(without_controls(delta.text) if output.is_terminal() else delta.text, newline=False)
            self.wrote, self.last = True, delta.text

    def finish(self, content: str) -> None:
        """End the line; write the whole reply where it did not come in pieces."""
        if not self.wrote and content:
            self(Delta(text=content))
        if not self.last.endswith("\n"):
            output.out()


@click.command()
@click.argument("prompt", required=False)
@click.option("--model", "-m", shell_complete=MODEL, help="The model, as provider/name; the session goes on with it.")
@click.option("--system", "-s", help="The system prompt, with -c of this turn; @FILE reads a file.")
@click.option("--continue", "-c", "continued", is_flag=True, help="Go on with the latest session.")
@click.option("--session", "reference", shell_complete=SESSION, help="Go on with this session.")
@click.option(
    "-o", "--option", "options", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter, with -c of this turn."
)
@click.option("--title", help="The new session's title.")
@click.option("--project", shell_complete=PROJECT, help="The new session's project.")
@click.option("--tag", "tags", multiple=True, help="A tag for the new session.")
@click.option("--no-stream", is_flag=True, help="Ask for the reply in one piece.")
@click.option("--no-store", is_flag=True, help="Keep nothing of it.")
@click.option("--json", "as_json", is_flag=True, help="The reply with its figures, as JSON.")
@database
def chat(
    prompt: str | None, continued: bool, reference: str | None, options: Any, no_stream: bool, no_store: bool,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Send PROMPT, joined with what is piped in, and show the reply as it comes.

    \b
    Examples:
      llmsess chat "why is the sky blue?" -m openai/gpt-5
      git diff | llmsess chat "review this" -s "You are terse."
      llmsess chat -c "and at night?"
    """
    text = "\n\n".join(part for part in (standard_input().rstrip("\n"), prompt) if part)
    if not text.strip():
        raise InvalidInput("there is no prompt", hint='llmsess chat "..." or pipe it in')
    sending = _sending(given, options, stream=not no_stream)
    session = _session(continued, reference, no_store, given, sending)
    printer = None if as_json else Printer()
    try:
        ask = chats.once if session is None else functools.partial(chats.ask, session)
        reply = ask(text, on_delta=printer, **sending)
    except (LlmsessError, KeyboardInterrupt) as error:
        if printer is not None and printer.wrote and not printer.last.endswith("\n"):
            output.out()
        if isinstance(error, LostReply):
            output.out(error.content)
        if isinstance(error, KeyboardInterrupt) and session is not None:
            output.notice("What came is kept; to go on: llmsess chat -c PROMPT")
        raise
    if printer is None:
        output.show_json(conversation.reply_json(reply))
    else:
        printer.finish(reply.content)


def _sending(given: dict[str, Any], options: Any, *, stream: bool) -> dict[str, Any]:
    """Return the fields of chat.Options that the command's options mean."""
    sending: dict[str, Any] = {"model": given["model"], "system": text_value(given["system"]), "stream": stream}
    parameters = {}
    for name, value in options:
        if name not in SETTINGS:
            parameters[name] = json_or_text(value)
            continue
        try:
            sending[name] = SETTINGS[name](value)
        except ValueError as error:
            raise InvalidInput(f'"{value}" is no {name}', hint="a number") from error
    return sending | {"parameters": parameters}


def _session(
    continued: bool, reference: str | None, no_store: bool, given: dict[str, Any], sending: dict[str, Any]
) -> Session | None:
    """Return the session to go on with, or a new one, None where nothing is to be kept."""
    if no_store:
        if continued or reference is not None:
            raise InvalidInput("--no-store keeps nothing, so it cannot continue a session")
        return None
    if continued and reference is not None:
        raise InvalidInput("--continue and --session name two sessions", hint="give one of them")
    if continued or reference is not None:
        for name, command in (("title", "rename"), ("project", "move"), ("tags", "tag")):
            if given[name]:
                raise InvalidInput(f"--{name.rstrip('s')} is for a new session", hint=f"llmsess session {command}")
        return sessions.get("@last" if reference is None else reference)
    model = chats.prepare(chats.Options(**sending))[0].model
    settings = {name: sending[name] for name in SETTINGS if name in sending}
    return sessions.create(
        given["title"], model=model, project=given["project"], tags=given["tags"], system_prompt=sending["system"],
        parameters=sending["parameters"], **settings,
    )  # fmt: skip
