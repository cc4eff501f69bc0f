"""`llmsess chat`: one prompt and its reply, or, at a terminal, a conversation."""

from __future__ import annotations

import functools
from typing import Any

import click

from llmsess import chat as chats
from llmsess import sessions
from llmsess.autosaving import EVERY_S, KEEP
from llmsess.cli import replying, sending
from llmsess.cli.completion_types import PROJECT, SESSION
from llmsess.cli.options import database, request_options
from llmsess.cli.sending import Asked
from llmsess.errors import InvalidInput
from llmsess.models import Session


@click.command()
@click.argument("prompt", required=False)
@request_options
@click.option("--continue", "-c", "continued", is_flag=True, help="Go on with the latest session.")
@click.option("--session", "reference", shell_complete=SESSION, help="Go on with this session.")
@sending.prompt_options
@click.option("--title", help="The new session's title.")
@click.option("--project", shell_complete=PROJECT, help="The new session's project.")
@click.option("--tag", "tags", multiple=True, help="A tag for the new session.")
@click.option(
    "--autosave",
    "autosave_s",
    type=click.FloatRange(0),
    default=EVERY_S,
    show_default=True,
    metavar="SECONDS",
    help="At the terminal: make a snapshot every so often; 0 makes none.",
)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=KEEP,
    show_default=True,
    help="How many of these snapshots a session keeps.",
)
@click.option("--no-store", is_flag=True, help="Keep nothing of it.")
@click.option("--json", "as_json", is_flag=True, help="The reply with its figures, as JSON.")
@database
def chat(
    prompt: str | None, continued: bool, reference: str | None, title: str | None, project: str | None,
    tags: tuple[str, ...], autosave_s: float, keep: int, no_store: bool, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Send PROMPT, joined with what is piped in, and show the reply as it comes; without one, talk at the terminal.

    \b
    Examples:
      llmsess chat "why is the sky blue?" -m openai/gpt-5
      git diff | llmsess chat "review this" -s "You are terse."
      llmsess chat -c "and at night?"
      llmsess chat "what is this?" -a photo.jpg
      llmsess chat -t review -p language Python < main.py
    """
    place = {"title": title, "project": project, "tags": tags}
    found = _found(continued, reference, no_store, place)
    asked = sending.asked(prompt, given, as_json=as_json)
    if asked.is_empty and asked.display.streams and replying.is_conversation_possible():
        from llmsess.cli.interactive import Talk

        talk = Talk(asked, found, None if no_store else functools.partial(_made, asked, place))
        talk.run(autosave_s, keep)
        return
    if asked.is_empty and not asked.attachments:
        raise InvalidInput("there is no prompt", hint='llmsess chat "..." or pipe it in')
    said = {"prompt": asked.prompt, "attachments": asked.attachments, **asked.options}
    session = found if found is not None or no_store else _made(asked, place, said)
    send = functools.partial(chats.once if session is None else functools.partial(chats.ask, session), **said)
    try:
        replying.show(send, asked.display)
    except BaseException as error:
        if session is not None and not as_json:
            replying.say_how_to_go_on(error, session)
        raise


def _found(continued: bool, reference: str | None, no_store: bool, new: dict[str, Any]) -> Session | None:
    """Return the session to go on with, None for a new one; raises InvalidInput for options that do not go together."""
    if not continued and reference is None:
        return None
    if no_store:
        raise InvalidInput("--no-store keeps nothing, so it cannot continue a session")
    if continued and reference is not None:
        raise InvalidInput("--continue and --session name two sessions", hint="give one of them")
    for name, command in (("title", "rename"), ("project", "move"), ("tags", "tag")):
        if new[name]:
            raise InvalidInput(f"--{name.rstrip('s')} is for a new session", hint=f"llmsess session {command}")
    return sessions.get("@last" if reference is None else reference)


def _made(asked: Asked, place: dict[str, Any], said: dict[str, Any]) -> Session:
    """Return a new session with the settings of what is asked; none is made where what is said could not be sent."""
    chats.check(**said)
    options = asked.options
    return sessions.create(
        place["title"], model=chats.prepare(chats.Options(**options))[0].model, project=place["project"],
        tags=place["tags"], system_prompt=options.get("system"), parameters=options.get("parameters"),
        metadata={"template": asked.template} if asked.template else None,
    )  # fmt: skip
