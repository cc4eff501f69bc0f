"""Saved prompts: texts with `{{ variables }}`, a system prompt, a model and parameters, kept by name as YAML, verbatim.

A definition is a mapping of these keys, all optional, or a text alone, which is its prompt. They are those of
simonw/llm's templates, which are read unchanged (https://llm.datasette.io/en/stable/templates.html):

    prompt, system           texts with variables; `input` is what is typed or piped in
    model, options           where it goes and with which parameters
    defaults                 values of variables that are not given
    schema_object            a JSON Schema that the answer must fit (also `schema`: a short form)
    attachments, fragments   paths and URLs that go with the prompt
    extract, extract_last    show only the first, or the last, code block

What is done with the texts is in `sandbox`. `tools`, `functions` and `system_fragments` of llm are not run: they are in
`Template.ignored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peewee import IntegrityError

from llmsess import definitions, door, request_parameters, sandbox, schemas
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput
from llmsess.models import Template as Row
from llmsess.models import now
from llmsess.references import resolve, same_row
from llmsess.rows import update_row
from llmsess.settings import expanded
from llmsess.texts import one_line

MAX_DEFINITION_BYTES = 1024 * 1024
_TEXTS, _LISTS = ("prompt", "system", "model", "name"), ("attachments", "fragments", "system_fragments", "tools")


@dataclass(frozen=True)
class Template:
    """A definition, read; `ignored` names the keys of other tools that say what llmsess does not do."""

    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    attachments: tuple[tuple[str, str | None], ...] = ()  # path or URL, and its media type where it is said
    extract: str | None = None  # which code block of the reply is shown, first or last
    ignored: tuple[str, ...] = ()

    def variables(self) -> list[str]:
        """Return the names of the variables, `input` among them if it is used, sorted."""
        return sorted(set().union(*(sandbox.names(text) for text in (self.prompt, self.system) if text)))


@dataclass(frozen=True)
class Filled:
    """A template with its variables' values: what is sent. `options` are fields of chat.Options."""

    prompt: str
    options: Mapping[str, Any]


# Definitions


def parse(definition: str) -> Template:
    """Return a definition, read; raises InvalidInput, with the line where there is one, for what is none."""
    value = definitions.load(definition, "the template", aliases=False, max_bytes=MAX_DEFINITION_BYTES)
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict) or not value:
        raise InvalidInput("a template is a text, or a mapping with a prompt or a system prompt")
    return _template(door.json_object(value, "a template"))


def _template(value: dict[str, Any]) -> Template:
    for name, check in _CHECKS.items():
        if value.get(name) is not None and not check(value[name]):
            raise InvalidInput(f'the "{name}" of the template is not what it can be')
    for name in value:
        if name not in _CHECKS:
            raise InvalidInput(f'a template has no "{one_line(name, 40)}"', hint=f"it has {', '.join(_CHECKS)}")
    schema = value.get("schema_object") or value.get("schema")
    types = {kind["value"]: kind["type"] for kind in value.get("attachment_types") or ()}
    paths = [*(value.get("attachments") or ()), *(value.get("fragments") or ())]
    paths += [path for path in types if path not in paths]
    template = Template(
        prompt=value.get("prompt"),
        system=value.get("system"),
        model=value.get("model"),
        defaults=value.get("defaults") or {},
        options=request_parameters.checked(value.get("options")) or {},
        schema=schemas.load(schema) if schema else None,
        attachments=tuple((path, types.get(path)) for path in paths),
        extract="last" if value.get("extract_last") else "first" if value.get("extract") else None,
        ignored=tuple(name for name in ("system_fragments", "tools", "functions") if value.get(name)),
    )
    template.variables()  # raises where a text is no template
    return template


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_types(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict) and {"type", "value"} <= item.keys() and _is_texts(list(item.values())) for item in value
    )


_CHECKS: dict[str, Any] = {
    **dict.fromkeys(("prompt", "system", "model", "name", "functions"), _is_text),
    **dict.fromkeys(("defaults", "options", "schema_object"), _is_mapping),
    **dict.fromkeys(("attachments", "fragments", "system_fragments", "tools"), _is_texts),
    **dict.fromkeys(("extract", "extract_last"), lambda value: isinstance(value, bool)),
    "schema": lambda value: isinstance(value, (str, dict)), "attachment_types": _is_types,
}  # fmt: skip


