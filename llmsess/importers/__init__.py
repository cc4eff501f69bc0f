"""The registry of importers: a name and the module that reads the format, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from llmsess.errors import InvalidInput
from llmsess.importers.base import Importer, Source

_MODULES = {
    "claude-code": "llmsess.importers.claude_code",
    "openai-chat": "llmsess.importers.openai_chat",
}


def names() -> list[str]:
    """Return the names of the formats that can be read."""
    return list(_MODULES)


def get(name: str) -> Importer:
    """Return the importer of that name; raises InvalidInput for an unknown one."""
    if name not in _MODULES:
        import difflib

        near = difflib.get_close_matches(name, _MODULES, 1)
        guess = f'; did you mean "{near[0]}"?' if near else ""
        raise InvalidInput(f'no format "{name}"{guess}', hint="llmsess import --formats")
    return cast(Importer, import_module(_MODULES[name]))


def detect(source: Source) -> Importer | None:
    """Return the importer whose format the file has by its shape, None where none or several fit."""
    head: list[Any] = source.head()
    fitting = [importer for importer in map(get, _MODULES) if importer.matches(head)]
    return fitting[0] if len(fitting) == 1 else None
