"""What a scorer is: a function of an answer and of what is wanted of it, that returns a Score.

A scorer sends nothing, stores nothing and reads no clock; where it cannot say it raises Unscored, and what it cannot
do at all is NotRun. Write one, name it in the table SCORERS of a module that `llmsess.scorers` lists, or register it
under the entry point group `llmsess.scorers`; the conformance suite in tests/test_scorers.py tells whether it is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.models import dump_json


@dataclass(frozen=True)
class Answer:
    """An answer as scorers see it; figures that nobody reported are None.

    `variables` are those of its case, `prompt` is what was asked, `tool_calls` has {"name", "input"} for each call.
    """

    text: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    model: str | None = None
    finish_reason: str | None = None
    latency_ms: float | None = None
    cost_usd: Decimal | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    nunjucks: bool = False  # what is wanted is filled as promptfoo fills it


@dataclass(frozen=True)
class Wanted:
    """What is wanted of an answer: a value, filled in with the case's variables, and how much is enough."""

    value: Any = None
    threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """A finite score, most are from 0 to 1 and more is better, whether that passes, and why."""

    score: float
    passed: bool
    reason: str | None = None


class Unscored(Exception):
    """An answer that could not be scored, and why: neither right nor wrong."""


class NotRun(Exception):
    """An assertion that cannot be run here, and why: counted as not run, never as passed."""


Measure = Callable[[Answer, Wanted], Score]


@dataclass(frozen=True)
class Scorer:
    """A scorer in the registry: what it does, in a line, and how it measures.

    `check` raises InvalidInput for a value it could never work with, before anything is paid for.
    """

    description: str
    measure: Measure
    check: Callable[[Wanted], object] = lambda wanted: None


@dataclass(frozen=True)
class Judge:
    """A scorer that asks a model: `ask` makes the prompt, `read` makes a score of what the model says."""

    description: str
    ask: Callable[[Answer, Wanted], str]
    read: Callable[[str, Wanted], Score]
    check: Callable[[Wanted], object] = lambda wanted: None


def verdict(passed: bool, reason: str) -> Score:
    """Return the score of what is right or wrong; the reason is told where it is wrong."""
    return Score(float(passed), passed, None if passed else reason)


def graded(score: float, wanted: Wanted, enough: float, what: str) -> Score:
    """Return the score of what is more or less right, held against the threshold, else against `enough`."""
    if not math.isfinite(score):
        raise Unscored(f"{what} is no number")
    least = enough if wanted.threshold is None else wanted.threshold
    passed = score >= least - 1e-12
    return Score(score, passed, None if passed else f"{what} is {score:.3g}, less than {least:g}")


def text_of(value: Any) -> str:
    """Return a wanted value as a text, a number as JSON has it."""
    if isinstance(value, str):
        return value
    return dump_json(value)


def texts_of(value: Any) -> list[str]:
    """Return a list of texts, also of one text with commas between (quotes keep those of a part)."""
    if isinstance(value, (list, tuple)):
        return [text_of(one) for one in value]
    import csv

    try:
        (found,) = csv.reader([text_of(value).replace("\n", " ")], skipinitialspace=True)
    except (ValueError, csv.Error):
        found = [text_of(value)]
    return [one.strip() for one in found if one.strip()]


def need_value(wanted: Wanted) -> None:
    """Raise InvalidInput where there is no value to hold an answer against."""
    if wanted.value is None:
        raise InvalidInput("needs a value")


def need_threshold(wanted: Wanted) -> None:
    """Raise InvalidInput where there is no threshold."""
    if wanted.threshold is None:
        raise InvalidInput("needs a threshold")
