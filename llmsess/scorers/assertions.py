"""One assertion of a definition: which scorer, what it wants, how much it weighs; read, written, held to an answer.

In a definition it is a mapping with promptfoo's keys (type, value, threshold, weight, metric, provider, rubricPrompt,
config; `assert` for a set), or a text as its CSVs have it: `contains: Paris`, `not-icontains-any: a, b`,
`rouge-n(0.6): text`, `is-json`, or what the answer equals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmsess import sandbox, scorers
from llmsess.errors import InvalidInput, did_you_mean
from llmsess.scorers.base import Answer, Judge, NotRun, Score, Scorer, Unscored, Wanted
from llmsess.texts import one_line

SET = "assert-set"
PASS = "pass"  # the metric of whether an answer passes all that is to hold
FOREIGN = frozenset(
    [
        "agent-rubric",
        "answer-relevance",
        "classifier",
        "contains-html",
        "contains-sql",
        "context-faithfulness",
        "context-recall",
        "context-relevance",
        "conversation-relevance",
        "guardrails",
        "is-html",
        "is-sql",
        "javascript",
        "max-score",
        "meteor",
        "moderation",
        "perplexity",
        "perplexity-score",
        "pi",
        "research-rubric",
        "ruby",
        "search-rubric",
        "select-best",
        "similar",
        "skill-used",
        "trace-error-spans",
        "trace-span-count",
        "trace-span-duration",
        "trajectory:goal-success",
        "trajectory:step-count",
        "trajectory:tool-args-match",
        "trajectory:tool-sequence",
        "trajectory:tool-used",
        "webhook",
    ]
)  # of promptfoo, which llmsess does not run
ALIASES = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript"}
OPTIONS = ("provider", "rubricPrompt", "config", "n")  # that scorers read
_TEXT = re.compile(r"(not-)?([a-z][a-z0-9:-]*?)(?:\((\d+(?:\.\d+)?)\))?(?::\s*(.*))?", re.DOTALL)
_ALONE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")
NOT = "not-"
MAX_SCORE = 1e9
MAX_WEIGHT = 1e6
NEAR = 0.8  # how alike a word must be to a scorer's name to be a slip of the pen


@dataclass(frozen=True)
class Assertion:
    """An assertion; `parts` are those of a set. `unusable` says why it cannot be run, where that is known already."""

    type: str
    value: Any = None
    threshold: float | None = None
    weight: float = 1.0
    metric: str | None = None
    negated: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Assertion, ...] = ()
    unusable: str | None = None

    @property
    def full_type(self) -> str:
        """Return the type as it is written."""
        return f"{NOT}{self.type}" if self.negated else self.type

    @property
    def name(self) -> str:
        """Return the name of the metric it measures."""
        return self.metric or self.full_type

    def as_json(self) -> dict[str, Any]:
        """Return the mapping that `parse()` reads again."""
        found: dict[str, Any] = {"type": self.full_type} | dict(self.options)
        for name in ("value", "threshold", "metric", "unusable"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.weight != 1:
            found["weight"] = self.weight
        if self.parts:
            found["assert"] = [part.as_json() for part in self.parts]
        return found


@dataclass(frozen=True)
class Outcome:
    """What came of an assertion: `status` is scored, error or not_run; `reason` says why."""

    status: str
    score: float | None = None
    passed: bool | None = None
    reason: str | None = None


# Reading


def parse(given: Any, *, lenient: bool = False) -> Assertion:
    """Return the assertion of a mapping or a text; raises InvalidInput.

    A type that nobody knows is refused, or, where lenient (another tool's file), kept as one that is not run.
    """
    if isinstance(given, str):
        return _of_text(given, lenient)
    if not isinstance(given, Mapping):
        raise InvalidInput(f"an assertion is a mapping with a type, or a text, not {type(given).__name__}")
    kind = given.get("type")
    if kind is None and isinstance(given.get("assert"), list):
        kind = SET
    if not isinstance(kind, str) or not kind.strip():
        raise InvalidInput("an assertion needs a type", hint="as equals, contains, is-json, llm-rubric")
    negated = kind.startswith(NOT)
    plain = kind.removeprefix(NOT)
    parts = given.get("assert") or ()
    if not isinstance(parts, (list, tuple)):
        raise InvalidInput("the assertions of a set are a list")
    assertion = Assertion(
        ALIASES.get(plain, plain),
        given.get("value"),
        number(given.get("threshold"), "threshold"),
        _weight(given.get("weight")),
        _name(given.get("metric") if not lenient or given.get("metric") != PASS else f"{PASS} (metric)"),
        negated,
        {name: given[name] for name in OPTIONS if given.get(name) is not None},
        tuple(parse(part, lenient=lenient) for part in parts),
        given.get("unusable") or _unusable(given),
    )
    return _checked(assertion, lenient)


def _of_text(text: str, lenient: bool) -> Assertion:
    if text.startswith("file://") and lenient:
        kind = "python" if text.partition(".py")[1] else "javascript"
        return _checked(Assertion(kind, text), lenient)
    found = _TEXT.fullmatch(text.strip())
    kind = ALIASES.get(found[2], found[2]) if found else ""
    known = kind in FOREIGN or scorers.get(kind) is not None
    if not text.strip() and not lenient:
        raise InvalidInput("an empty text is no assertion")
    if not found or not known:
        if found and not lenient:
            _refuse_slip(found[2], text, alone=found[4] is None)
        return Assertion("equals", text)
    threshold, value = found[3], found[4]
    if kind in ("cost", "latency") and threshold is None and value:
        threshold, value = value, None
    bare = Assertion(kind, value or None, number(threshold, "threshold"), negated=bool(found[1]))
    return _checked(bare, lenient)


def _refuse_slip(word: str, text: str, *, alone: bool) -> None:
    """Raise InvalidInput where a text that names no scorer begins with, or is, a word much like one."""
    guess = did_you_mean(word, _names(), cutoff=NEAR if alone else 0.6)
    if guess:
        raise InvalidInput(
            f'there is no scorer "{word}"{guess}', hint=f"equals: {text} for that text" if alone else None
        )


def _names() -> list[str]:
    return [name for name, _ in scorers.find()] + [SET, *FOREIGN]


def _unusable(given: Mapping[str, Any]) -> str | None:
    """Return which part of another tool's assertion llmsess cannot honour."""
    for name in ("transform", "contextTransform"):
        if given.get(name):
            return f'"{name}" is code of another language'
    return None


def _checked(assertion: Assertion, lenient: bool) -> Assertion:
    """Return an assertion whose type and value are usable, or that says why it cannot be run."""
    if assertion.type == SET:
        if not assertion.parts:
            raise InvalidInput("an assert-set has no assertions")
        return assertion
    scorer = scorers.get(assertion.type)
    if scorer is None:
        if assertion.type not in FOREIGN and not lenient:
            raise InvalidInput(
                f'there is no scorer "{one_line(assertion.type, 40)}"{did_you_mean(assertion.type, _names())}',
                hint="llmsess compare score --scorers lists them",
            )
        return replace(assertion, unusable=f"llmsess does not run {assertion.full_type}")
    if assertion.unusable is None and not _is_template(assertion.value):
        try:
            scorer.check(Wanted(assertion.value, assertion.threshold, assertion.options))
        except InvalidInput as error:
            if lenient:
                return replace(assertion, unusable=f"{assertion.full_type} {error.message}")
            raise InvalidInput(f"{assertion.full_type} {error.message}") from error
    return assertion


def _is_template(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_is_template, value.values()))
    if isinstance(value, list):
        return any(map(_is_template, value))
    return isinstance(value, str) and (sandbox.is_jinja(value) or value.startswith("file://"))