# Filling in


def fill(template: Template, given: str = "", variables: Mapping[str, Any] | None = None) -> Filled:
    """Return what a template asks for with values for its variables; `given` is the value of `input`.

    What is given and not asked for as `input` follows the prompt. Raises InvalidInput for a missing variable, and for
    one that the template does not have.
    """
    known, wanted = dict(template.defaults) | dict(variables or {}), template.variables()
    missing = [name for name in wanted if name not in known and name != "input"]
    if missing:
        raise InvalidInput(
            f"the template needs {', '.join(missing)}", hint=" ".join(f"-p {name} VALUE" for name in missing)
        )
    for name in variables or {}:
        if name not in wanted:
            raise InvalidInput(f'the template has no variable "{name}"', hint=f"it has {', '.join(wanted) or 'none'}")
    if "input" in wanted and not given and "input" not in known:
        raise InvalidInput("the template needs an input", hint="type a prompt, or pipe it in")
    known = {"input": given} | known if not given else known | {"input": given}
    prompt = sandbox.render(template.prompt, known) if template.prompt else ""
    rest = given if "input" not in wanted else ""
    options = {
        "model": template.model,
        "system": sandbox.render(template.system, known) if template.system else None,
        "schema": template.schema,
        "parameters": template.options,
    }
    said = "\n\n".join(text for text in (prompt, rest) if text)
    used = {name: value for name, value in options.items() if value}
    return Filled(said, used)


# What is stored


def add(name: str, definition: str) -> Row:
    """Store a definition under a name and return the row; raises Conflict for a taken name, InvalidInput."""
    parse(definition)
    try:
        with database.atomic():
            return Row.create(name=_name(name), definition=door.text(definition, "a template"))
    except IntegrityError as error:
        raise Conflict(f'there is a template "{name}" already', hint=f"llmsess template edit {name}") from error


def get(reference: str | Row) -> Row:
    """Return the template of that name or uuid; raises NotFound, Ambiguous, InvalidInput."""
    return resolve(Row, reference, "template", name=Row.name, latest=Row.updated_at)


def find() -> list[Row]:
    """Return the templates by name."""
    return list(Row.select().order_by(Row.name))


def edit(reference: str | Row, definition: str) -> Row:
    """Replace a template's definition and return the row; raises NotFound, InvalidInput."""
    parse(definition)
    with database.atomic():
        row_id = same_row(Row, get(reference), "template")
        update_row(Row, row_id, definition=door.text(definition, "a template"), updated_at=now())
        return Row.get_by_id(row_id)


def rename(reference: str | Row, name: str) -> Row:
    """Give a template another name and return it; raises NotFound, Conflict, InvalidInput."""
    try:
        with database.atomic():
            row_id = same_row(Row, get(reference), "template")
            update_row(Row, row_id, name=_name(name))
            return Row.get_by_id(row_id)
    except IntegrityError as error:
        raise Conflict(f'there is a template "{name}" already') from error


def remove(reference: str | Row) -> None:
    """Delete a template; raises NotFound."""
    with database.atomic():
        get(reference).delete_instance()


def named(reference: str) -> Template:
    """Return the template of that name, or of a YAML file (a path with a slash, or that ends with .yaml or .yml).

    Raises NotFound, InvalidInput.
    """
    if "/" not in reference and not reference.endswith((".yaml", ".yml")):
        return parse(get(reference).definition)
    return parse(read(reference))


def read(path: str) -> str:
    """Return the text of a template's file; raises InvalidInput."""
    try:
        with expanded(path).open("rb") as file:
            return file.read(MAX_DEFINITION_BYTES + 1).decode()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the template {path} cannot be read: {getattr(error, 'strerror', error)}") from error


def definition(**fields: Any) -> str:
    """Return the YAML of a definition from its keys, those that are None left out."""
    import yaml

    given = {key: value for key, value in fields.items() if value}
    return str(yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=100))


def _name(name: str) -> str:
    cleaned = door.text(name, "a name").strip()
    odd = "/" in cleaned or cleaned.startswith("@") or cleaned.endswith((".yaml", ".yml"))
    if not cleaned or odd or any(character.isspace() for character in cleaned):
        hint = "one word without a slash, that looks like no file"
        raise InvalidInput(f'"{one_line(name, 40)}" is no name for a template', hint=hint)
    return cleaned
