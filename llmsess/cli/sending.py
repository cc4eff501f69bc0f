"""What the options of a turn mean: what is sent, how, and how its reply is shown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from llmsess import attachments, schemas, templates
from llmsess.attachments import Attachment
from llmsess.cli import output
from llmsess.cli.completion_types import TEMPLATE
from llmsess.cli.options import edited_text, json_or_text, standard_input, text_value
from llmsess.cli.replying import Display
from llmsess.errors import InvalidInput
from llmsess.templates import Template

F = TypeVar("F", bound=Callable[..., Any])
_PROMPT = (
    click.option("--template", "-t", shell_complete=TEMPLATE, help="A saved prompt, or a YAML file of one."),
    click.option(
        "-p", "--param", "variables", nargs=2, multiple=True, metavar="NAME VALUE",
        help="A variable of the template; @FILE reads a file.",
    ),
    click.option("-a", "--attach", "attached", multiple=True, metavar="FILE", help="A file, a URL, - for the input."),
    click.option(
        "--at", "typed", nargs=2, multiple=True, metavar="FILE TYPE", help="A file and its media type, as image/png."
    ),
    click.option("--schema", help="A JSON Schema that the reply must fit: a file, JSON, or: name, age int"),
    click.option("--extract", "-x", is_flag=True, help="Show only the last code block."),
    click.option("--edit", "in_editor", is_flag=True, help="Write the prompt in $EDITOR."),
)  # fmt: skip


def prompt_options(command: F) -> F:
    """Add the options that say what goes with a prompt."""
    for option in reversed(_PROMPT):
        command = option(command)
    return command


Fill = Callable[[str], tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Asked:
    """What a command is to send: the prompt, what is attached, the fields of chat.Options, and how it is shown.

    `fill` returns the prompt and the options for what is typed later, in an interactive chat.
    """

    prompt: str
    attachments: list[Attachment]
    options: dict[str, Any]
    display: Display
    fill: Fill = field(repr=False)
    template: str | None = None

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to send yet."""
        return not self.prompt.strip()


def request(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of chat.Options that `request_options()` mean, those that were given."""
    fields = {name: given[name] for name in ("model", "context", "retries")}
    parameters = {name: json_or_text(value) for name, value in given["parameters"]}
    fields |= {"system": text_value(given["system"]), "parameters": parameters}
    if given["no_stream"]:
        fields["stream"] = False
    return {name: value for name, value in fields.items() if value not in (None, {})}


def display(given: dict[str, Any], **more: Any) -> Display:
    """Return how the options want a reply shown."""
    return Display(hide_reasoning=given["hide_reasoning"], raw=given["raw"], **more)


def asked(prompt: str | None, given: dict[str, Any], *, as_json: bool) -> Asked:
    """Return what the options of `request_options()` and `prompt_options()` mean; raises InvalidInput."""
    if given["schema"] is not None and given["extract"]:
        raise InvalidInput("--schema and --extract each say what to show", hint="give one of them")
    files, typed, options = _attached(given), _typed(prompt, given), request(given)
    if given["schema"] is not None:
        options["schema"] = schemas.load(text_value(given["schema"]) or "")
    template, variables = _template(given)
    extract = "last" if given["extract"] else template and template.extract
    if template is None:
        shown = display(given, as_json=as_json, extract=extract, schema=options.get("schema"))
        return Asked(typed, files, options, shown, lambda text: (text, options))
    files += [attachments.load(path, kind) for path, kind in template.attachments]
    fill = functools.partial(_filled, template, variables, options)
    waits = not typed and (not template.prompt or ("input" in template.variables() and "input" not in variables))
    said, merged = fill("…" if waits else typed)
    shown = display(given, as_json=as_json, extract=extract, schema=merged.get("schema"))
    return Asked("" if waits else said, files, merged, shown, fill, given["template"])


def _typed(prompt: str | None, given: dict[str, Any]) -> str:
    """Return the prompt: what is piped in, the argument, and what a person makes of them in $EDITOR."""
    piped = "" if "-" in given["attached"] else standard_input().rstrip("\n")
    text = "\n\n".join(part for part in (piped, prompt) if part)
    return edited_text(text) if given["in_editor"] else text


def _filled(
    template: Template, variables: dict[str, str], given: dict[str, Any], typed: str
) -> tuple[str, dict[str, Any]]:
    """Return the prompt and the options of a template, in which those that were given go first."""
    found = templates.fill(template, typed, variables)
    parameters = dict(found.options.get("parameters", {})) | given.get("parameters", {})
    return found.prompt, dict(found.options) | given | {"parameters": parameters}


def _template(given: dict[str, Any]) -> tuple[Template | None, dict[str, str]]:
    """Return the template and its variables; says which of its keys are not for llmsess."""
    variables = {name: text_value(value) or "" for name, value in given["variables"]}
    if given["template"] is None:
        if variables:
            raise InvalidInput("-p gives a variable to a template", hint="-t NAME; a request's parameter is -o")
        return None, {}
    template = templates.named(given["template"])
    if template.ignored:
        output.notice(f"Not used of the template: {', '.join(template.ignored)}.", fg="yellow")
    return template, variables


def _attached(given: dict[str, Any]) -> list[Attachment]:
    """Return the files that are attached."""
    files = [_piped() if path == "-" else attachments.load(path) for path in given["attached"]]
    return files + [attachments.load(path, kind) for path, kind in given["typed"]]


def _piped() -> Attachment:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise InvalidInput("nothing is piped in to attach", hint="llmsess chat -a - PROMPT < FILE")
    return attachments.attachment(sys.stdin.buffer.read(attachments.MAX_BYTES + 1))
