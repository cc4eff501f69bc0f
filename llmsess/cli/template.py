"""`llmsess template`: saved prompts."""

from __future__ import annotations

from typing import Any

import click

from llmsess import schemas, templates
from llmsess.cli import SuggestingGroup, output
from llmsess.cli.completion_types import MODEL, TEMPLATE
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    edited_text,
    format_options,
    json_or_text,
    list_options,
    one_page,
    standard_input,
    text_value,
    yes_option,
)
from llmsess.errors import InvalidInput
from llmsess.models import Template
from llmsess.texts import one_line

NEW = """\
# Variables stand in braces; `input` is what is typed or piped in.
prompt: |
  Summarise in {{ sentences }} sentences: {{ input }}
system: You are terse.
defaults:
  sentences: "3"
"""


@click.group(cls=SuggestingGroup)
def template() -> None:
    """Saved prompts with {{ variables }}, for llmsess chat -t NAME. llm's YAML templates are read as they are."""


def _json(row: Template) -> output.Row:
    read = templates.parse(row.definition)
    return {
        "id": row.uuid,
        "name": row.name,
        "prompt": read.prompt,
        "system": read.system,
        "model": read.model,
        "variables": read.variables(),
        "defaults": dict(read.defaults),
        "parameters": dict(read.options),
        "schema": read.schema,
        "attachments": [path for path, _ in read.attachments],
        "extract": read.extract,
        "ignored": list(read.ignored),
        "definition": row.definition,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


@template.command()
@click.argument("name")
@click.argument("file", required=False)
@click.option("--prompt", help="The prompt; @FILE reads a file.")
@click.option("--system", "-s", help="The system prompt; @FILE reads a file.")
@click.option("--model", "-m", shell_complete=MODEL, help="The model.")
@click.option("-o", "--option", "options", nargs=2, multiple=True, metavar="NAME VALUE", help="A request parameter.")
@click.option("-p", "--param", "defaults", nargs=2, multiple=True, metavar="NAME VALUE", help="A variable's default.")
@click.option("--schema", help="A JSON Schema that replies must fit: a file, JSON, or: name, age int")
@click.option("--extract", "-x", is_flag=True, help="Show only the last code block of replies.")
@click.option("--edit", "in_editor", is_flag=True, help="Write it in $EDITOR.")
@format_options
@database
def add(
    name: str, file: str | None, in_editor: bool, format_: str | None, as_json: bool, **given: Any
) -> None:  # fmt: skip
    """Save a template: from a YAML FILE (- for what is piped in), from options, or written in $EDITOR.

    \b
    Examples:
      llmsess template add review --prompt "Review this {{ language }}: {{ input }}" -p language Python
      llmsess template add daily daily.yaml
      llmsess chat -t review < main.py
    """
    said = _definition(given)
    if said and file is not None:
        raise InvalidInput("a file says all of a template", hint="leave the options out")
    text = said if file is None else standard_input() if file == "-" else templates.read(file)
    if in_editor or not text:
        text = edited_text(text or NEW)
    _show(templates.add(name, text), chosen_format(format_, as_json))


def _definition(given: dict[str, Any]) -> str:
    """Return the definition that the options mean, "" where none is given."""
    schema = given["schema"]
    fields = {
        "prompt": text_value(given["prompt"]),
        "system": text_value(given["system"]),
        "model": given["model"],
        "defaults": {name: text_value(value) for name, value in given["defaults"]},
        "options": {name: json_or_text(value) for name, value in given["options"]},
        "schema_object": schemas.load(text_value(schema) or "") if schema is not None else None,
        "extract_last": given["extract"] or None,
    }
    return templates.definition(**fields) if any(fields.values()) else ""


def _show(row: Template, format_: str | None) -> None:
    """Write a template: its record for programs, for people its definition as it was written."""
    if format_ in ("json", "jsonl", "csv", "markdown"):
        output.show_fields(_json(row), format_)
    else:
        output.show_text(row.definition)


@template.command("list")
@list_options
@format_options
@database
def list_(format_: str | None, as_json: bool, **paging: Any) -> None:
    """List the templates.

    \b
    Example:
      llmsess template list
    """
    rows = one_page(templates.find(), lambda row: row.name, **paging)
    output.show_rows([_json(row) for row in rows], chosen_format(format_, as_json), _LAYOUT, _line)


_LAYOUT = output.Layout(
    {"name": "name", "variables": "variables", "model": "model", "prompt": "prompt"},
    flexible="prompt", spare=("model", "variables"),
)  # fmt: skip


def _line(row: output.Row) -> output.Row:
    return row | {"prompt": one_line(row["prompt"] or row["system"] or "", 200)}


@template.command()
@click.argument("reference", metavar="TEMPLATE", shell_complete=TEMPLATE)
@format_options
@database
def show(reference: str, format_: str | None, as_json: bool) -> None:
    """Show a template.

    \b
    Example:
      llmsess template show review
    """
    _show(templates.get(reference), chosen_format(format_, as_json))


@template.command()
@click.argument("reference", metavar="TEMPLATE", shell_complete=TEMPLATE)
@click.argument("file", required=False)
@click.option("--name", help="Another name for it.")
@format_options
@database
def edit(reference: str, file: str | None, name: str | None, format_: str | None, as_json: bool) -> None:
    """Change a template in $EDITOR, or to what a FILE says (- for what is piped in).

    \b
    Examples:
      llmsess template edit review
      llmsess template edit review --name code-review
    """
    row = templates.get(reference)
    if file is not None:
        row = templates.edit(row, standard_input() if file == "-" else templates.read(file))
    elif name is None:
        row = templates.edit(row, edited_text(row.definition))
    if name is not None:
        row = templates.rename(row, name)
    _show(row, chosen_format(format_, as_json))


@template.command()
@click.argument("reference", metavar="TEMPLATE", shell_complete=TEMPLATE)
@yes_option
@database
def remove(reference: str, yes: bool, dry_run: bool) -> None:
    """Remove a template; what was sent with it stays.

    \b
    Example:
      llmsess template remove review --yes
    """
    row = templates.get(reference)
    if confirmed(f"Remove the template {row.name}", yes=yes, dry_run=dry_run):
        templates.remove(row)
        output.notice(f"Removed {row.name}.")
