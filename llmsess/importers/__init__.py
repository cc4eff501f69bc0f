"""The registry of importers: a name and the module that reads the format, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from llmsess.errors import InvalidInput, did_you_mean
from llmsess.importers.base import Importer
from llmsess.importers.source import Head, Source

_MODULES = {
    "llmsess": "llmsess.importers.lossless",
    "claude-code": "llmsess.importers.claude_code",
    "chatgpt": "llmsess.importers.chatgpt",
    "claude-ai": "llmsess.importers.claude_ai",
    "codex": "llmsess.importers.codex",
    "gemini-cli": "llmsess.importers.gemini_cli",
    "llm": "llmsess.importers.llm_logs",
    "openai-chat": "llmsess.importers.openai_chat",
    "anthropic-chat": "llmsess.importers.anthropic_chat",
    "gemini-batch": "llmsess.importers.gemini_batch",
    "sharegpt": "llmsess.importers.sharegpt",
    "alpaca": "llmsess.importers.alpaca",
    "inspect": "llmsess.importers.inspect_ai",
    "langfuse": "llmsess.importers.langfuse",
    "openinference": "llmsess.importers.openinference",
    "aider": "llmsess.importers.aider",
    "opencode": "llmsess.importers.opencode",
    "vscode-copilot": "llmsess.importers.vscode_copilot",
    "pi": "llmsess.importers.pi",
}


def names() -> list[str]:
    """Return the names of the formats that can be read."""
    return list(_MODULES)


def get(name: str) -> Importer:
    """Return the importer of that name; raises InvalidInput for an unknown one."""
    if name not in _MODULES:
        raise InvalidInput(f'no format "{name}"{did_you_mean(name, _MODULES)}', hint="llmsess import --formats")
    return cast(Importer, import_module(_MODULES[name]))


def fitting(source: Source) -> list[str]:
    """Return the names of the formats that a file may have by its shape."""
    head = source.head()
    return [name for name in _MODULES if get(name).matches(head)]


def detect(source: Source) -> Importer | None:
    """Return the importer whose format the file has by its shape, None where none or several fit."""
    found = fitting(source)
    return get(found[0]) if len(found) == 1 else None


def is_part(source: Source) -> bool:
    """Return whether a file is read together with others, as a part of their conversation."""
    head = source.head()
    tests = (getattr(get(name), "is_part", None) for name in _MODULES)
    return any(test is not None and test(head) for test in tests)


def describe(head: Head) -> str:
    """Return what a file of no known format has in it, for a person who wonders why."""
    if head.tables:
        return f"a database with the tables {_some(sorted(head.tables))}"
    if head.objects:
        return f"JSON objects with the keys {_some(list(head.objects[0]))}"
    first = " ".join(head.text.split())[:60]
    return f"text that begins {first!r}" if first else "nothing"


def _some(names: list[Any]) -> str:
    return ", ".join(map(str, names[:8])) + (", ..." if len(names) > 8 else "") if names else "(none)"
