"""JSON Schemas that an answer must fit: read from a file, JSON or a short form, and an answer held against them.

Validation is jsonschema's, by the draft that the schema names, and never fetches a schema from elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmsess import codeblocks, door
from llmsess.errors import InvalidInput, UnusableReply
from llmsess.settings import expanded
from llmsess.texts import one_line, too_deep

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_FIELD = re.compile(r"([A-Za-z_]\w*)(?:\s+(str|int|float|bool))?(?:\s*:\s*(.+))?")


def load(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema from a mapping, JSON text, the path of a JSON file, or the short form `name, age int, bio: what`.

    In the short form fields stand between commas or on lines of their own; a type is str, int, float or bool. Raises
    InvalidInput for what is no schema.
    """
    if isinstance(source, Mapping):
        return checked(door.json_object(source, "a schema"))
    text = door.text(source, "a schema").strip()
    if text.startswith("{"):
        return checked(_object(text, "the schema"))
    path = expanded(text) if "\n" not in text and len(text) < 4096 else None
    try:
        if path is not None and path.is_file():
            return checked(_object(path.read_text(encoding="utf-8"), str(path)))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the schema {text} cannot be read: {error}") from error
    return checked(short(text))


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is no JSON: {error}") from error
    if not isinstance(value, dict) or too_deep(text, value):
        raise InvalidInput(f"{name} is no JSON object of a schema's kind")
    return door.json_object(value, name)


def short(text: str) -> dict[str, Any]:
    """Return the schema of an object from its short form; raises InvalidInput."""
    properties = {}
    for item in text.split("\n") if "\n" in text else text.split(","):
        found = _FIELD.fullmatch(item.strip())
        if item.strip() and found is None:
            raise InvalidInput(
                f'"{one_line(text, 80)}" is no schema', hint="a JSON file, JSON, or fields as: name, age int, bio: what"
            )
        if found is not None:
            said = {"description": found[3]} if found[3] else {}
            properties[found[1]] = {"type": _TYPES[found[2] or "str"]} | said
    if not properties:
        raise InvalidInput("an empty schema asks for nothing")
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def checked(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema if it is one; raises InvalidInput."""
    from jsonschema import SchemaError

    try:
        _validator(schema).check_schema(schema)
    except SchemaError as error:
        raise InvalidInput(f"no JSON Schema: {_said(error)}") from error
    _check_references(schema)
    return schema


def _check_references(schema: dict[str, Any]) -> None:
    """Raise InvalidInput where a schema refers to what is not in it: that would be seen when the answer has come."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    resolver = Registry().with_resource(str(schema.get("$id", "")), resource).resolver_with_root(resource)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise InvalidInput(f'the schema refers to what is not in it: "{one_line(reference, 80)}"') from error


def _references(part: Any) -> Iterator[str]:
    """Yield what the parts of a schema refer to."""
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    for item in inner:
        yield from _references(item)
    if isinstance(part, dict) and isinstance(part.get("$ref"), str):
        yield part["$ref"]


def _validator(schema: Mapping[str, Any]) -> Any:
    """Return a validator that knows only the schema itself: a reference elsewhere is an error, never a request."""
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    return validators.validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def value(answer: str, schema: Mapping[str, Any], *, kept_in: str | None = None) -> Any:
    """Return the JSON value that an answer is, or has in its last code block; raises UnusableReply if it is none.

    `kept_in` is the uuid of the session that keeps the answer.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    found = _value(answer, kept_in)
    try:
        error = best_match(_validator(schema).iter_errors(found))
    except (Unresolvable, RecursionError) as trouble:
        raise InvalidInput(f"the schema refers to what is not in it: {one_line(str(trouble), 200)}") from trouble
    if error is not None:
        raise UnusableReply(f"does not fit the schema: {_said(error)}", answer, kept_in)
    return found


def _value(answer: str, kept_in: str | None) -> Any:
    problem: Exception | None = None
    for text in (answer, codeblocks.last(answer)):
        try:
            if text is not None and text.strip():
                found = json.loads(text, parse_constant=_no_number)
                if not too_deep(text, found):
                    return found
        except (ValueError, RecursionError) as error:
            problem = problem or error
    raise UnusableReply(f"is no JSON: {problem or 'it is empty, or nested too deeply'}", answer, kept_in)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _said(error: Any) -> str:
    where = "/".join(map(str, error.absolute_path))
    return one_line(f"{f'at {where}: ' if where else ''}{error.message}", 300)


def correction(error: UnusableReply) -> str:
    """Return the prompt that asks once more for an answer that did not fit."""
    return f"That answer {error.problem}. Answer again with nothing but JSON that fits the schema."
