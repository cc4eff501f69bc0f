"""What a variant asks of a case: its prompt, filled, as a row of a batch."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

from llmsess import sandbox
from llmsess.batches.forming import REPEAT
from llmsess.comparisons.cases import PREFIX, SUFFIX, Case, default_prompt
from llmsess.comparisons.specs import Variant
from llmsess.errors import InvalidInput
from llmsess.models import dump_json


def row_of(variant: Variant, case: Case, repeat: int, *, lenient: bool = False) -> dict[str, Any]:
    """Return what a variant asks of a case as a row of a batch; raises InvalidInput."""
    asked = variant.prompt if variant.prompt is not None else default_prompt(case)
    if asked is None:
        have = ", ".join(case.variables) or "no variables"
        hint = "prompt: ... makes one of its variables"
        raise InvalidInput(f"there is no prompt: the case has {have}", hint=hint)
    values = resolved(case.variables) if lenient else dict(case.variables)
    said = _filled(asked, values, lenient) if variant.prompt is not None else asked
    before, after = (_text(str(values.get(name, "")), values, lenient) for name in (PREFIX, SUFFIX))
    row: dict[str, Any] = {"model": variant.model}
    if is_messages(said):
        row["messages"] = said
    else:
        row["prompt"] = before + (said if isinstance(said, str) else dump_json(said)) + after
        if not row["prompt"].strip():
            raise InvalidInput("its prompt is empty")
    if variant.system:
        row["system"] = _text(variant.system, values, lenient)
    if variant.parameters:
        row["parameters"] = dict(variant.parameters)
    if repeat:
        row[REPEAT] = repeat
    return {"custom_id": _key(variant.name, case.key, repeat, row), **row}


def is_messages(said: Any) -> bool:
    """Return whether a prompt is a conversation, rather than a text or JSON that is sent as one."""
    return isinstance(said, list) and bool(said) and all(isinstance(one, Mapping) and "role" in one for one in said)


def resolved(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables whose own templates are filled with the others, as promptfoo has it; what cannot be, stays."""
    found = dict(variables)
    for name, value in variables.items():
        if isinstance(value, str) and sandbox.is_jinja(value):
            with contextlib.suppress(InvalidInput):
                found[name] = sandbox.render(value, found, nunjucks=True)
    return found


def _key(variant: str, case_key: str, repeat: int, row: Mapping[str, Any]) -> str:
    """Return the key of an answer: whose it is, to which case, and what is asked, for a definition may change."""
    asked = hashlib.sha256(dump_json(row).encode()).hexdigest()[:8]
    return f"{case_key}/{repeat}/{variant}/{asked}"


def _filled(value: Any, values: Mapping[str, Any], lenient: bool) -> Any:
    if isinstance(value, str):
        return _text(value, values, lenient)
    if isinstance(value, list):
        return [_filled(item, values, lenient) for item in value]
    if isinstance(value, Mapping):
        return {key: _filled(item, values, lenient) for key, item in value.items()}
    return value


def _text(text: str, values: Mapping[str, Any], lenient: bool) -> str:
    """Return a template filled; where lenient, what is missing is empty."""
    if not sandbox.is_jinja(text):
        return text
    if lenient:
        return sandbox.render(text, values, nunjucks=True)
    missing = sandbox.names(text) - values.keys()
    if missing:
        have = ", ".join(name for name in values if not name.startswith("_")) or "none"
        raise InvalidInput(f"the prompt needs {', '.join(sorted(missing))}, the case has {have}")
    return sandbox.render(text, values)
