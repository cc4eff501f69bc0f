"""Scorers of structure: JSON and JSON Schema, XML, and the calls of tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from llmsess import schemas
from llmsess.errors import InvalidInput, UnusableReply
from llmsess.scorers.base import Answer, Score, Scorer, Unscored, Wanted, graded, need_value, texts_of, verdict
from llmsess.texts import too_deep

MAX_STARTS = 1_000  # braces of a text that are tried as the beginning of a value
MAX_XML_CHARACTERS = 1_000_000
_DECODER = json.JSONDecoder()
_XML = re.compile(r"<([A-Za-z_][\w.:-]*)[^<>]*?(/?)>")
MAX_ELEMENTS = 100  # of a text that are tried as the beginning of a document
ABSENT = object()


def parsed(text: str) -> Any:
    """Return the JSON value that a text is, ABSENT where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ABSENT
    return ABSENT if too_deep(text, found) else found


def values_in(text: str) -> Iterator[Any]:
    """Yield the JSON objects and arrays that stand in a text, the first first."""
    at = tried = 0
    while tried < MAX_STARTS and (found := re.compile(r"[{\[]").search(text, at)):
        tried += 1
        try:
            value, at = _DECODER.raw_decode(text, found.start())
            yield value
        except (ValueError, RecursionError):
            at = found.start() + 1


def _schema(wanted: Wanted) -> dict[str, Any] | None:
    if wanted.value is None or wanted.value == "":
        return None
    return schemas.load(wanted.value)


def _fits(value: Any, schema: dict[str, Any] | None) -> str | None:
    """Return why a value does not fit a schema, None where it does."""
    if schema is None:
        return None
    try:
        schemas.value(json.dumps(value), schema)
    except UnusableReply as error:
        return error.problem
    return None


def is_json(answer: Answer, wanted: Wanted) -> Score:
    found = parsed(answer.text)
    if found is ABSENT:
        return verdict(False, "it is no JSON")
    problem = _fits(found, _schema(wanted))
    return verdict(problem is None, f"it {problem}")


def contains_json(answer: Answer, wanted: Wanted) -> Score:
    schema, problem = _schema(wanted), "has no JSON"
    for value in values_in(answer.text):
        trouble = _fits(value, schema)
        if trouble is None:
            return verdict(True, "")
        problem = trouble
    return verdict(False, f"it {problem}")


def is_xml(answer: Answer, wanted: Wanted) -> Score:
    return _elements(answer.text.strip(), wanted)


def contains_xml(answer: Answer, wanted: Wanted) -> Score:
    problem = Score(0.0, False, "it has no XML")
    text = answer.text[:MAX_XML_CHARACTERS]
    for found in islice(_XML.finditer(text), MAX_ELEMENTS):
        ending = f"</{found[1]}>"
        end = found.end() if found[2] else text.rfind(ending) + len(ending)
        score = _elements(text[found.start() : end], wanted)
        if score.passed:
            return score
        problem = score
    return problem


def _elements(text: str, wanted: Wanted) -> Score:
    """Hold a text against XML, and the elements that it must have (paths with dots, as root.name)."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text or len(text) > MAX_XML_CHARACTERS:
        return verdict(False, "a document type or its size is not for answers")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        return verdict(False, f"it is no XML: {error}")
    wants = wanted.value
    required = texts_of(wants.get("requiredElements", []) if isinstance(wants, Mapping) else wants) if wants else []
    missing = [path for path in required if not _has(root, path)]
    return verdict(not missing, f"it lacks {', '.join(missing)}")


def _has(root: Any, path: str) -> bool:
    first, _, rest = path.partition(".")
    return root.tag == first and (not rest or root.find(rest.replace(".", "/")) is not None)


# Calls of tools


def _calls(answer: Answer) -> list[tuple[str, Any]]:
    """Return the calls of an answer, those that it has as a JSON text included."""
    if answer.tool_calls:
        return [(str(call.get("name")), call.get("input")) for call in answer.tool_calls]
    found = parsed(answer.text)
    listed = found if isinstance(found, list) else [found]
    calls = [call.get("function", call) for call in listed if isinstance(call, dict)]
    return [
        (str(call["name"]), _arguments(call.get("arguments", call.get("input")))) for call in calls
        if isinstance(call, dict) and isinstance(call.get("name"), str)
    ]  # fmt: skip


def _arguments(value: Any) -> Any:
    return parsed(value) if isinstance(value, str) else value


def valid_calls(answer: Answer, wanted: Wanted) -> Score:
    """Hold each call against the schema of its tool (a list of tools in OpenAI's form)."""
    tools = _tools(wanted.value)
    calls = _calls(answer)
    if not calls:
        return verdict(False, "it calls no tool")
    for name, arguments in calls:
        if tools is not None and name not in tools:
            return verdict(False, f"there is no tool {name}")
        if not isinstance(arguments, dict):
            return verdict(False, f"the arguments of {name} are no object")
        problem = _fits(arguments, tools[name] if tools else None)
        if problem is not None:
            return verdict(False, f"the call of {name} {problem}")
    return verdict(True, "")


def _tools(value: Any) -> dict[str, dict[str, Any] | None] | None:
    """Return the schema of each tool, None where no tools are named."""
    if not value:
        return None
    listed = value if isinstance(value, list) else [value]
    found: dict[str, dict[str, Any] | None] = {}
    for tool in listed:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidInput("tools are objects with a name and parameters, as in OpenAI's API")
        schema = function.get("parameters", function.get("input_schema"))
        found[function["name"]] = schemas.checked(schema) if isinstance(schema, dict) else None
    return found


def check_tools(wanted: Wanted) -> None:
    _tools(wanted.value)


def tool_call_f1(answer: Answer, wanted: Wanted) -> Score:
    """Return the F1 of the names of the tools that were called and of those that should be."""
    wanted_names, called = set(texts_of(wanted.value)), {name for name, _ in _calls(answer)}
    if not wanted_names:
        raise Unscored("no tools are named")
    both = len(wanted_names & called)
    score = 2 * both / (len(wanted_names) + len(called))
    return graded(score, wanted, 1.0, f"the F1 of {', '.join(sorted(called)) or 'no calls'}")


def check_schema(wanted: Wanted) -> None:
    _schema(wanted)


SCORERS = {
    "is-json": Scorer("it is JSON, and fits this schema", is_json, check_schema),
    "contains-json": Scorer("JSON stands in it, and fits this schema", contains_json, check_schema),
    "is-xml": Scorer("it is XML, and has these elements", is_xml),
    "contains-xml": Scorer("XML stands in it, and has these elements", contains_xml),
    "is-valid-openai-tools-call": Scorer("each call of a tool fits its schema", valid_calls, check_tools),
    "is-valid-openai-function-call": Scorer("the same", valid_calls, check_tools),
    "is-valid-function-call": Scorer("the same", valid_calls, check_tools),
    "tool-call-f1": Scorer("F1 of the tools called and of these", tool_call_f1, need_value),
}
