"""What the options of `compare run` mean: a definition, or what is changed of one in a file."""

from __future__ import annotations

import hashlib
from typing import Any

import click

from llmsess import batches
from llmsess.cli import batchplans
from llmsess.cli.completion_types import MODEL, PROJECT
from llmsess.cli.options import json_or_text, other_filters, session_filter, text_value
from llmsess.comparisons import running
from llmsess.errors import InvalidInput
from llmsess.models import dump_json
from llmsess.texts import one_line

NAME_CHARACTERS, HASH_CHARACTERS = 40, 6
_DEFINITION = (
    click.option("--model", "-m", "models", multiple=True, shell_complete=MODEL, help="A model to compare; several."),
    click.option("--system", "-s", "systems", multiple=True, help="A system prompt; several are crossed."),
    click.option("--prompt", "-p", "prompts", multiple=True, help="A prompt, beside PROMPT; several are crossed."),
    click.option("-o", "--option", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter."),
    click.option("--cases", metavar="FILE", help="CSV, JSON lines, text: what each prompt is filled with."),
    click.option("--scorer", "scorers", multiple=True, metavar="TYPE[: VALUE]",
                 help="As 'icontains: {{ expected }}', 'is-json', 'llm-rubric: is polite'."),
    click.option("--repeats", type=click.IntRange(1), help="How often each case is asked (1)."),
    click.option("--baseline", metavar="VARIANT", help="What the others are compared with (the first)."),
    click.option("--judge", shell_complete=MODEL, help="The model that judges, for scorers that ask one."),
    click.option("--name", help="What the comparison is called."),
    click.option("--project", shell_complete=PROJECT, help="The project of its sessions."),
    click.option("--stored", is_flag=True, help="Cases are stored messages: those of the filters below."),
    click.option("--from-project", shell_complete=PROJECT, help="With --stored: of sessions in this project."),
    click.option("--from-model", shell_complete=MODEL, help="With --stored: of sessions with this model."),
    click.option("--role", help="With --stored: of this role (user)."),
)  # fmt: skip


def plan_options(command: Any) -> Any:
    """Add the options of a definition, and the limits of a run."""
    for option in reversed((*_DEFINITION, *batchplans.LIMITS)):
        command = option(command)
    return other_filters(command)


def source(argument: str | None, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return what is run, a definition, a file or a stored comparison's name, and what the options change of it."""
    changed = _changed(given)
    if argument is not None and running.is_file(argument):
        if given["prompts"] or given["systems"] or given["parameters"]:
            raise InvalidInput("prompts, system prompts and parameters are in the file")
        return argument, changed
    asked = [*([argument] if argument is not None else []), *given["prompts"]]
    if not given["models"]:
        if argument is None:
            raise InvalidInput("nothing is to compare", hint="llmsess compare run SPEC, or -m MODEL -m MODEL PROMPT")
        if given["prompts"] or given["cases"] or given["stored"]:
            raise InvalidInput("no model is named", hint="-m MODEL -m MODEL")
        return argument, changed
    return _definition([str(text_value(one)) for one in asked], given, changed), {}


def _changed(given: dict[str, Any]) -> dict[str, Any]:
    """Return what the options say of a definition, without its prompts."""
    found: dict[str, Any] = {name: given[name] for name in ("name", "baseline", "repeats", "judge") if given[name]}
    if given["models"]:
        found["models"] = list(given["models"])
    if given["scorers"]:
        found["scorers"] = [str(text_value(one)) for one in given["scorers"]]
    cases = _cases(given)
    return found if cases is None else found | {"cases": cases}


def _cases(given: dict[str, Any]) -> Any:
    if not given["stored"]:
        batchplans.check_idle(given)
        return None if given["cases"] is None else _absolute(given["cases"])
    if given["cases"] is not None:
        raise InvalidInput("cases are a file or --stored, not both")
    chosen = session_filter(given | {"project": given["from_project"], "model": given["from_model"]})
    rows = [row.value for row in batches.stored(chosen, given["role"] or "user") if row.value is not None]
    return [{"prompt": row["prompt"]} for row in rows]


def _absolute(name: str) -> str:
    from llmsess.settings import expanded

    return name if name == "-" else str(expanded(name).absolute())


def _definition(prompts: list[str], given: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that options alone make; without a name it is called by what it says."""
    value = dict(changed)
    if prompts:
        value["prompts"] = prompts
    if given["systems"]:
        value["systems"] = [str(text_value(one)) for one in given["systems"]]
    if given["parameters"]:
        value["parameters"] = [{name: json_or_text(text) for name, text in given["parameters"]}]
    if "name" not in value:
        asked = {key: item for key, item in value.items() if key not in ("scorers", "judge", "baseline", "repeats")}
        mark = hashlib.sha256(dump_json(asked).encode()).hexdigest()[:HASH_CHARACTERS]
        said = prompts[0] if prompts else str(given["cases"] or "stored messages")
        value["name"] = f"{one_line(said.lstrip('@'), NAME_CHARACTERS)} {mark}"
    return value


def limits(given: dict[str, Any]) -> dict[str, Any]:
    """Return the limits of a run that the options name."""
    return {name: given[name] for name in batches.LIMITS if given.get(name) is not None}