def number(value: Any, name: str) -> float | None:
    """Return a finite number, None where none is given; raises InvalidInput."""
    if value is None or value == "":
        return None
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInput(f'a {name} is a number, not "{one_line(str(value), 40)}"')
    return found


def _weight(value: Any) -> float:
    found = number(value, "weight")
    if found is not None and not 0 <= found <= MAX_WEIGHT:
        raise InvalidInput(f"a weight is from 0 to {MAX_WEIGHT:g}")
    return 1.0 if found is None else found


def _name(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput("a metric is a name")
    if value.strip() == PASS:
        raise InvalidInput(f'"{PASS}" is the metric of whether all holds', hint="give it another name")
    return one_line(value, 100)


# Holding it against an answer


def filled(value: Any, variables: Mapping[str, Any], *, nunjucks: bool = False) -> Any:
    """Return a value whose templates are filled with a case's variables; `{{ name }}` alone is that value itself.

    Raises NotRun where the case lacks one.
    """
    if isinstance(value, Mapping):
        return {key: filled(item, variables, nunjucks=nunjucks) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables, nunjucks=nunjucks) for item in value]
    if not isinstance(value, str) or not sandbox.is_jinja(value):
        return value
    try:
        missing = sorted(name for name in sandbox.names(value, nunjucks=nunjucks) if variables.get(name) is None)
        if missing:
            raise NotRun(f"the case has no {', '.join(missing)}")
        alone = _ALONE.fullmatch(value.strip())
        return variables[alone[1]] if alone else sandbox.render(value, variables, nunjucks=nunjucks)
    except InvalidInput as error:
        raise Unscored(error.message) from error


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def wanted_of(assertion: Assertion, answer: Answer) -> Wanted:
    """Return what an assertion wants of an answer to its case; raises NotRun, Unscored."""
    if assertion.type == scorers.PYTHON:  # which function runs is not for a case, or an answer, to say
        return Wanted(assertion.value, assertion.threshold, assertion.options)
    value = filled(assertion.value, answer.variables, nunjucks=answer.nunjucks)
    if isinstance(value, list) and value != assertion.value:
        value = [one for one in value if not _is_blank(one)]
    if assertion.value is not None and value != assertion.value and _is_blank(value):
        raise NotRun("the case has no value to hold it against")
    return Wanted(value, assertion.threshold, assertion.options)


