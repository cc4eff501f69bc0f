"""Files that define something, YAML or JSON: read safely, dates as texts, and never grown by aliases into billions."""

from __future__ import annotations

import functools
import json
from typing import Any

from llmsess import door
from llmsess.errors import InvalidInput
from llmsess.texts import too_deep

MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 2_000_000  # that a definition holds once its aliases are followed
MAX_VALUE_CHARACTERS = 100_000_000


def load(text: str, what: str, *, aliases: bool = True, max_bytes: int = MAX_BYTES) -> Any:
    """Return the value of a YAML or JSON text; `what` names it in errors. Raises InvalidInput, with the line."""
    if len(text) > max_bytes or len(text.encode(errors="replace")) > max_bytes:
        raise InvalidInput(f"{what} is at most {max_bytes // 1024} KiB")
    value = _json(text) if text.lstrip()[:1] in ("{", "[") else None
    if value is None:
        value = _yaml(text, what, aliases)
    if aliases:
        _check_size(value, what)
    if too_deep(text, value):
        raise InvalidInput(f"{what} is nested too deeply")
    return value


def _json(text: str) -> Any:
    """Return the value of a JSON text, None where it is none, as YAML's short form may be."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _yaml(text: str, what: str, aliases: bool) -> Any:
    import yaml

    try:
        return yaml.load(text, _loader(aliases))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(
            f"{what} is no YAML: {reason}", hint="a text with colons or braces goes under key: |"
        ) from error


@functools.cache
def _loader(aliases: bool) -> Any:
    """Return a safe loader; one without aliases, for templates, has yes and no as truths, as their other reader has.

    A date is a text, as JSON has it.
    """
    import re

    import yaml

    dropped = (":timestamp", ":bool") if aliases else (":timestamp",)

    class Plain(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, regex) for tag, regex in known if not tag.endswith(dropped)]
            for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def compose_node(self, parent: Any, index: Any) -> Any:
            if not aliases and self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("an alias (*) is not for templates")
            return super().compose_node(parent, index)

    if aliases:  # YAML 1.2's truths alone, as readers in other languages have it: yes is a text
        truths = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
        Plain.add_implicit_resolver("tag:yaml.org,2002:bool", truths, list("tTfF"))
    return Plain


def _check_size(value: Any, what: str) -> None:
    """Raise InvalidInput for a value that is far larger than its text, as nine lines of aliases can make it."""
    waiting, count, characters = [value], 0, 0
    while waiting:
        item = waiting.pop()
        inner = [*item.keys(), *item.values()] if isinstance(item, dict) else item if isinstance(item, list) else ()
        count += 1
        characters += len(item) if isinstance(item, str) else 0
        if count + len(waiting) > MAX_VALUES or characters > MAX_VALUE_CHARACTERS:
            raise InvalidInput(f"{what} grows beyond any use when its aliases are followed")
        waiting.extend(inner)


def mapping(value: Any, what: str) -> dict[str, Any]:
    """Return a definition that is a mapping with texts as keys and plain JSON values; raises InvalidInput."""
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is a mapping, not {type(value).__name__}")
    return door.json_object({str(key): item for key, item in value.items()}, what)
