"""What the options of `batch create` and `batch run` mean: a job's input, its definition, its limits."""

from __future__ import annotations

from typing import Any

import click

from llmsess import batches
from llmsess.cli import output
from llmsess.cli.completion_types import MODEL, PROJECT, TEMPLATE
from llmsess.cli.options import json_or_text, other_filters, session_filter, text_value
from llmsess.errors import InvalidInput, NotFound
from llmsess.models import BatchJob

_DEFINITION = (
    click.option("--model", "-m", shell_complete=MODEL, help="The model of every item."),
    click.option("--template", "-t", shell_complete=TEMPLATE, help="Over a row: '.. {{ column }} ..', a name, a file."),
    click.option("--system", "-s", help="The system prompt; @FILE reads it."),
    click.option("-o", "--option", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter."),
    click.option("-a", "--attach", "attachments", multiple=True, metavar="FILE", help="With each prompt."),
    click.option("--attach-column", metavar="COLUMN", help="The column of files or URLs, with its row."),
    click.option("--schema", help="A JSON Schema that each answer must fit: a file, JSON, or: name, age int"),
    click.option("--project", shell_complete=PROJECT, help="The project of its sessions."),
    click.option("--key", metavar="COLUMN", help="The column that identifies a row (else custom_id, or its content)."),
    click.option("--input-format", type=click.Choice(batches.FORMATS), help="Of an input whose name does not tell."),
    click.option("--stored", is_flag=True, help="The input is stored messages, of the sessions the filters choose."),
    click.option("--from-project", shell_complete=PROJECT, help="With --stored: of sessions in this project."),
    click.option("--from-model", shell_complete=MODEL, help="With --stored: of sessions with this model."),
    click.option("--role", help="With --stored: of this role (user)."),
)  # fmt: skip
LIMITS = (
    click.option("--concurrency", "-j", type=click.IntRange(1, batches.MAX_CONCURRENCY),
                 help=f"Requests at a time ({batches.CONCURRENCY})."),
    click.option("--rpm", type=click.IntRange(0), help="Requests a minute at most; 0: no limit."),
    click.option("--tpm", type=click.IntRange(0), help="Tokens a minute at most; 0: no limit."),
    click.option("--budget-usd", metavar="USD", help="Pause before this is spent; 0: no limit."),
    click.option("--budget-tokens", type=click.IntRange(0), help="Pause before so many tokens are used."),
    click.option("--budget-requests", type=click.IntRange(0), help="Pause after so many requests."),
    click.option("--on-unknown", type=click.Choice(batches.ON_UNKNOWN),
                 help="Requests whose answer a crash lost: hold them (batches), or send them again (comparisons)."),
    click.option("--retries", type=click.IntRange(0), help=f"Of a refused request ({batches.RETRIES})."),
    click.option("--cache/--no-cache", default=None, help="An equal request that was answered is not sent again."),
    click.option("--allow-unpriced/--no-allow-unpriced", default=None,
                 help="Under --budget-usd, models without a price too."),
)  # fmt: skip


STORED = ("role", "from_project", "from_model", "type_", "tag", "status", "since", "until", "meta")
OPTION_OF = {"from_project": "--from-project", "from_model": "--from-model", "type_": "--type"}


def plan_options(command: Any) -> Any:
    """Add the options of a job's input, definition and limits."""
    for option in reversed((*_DEFINITION, *LIMITS)):
        command = option(command)
    return other_filters(command)


def _limits(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in batches.LIMITS if given.get(name) is not None}


def _definition(given: dict[str, Any]) -> dict[str, Any]:
    defined = {name: given[name] for name in ("model", "template") if given[name] is not None}
    if given["system"] is not None:
        defined["system"] = text_value(given["system"])
    if given["schema"] is not None:
        defined["schema"] = text_value(given["schema"])
    if given["attachments"]:
        defined["attachments"] = given["attachments"]
    if given["parameters"]:
        defined["parameters"] = {name: json_or_text(value) for name, value in given["parameters"]}
    return defined


def check_idle(given: dict[str, Any]) -> None:
    """Raise InvalidInput where options are given that say nothing without --stored."""
    idle = [name for name in STORED if given[name]]
    if idle:
        raise InvalidInput(f"{', '.join(OPTION_OF.get(name, '--' + name) for name in idle)} goes with --stored")


def _inputs(source: str | None, given: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Return a job's input and how it is read, None where none is given."""
    how = {"key": given["key"], "attach": given["attach_column"], "format": given["input_format"]}
    if not given["stored"]:
        check_idle(given)
    if given["stored"]:
        if source is not None:
            raise InvalidInput("the input is a file or --stored, not both")
        chosen = session_filter(given | {"project": given["from_project"], "model": given["from_model"]})
        return batches.stored(chosen, given["role"] or "user"), how | {"key": given["key"] or "message"}
    return None if source is None else (source, how)


def created(name: str, source: str | None, given: dict[str, Any]) -> BatchJob:
    """Return a new job, as the options say."""
    inputs = _inputs(source, given)
    if inputs is None:
        raise InvalidInput("a batch needs an input", hint="a file, a folder, - or --stored")
    return batches.create(
        name, inputs[0], **inputs[1], project=given["project"], **_definition(given), **_limits(given)
    )


def prepared(name: str, source: str | None, given: dict[str, Any]) -> BatchJob:
    """Return the job to run: made, added to, its limits changed, as the options say."""
    try:
        job = batches.get(name)
    except NotFound:
        if source is None and not given["stored"]:
            raise
        return created(name, source, given)
    inputs = _inputs(source, given)
    if given["project"] is not None:
        raise InvalidInput("the project of a batch is given when it is made")
    if inputs is not None:
        added = batches.add(job, inputs[0], **inputs[1], **_definition(given))
        output.notice(f"{output.counted(added.new, 'new item')}, {added.known:,} known.")
    else:
        batches.check_same(job, **_definition(given))
    return batches.edit(job, **_limits(given))
