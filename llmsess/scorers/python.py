"""A person's own scorer: a Python function that is given the answer, named module:function or file://path.py:function.

It runs only where that was allowed, for it may do anything. It is called with the text and a context of `vars`,
`prompt`, `model`, `finish_reason`, `latency_ms`, `cost_usd`, `input_tokens`, `output_tokens`, `tool_calls`, `config`;
it returns a bool, a number from 0 to 1, or a mapping of `score`, `pass` and `reason`. A file without a function's
name has `get_assert`, as promptfoo's have.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.scorers.base import Answer, NotRun, Score, Unscored, Wanted, graded
from llmsess.texts import one_line

DEFAULT = "get_assert"
ENOUGH = 0.5


def is_name(value: Any) -> bool:
    """Return whether a value names a function, rather than being code."""
    text = value if isinstance(value, str) else ""
    module, colon, function = text.rpartition(":")
    named = bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))
    return text.startswith("file://") or named


@functools.lru_cache(maxsize=64)
def load(name: str) -> Callable[..., Any]:
    """Return the function of that name; raises InvalidInput where there is none."""
    try:
        found = _of_file(name.removeprefix("file://")) if name.startswith("file://") else _of_module(name)
    except InvalidInput:
        raise
    except Exception as error:  # whatever a person's module does when it is read
        raise InvalidInput(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise InvalidInput(f"{name} is no function")
    return found  # type: ignore[no-any-return]


def _of_module(name: str) -> Any:
    module, _, function = name.rpartition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    return getattr(importlib.import_module(module), function, None)


def _of_file(name: str) -> Any:
    path, colon, function = name.rpartition(":")
    if not colon or not function.isidentifier():
        path, function = name, DEFAULT
    file = Path(path)
    if not file.is_file():
        raise InvalidInput(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"llmsess_scorer_{abs(hash(str(file.absolute())))}", file)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, function, None)


def measure(answer: Answer, wanted: Wanted) -> Score:
    """Return what a person's function says; whatever it raises makes the answer unscored."""
    if not is_name(wanted.value):
        raise NotRun("Python as text is not run; name a function as module:function")
    function = load(wanted.value)
    context = {
        "vars": dict(answer.variables), "prompt": answer.prompt, "model": answer.model,
        "finish_reason": answer.finish_reason, "latency_ms": answer.latency_ms, "cost_usd": answer.cost_usd,
        "input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens,
        "tool_calls": list(answer.tool_calls), "config": dict(wanted.options.get("config") or {}),
    }  # fmt: skip
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no data of ours
            found = function(answer.text, context)
    except (Exception, SystemExit) as error:  # the person's, not ours
        raise Unscored(f"{wanted.value} raised {type(error).__name__}: {one_line(str(error), 200)}") from error
    return _score(found, wanted)


def _score(found: Any, wanted: Wanted) -> Score:
    reason, passed = None, None
    if isinstance(found, Mapping):
        reason, passed = found.get("reason"), found.get("pass", found.get("pass_"))
        found = found.get("score", passed)
    if isinstance(found, bool):
        found = float(found)
    if not isinstance(found, (int, float)) or not math.isfinite(found):
        raise Unscored(f"{wanted.value} returned no score: {one_line(repr(found), 60)}")
    score = graded(float(found), wanted, ENOUGH, "the score")
    decided = score.passed and passed if isinstance(passed, bool) else score.passed
    return Score(score.score, decided, one_line(str(reason), 1000) if reason else score.reason)
