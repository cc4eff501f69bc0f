"""Scorers: what an answer is worth. A registry of small functions under promptfoo's names, all negatable with `not-`.

    for name, scorer in scorers.find(): print(name, scorer.description)
    scorers.get("contains").measure(Answer("Paris."), Wanted("Paris"))

The parts: `base` (what a scorer is), `texts`, `json_values`, `similarity`, `figures` (which only look), `judges` (which
ask a model), `python` (a person's own function), `assertions` (one line of a definition).
"""

from __future__ import annotations

import functools
from importlib import import_module, metadata
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.scorers.base import Answer, Judge, NotRun, Score, Scorer, Unscored, Wanted, need_value

__all__ = ["Answer", "Judge", "NotRun", "Score", "Scorer", "Unscored", "Wanted", "find", "get"]

MODULES = ("texts", "json_values", "similarity", "figures", "judges")
PYTHON = "python"
GROUP = "llmsess.scorers"  # of entry points, each a Scorer or a Judge


@functools.cache
def _known() -> dict[str, Scorer | Judge]:
    found: dict[str, Scorer | Judge] = {}
    for module in MODULES:
        found |= import_module(f"llmsess.scorers.{module}").SCORERS
    found[PYTHON] = Scorer("a function of yours, module:function, where --allow-python lets it run", _own, need_value)
    for entry in metadata.entry_points(group=GROUP):
        if entry.name not in found:
            loaded: Any = entry.load()
            if not isinstance(loaded, (Scorer, Judge)):
                raise InvalidInput(f"the scorer {entry.name} of another package is no Scorer")
            found[entry.name] = loaded
    return found


def _own(answer: Answer, wanted: Wanted) -> Score:
    from llmsess.scorers import python

    return python.measure(answer, wanted)


def get(name: str) -> Scorer | Judge | None:
    """Return the scorer of that name without its `not-`, None where there is none."""
    return _known().get(name)


def find() -> list[tuple[str, Scorer | Judge]]:
    """Return the scorers by name."""
    return sorted(_known().items())
