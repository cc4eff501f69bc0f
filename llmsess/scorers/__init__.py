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
            found[entry.name] = _loaded(entry)
    return found


def _loaded(entry: metadata.EntryPoint) -> Scorer | Judge:
    """Return the scorer of another package, one that says why where it cannot be loaded."""
    try:
        loaded: Any = entry.load()
        why = None if isinstance(loaded, (Scorer, Judge)) else f"{entry.value} is no Scorer"
    except Exception as error:  # noqa: BLE001  whatever that package does when it is imported
        loaded, why = None, f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"
    if why is None:
        return loaded  # type: ignore[no-any-return]

    def broken(answer: Answer, wanted: Wanted) -> Score:
        raise NotRun(str(why))

    return Scorer(why, broken)


def _own(answer: Answer, wanted: Wanted) -> Score:
    from llmsess.scorers import python

    return python.measure(answer, wanted)


def get(name: str) -> Scorer | Judge | None:
    """Return the scorer of that name without its `not-`, None where there is none."""
    return _known().get(name)


def find() -> list[tuple[str, Scorer | Judge]]:
    """Return the scorers by name."""
    return sorted(_known().items())
