"""What the options of a turn mean: what is sent, how, and how its reply is shown."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
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
from llmsess.templates import Filled, Template

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


@dataclass(frozen=True)
class Asked:
    """What a command is to send: the prompt, what is attached, the fields of chat.Options, and how it is shown.

    A template that still waits for its input, which is typed in an interactive chat, is `waiting`.
    """

    prompt: str
    attachments: list[Attachment]
    options: dict[str, Any]
    display: Display
    template: str | None = None
    waiting: Callable[[str], Filled] | None = field(default=None, repr=False)

    def filled(self, typed: str) -> tuple[str, dict[str, Any]]:
        """Return the prompt and the options that are sent for what was typed."""
        if self.waiting is None:
            return typed, self.options
        found = self.waiting(typed)
        return found.prompt, _merged(found.options, self.options)

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
    files, piped = _attached(given), "" if "-" in given["attached"] else standard_input().rstrip("\n")
    typed = "\n\n".join(part for part in (piped, prompt) if part)
    if given["in_editor"]:
        typed = edited_text(typed)
    options, extract = request(given), given["extract"]
    if given["schema"] is not None:
        options["schema"] = schemas.load(text_value(given["schema"]) or "")
    template, variables = _template(given)
    if template is None:
        shown = display(given, as_json=as_json, extract=extract, schema=options.get("schema"))
        return Asked(typed, files, options, shown)
    files += [attachments.load(path, kind) for path, kind in template.attachments]
    fill = functools.partial(templates.fill, template, variables=variables)
    waits = not typed and (not template.prompt or ("input" in template.variables() and "input" not in variables))
    filled = fill("…" if waits else typed)
    merged = _merged(filled.options, options)
    shown = display(given, as_json=as_json, extract=extract or template.extract, schema=merged.get("schema"))
    if waits:
        return Asked("", files, merged, shown, given["template"], fill)
    return Asked(filled.prompt, files, merged, shown, given["template"])


def _merged(of_template: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return a template's options with those that were given in their place."""
    parameters = dict(of_template.get("parameters", {})) | given.get("parameters", {})
    return dict(of_template) | given | {"parameters": parameters}


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
