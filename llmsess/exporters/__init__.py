"""The registry of exporters: a name and the module that writes the format, imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from llmsess.errors import InvalidInput, did_you_mean
from llmsess.exporters.base import Exporter

_MODULES = {
    "markdown": "llmsess.exporters.markdown",
    "html": "llmsess.exporters.html",
    "llmsess": "llmsess.exporters.lossless",
    "openai-chat": "llmsess.exporters.openai_chat",
    "anthropic-chat": "llmsess.exporters.anthropic_chat",
    "sharegpt": "llmsess.exporters.sharegpt",
    "csv": "llmsess.exporters.csv_rows",
}


def names() -> list[str]:
    """Return the names of the formats that can be written."""
    return list(_MODULES)


def get(name: str) -> Exporter:
    """Return the exporter of that name; raises InvalidInput for an unknown one."""
    if name not in _MODULES:
        raise InvalidInput(f'no format "{name}"{did_you_mean(name, _MODULES)}', hint="llmsess export --formats")
    return cast(Exporter, import_module(_MODULES[name]))