def measure(
    assertion: Assertion, answer: Answer, *, python: bool = False,
    judge: Callable[[Assertion, str], str] | None = None,
) -> Outcome:  # fmt: skip
    """Return what comes of an assertion; what no scorer of ours foresees makes an error, not a score.

    `python` lets a person's own functions run. `judge` is given the assertion and the prompt for a judge, and returns
    what that says, or raises Unscored or NotRun; without one, nothing is judged.
    """
    try:
        if assertion.type == SET:
            return _of_set(assertion, answer, python, judge)
        if assertion.unusable is not None:
            raise NotRun(assertion.unusable)
        score = _score(assertion, answer, python, judge)
        if not abs(score.score) <= MAX_SCORE:  # nor NaN
            raise Unscored("the score is no number of a usable size")
    except NotRun as why:
        return Outcome("not_run", reason=str(why))
    except (Unscored, InvalidInput) as why:
        return Outcome("error", reason=one_line(str(why), 500))
    except (Exception, SystemExit) as error:  # noqa: BLE001  a scorer of another package; one must not cost the others
        return Outcome("error", reason=one_line(f"{type(error).__name__}: {error}", 500))
    if assertion.negated:
        why_not = None if not score.passed else f"{assertion.type} holds"
        return Outcome("scored", 1 - score.score, not score.passed, why_not)
    return Outcome("scored", float(score.score), score.passed, score.reason)


def _score(
    assertion: Assertion, answer: Answer, python: bool, judge: Callable[[Assertion, str], str] | None
) -> Score:  # fmt: skip
    scorer = scorers.get(assertion.type)
    if scorer is None:
        raise NotRun(f"{assertion.type} is not installed here")
    if assertion.type == scorers.PYTHON and not python:
        raise NotRun("Python runs only with --allow-python")
    wanted = wanted_of(assertion, answer)
    if isinstance(scorer, Scorer):
        return scorer.measure(answer, wanted)
    if judge is None:
        raise NotRun("no judge was asked")
    return scorer.read(judge(assertion, scorer.ask(answer, wanted)), wanted)


def _of_set(
    assertion: Assertion, answer: Answer, python: bool, judge: Callable[[Assertion, str], str] | None
) -> Outcome:  # fmt: skip
    """Return what comes of a set: all must pass, or, with a threshold, the mean of the scores must reach it."""
    outcomes = [measure(part, answer, python=python, judge=judge) for part in assertion.parts]
    for status in ("error", "not_run"):
        found = [one for one in outcomes if one.status == status]
        if found:
            return Outcome(status, reason=found[0].reason)
    score = weighted([(one.score, part.weight) for one, part in zip(outcomes, assertion.parts, strict=True)]) or 0.0
    failed = [
        part.name for one, part in zip(outcomes, assertion.parts, strict=True) if not one.passed and part.weight > 0
    ]
    passed = not failed if assertion.threshold is None else score >= assertion.threshold - 1e-12
    why = f"{', '.join(failed)} failed" if failed else f"the set comes to {score:.3g}"
    if assertion.negated:
        return Outcome("scored", 1 - score, not passed, "the set holds" if passed else None)
    return Outcome("scored", score, passed, None if passed else why)


def weighted(scores: list[tuple[float | None, float]]) -> float | None:
    """Return the weighted mean of the scores there are, the plain one where all weights are 0, None of none."""
    there = [(score, weight) for score, weight in scores if score is not None]
    if not there:
        return None
    total = math.fsum(weight for _, weight in there)
    if total <= 0:
        return math.fsum(score for score, _ in there) / len(there)
    return math.fsum(score * weight for score, weight in there) / total


def judged(assertion: Assertion) -> Iterator[Assertion]:
    """Yield an assertion, or those of its parts, that a model is asked for."""
    for part in assertion.parts:
        yield from judged(part)
    if not assertion.parts and isinstance(scorers.get(assertion.type), Judge):
        yield assertion
