"""promptfoo's configuration as a comparison (https://www.promptfoo.dev/docs/configuration/reference/, 2026-11).

Prompts x providers become variants, tests and scenarios cases, assertions keep their names. What is code of another
language, or asks for what llmsess does not do, is told in the notes, and its assertions count as not run.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from llmsess import batches, definitions, sandbox
from llmsess.comparisons import cases
from llmsess.comparisons.cases import Case
from llmsess.comparisons.files import inside, read_text
from llmsess.comparisons.promptfoo_variants import PROGRAMS, judge_of, matching, prompts_of, variants_of
from llmsess.comparisons.specs import Spec, derived, limits
from llmsess.errors import InvalidInput
from llmsess.scorers import assertions
from llmsess.scorers.assertions import Assertion
from llmsess.texts import one_line

_NAMED_REF = "#/"
_SECRET = re.compile(r"api[_-]?key|token$|secret|passw|authorization|credential|cookie", re.IGNORECASE)
IGNORED = (
    "description", "tags", "prompts", "providers", "targets", "tests", "scenarios", "defaultTest", "env", "sharing",
    "evaluateOptions", "commandLineOptions", "outputPath", "derivedMetrics", "nunjucksFilters", "extensions",
    "assertionTemplates", "metadata", "writeLatestResults", "redteam", "$schema",
)  # fmt: skip


def read(value: Mapping[str, Any], base: Path, text: str, changed: Mapping[str, Any]) -> Spec:
    """Return a configuration as a definition.

    `changed` has what is said beside it: name, baseline, models (in the place of its providers), cases, scorers,
    repeats, judge, limits. Raises InvalidInput.
    """
    notes: list[str] = []
    value = _resolved(dict(value), value)
    run = value.get("evaluateOptions") or {}
    prompts = list(prompts_of(value.get("prompts") or ["{{ prompt }}"], base, notes))
    default = _default_test(value.get("defaultTest"), base)
    options = default.get("options") or {}
    found = list(_cases(value, default, base, notes, changed.get("cases")))
    for key in value:
        if key not in IGNORED:
            notes.append(f"{key} is not read")
    for key, why in (("extensions", "hooks are not run"), ("nunjucksFilters", "filters of JavaScript are not run")):
        if value.get(key):
            notes.append(why)
    return Spec(
        name=_name(changed.get("name"), value, base),
        variants=tuple(variants_of(value, changed.get("models"), prompts, base, notes)),
        cases=cases.distinct(found),
        text=_without_keys(text, value),
        baseline=changed.get("baseline"),
        assertions=tuple(map(assertions.parse, changed.get("scorers") or ())),
        repeats=int(changed.get("repeats") or run.get("repeat") or 1),
        judge=changed.get("judge") or judge_of(options.get("provider")),
        derived=tuple(derived(value.get("derivedMetrics") or [])),
        limits=_limits(run) | limits(changed),
        notes=tuple(dict.fromkeys((*notes, *cases.said_of_doubles(found)))),
        lenient=True,
    )


def _limits(run: Mapping[str, Any]) -> dict[str, Any]:
    return {} if run.get("maxConcurrency") is None else {"concurrency": run["maxConcurrency"]}


def _name(given: str | None, value: Mapping[str, Any], base: Path) -> str:
    """Return the name: what was given, the description, else that of the folder."""
    return one_line(str(given or value.get("description") or base.absolute().name or "promptfoo"), 200)


def _resolved(part: Any, whole: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a part of a configuration with `$ref: '#/...'` replaced by what it refers to."""
    if depth > 50:
        raise InvalidInput("a $ref refers to itself")
    if isinstance(part, list):
        return [_resolved(item, whole, depth) for item in part]
    if not isinstance(part, Mapping):
        return part
    reference = part.get("$ref")
    if not isinstance(reference, str) or not reference.startswith(_NAMED_REF):
        return {key: _resolved(item, whole, depth) for key, item in part.items()}
    found: Any = whole
    for step in reference.removeprefix(_NAMED_REF).split("/"):
        if not isinstance(found, Mapping) or step not in found:
            raise InvalidInput(f'"{one_line(reference, 60)}" refers to nothing')
        found = found[step]
    others = {key: item for key, item in part.items() if key != "$ref"}
    return _resolved({**found, **others} if isinstance(found, Mapping) else found, whole, depth + 1)


def _without_keys(text: str, value: Any) -> str:
    """Return the text of a configuration without the secrets that stand in it: these are never stored."""
    for secret in sorted(_secrets(value), key=len, reverse=True):
        text = text.replace(secret, "(left out)")
    return text


def _secrets(value: Any, named: bool = False) -> Iterator[str]:
    """Yield the texts under keys, tokens, headers and the like."""
    if isinstance(value, str) and named and len(value) > 3 and "{{" not in value:
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _secrets(item, named)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, named or _SECRET.search(str(key)) is not None)


# Tests

CASE_KEYS = ("vars", "assert", "description", "threshold", "metadata", "options")
OPTIONS = ("prefix", "suffix", "provider", "rubricPrompt", "transform", "postprocess", "disableVarExpansion",
           "disableDefaultAsserts")  # fmt: skip
CHANGED = "the answer would be changed first, by code of another language"
_CHANGES = ("transform", "postprocess", "providerOutput", "assertScoringFunction")  # that decide what is scored, or how


class Test(NamedTuple):
    """A test as a case, before its lists are crossed, and what is said of it beside."""

    case: Case
    options: Mapping[str, Any]


def _default_test(given: Any, base: Path) -> dict[str, Any]:
    if isinstance(given, str):
        given = definitions.load(read_text(inside(given, base)), given)
    return dict(given or {})


def _cases(
    value: Mapping[str, Any], default: Mapping[str, Any], base: Path, notes: list[str], given: Any
) -> Iterator[Case]:  # fmt: skip
    """Yield the cases of tests and scenarios, what holds for all of them joined on, numbered."""
    shared = _test({**default, "vars": default.get("vars") or {}}, base, notes)
    tests = value.get("tests") if given is None else given
    if tests is None and not value.get("scenarios"):
        tests = [{"vars": {}}]
    found = itertools.chain(_tests(tests, base, notes), _of_scenarios(value, base, notes))
    for number, one in enumerate(found, 1):
        for case in _merged(one, shared):
            yield replace(case, line=number)


def _of_scenarios(value: Mapping[str, Any], base: Path, notes: list[str]) -> Iterator[Test]:
    for scenario in _list(value.get("scenarios"), base):
        for config, test in itertools.product(_list(scenario.get("config"), base), _list(scenario.get("tests"), base)):
            yield from _tests([_joined(config, test)], base, notes)


def _list(value: Any, base: Path) -> list[Any]:
    """Return a list, of a file where a file is named."""
    if isinstance(value, str) and value.startswith("file://"):
        value = definitions.load(read_text(inside(value, base)), value)
    if value is None:
        return []
    found: list[Any] = []
    for one in value if isinstance(value, list) else [value]:
        found += _list(one, base) if isinstance(one, str) and one.startswith("file://") else [one]
    return [one for one in found if one is not None]


def _joined(config: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, Any]:
    """Return a test of a scenario under one of its configurations."""
    joined = {**config, **test, "vars": {**(config.get("vars") or {}), **(test.get("vars") or {})}}
    checks = [*(config.get("assert") or ()), *(test.get("assert") or ())]
    return joined | ({"assert": checks} if checks else {})


def _tests(tests: Any, base: Path, notes: list[str]) -> Iterator[Test]:
    """Yield a list of tests, of a file, or of several."""
    for one in tests if isinstance(tests, list) else [tests] if tests is not None else []:
        if isinstance(one, Mapping) and isinstance(one.get("path"), str):
            one = one["path"]
        if isinstance(one, str):
            yield from _of_files(one, base, notes)
        elif isinstance(one, Mapping):
            yield _test(one, base, notes)
        else:
            raise InvalidInput("a test is a mapping, or the path of a file of tests")


def _test(one: Mapping[str, Any], base: Path, notes: list[str]) -> Test:
    """Return a test; what it says that is not honoured is noted."""
    given = one.get("vars") or {}
    if isinstance(given, (str, list)):
        given = _vars_of(given, base)
    options = {**(one.get("options") or {}), **{name: one[name] for name in _CHANGES if one.get(name)}}
    for name in [*(one.keys() - {*CASE_KEYS, *_CHANGES}), *(options.keys() - {*OPTIONS, *_CHANGES})]:
        notes.append(f'"{one_line(str(name), 40)}" of a test is not honoured')
    if "conversationId" in (one.get("metadata") or {}):
        notes.append("tests of one conversation are asked each alone")
    row = {"vars": given, **{name: one[name] for name in CASE_KEYS[1:5] if one.get(name) is not None}}
    return Test(cases.of_test(row, base, lenient=True), options)


def _vars_of(given: Any, base: Path) -> dict[str, Any]:
    """Return the variables of files."""
    found: dict[str, Any] = {}
    for one in [given] if isinstance(given, str) else given:
        for path in matching(str(one).removeprefix("file://"), base):
            loaded = definitions.load(read_text(path), str(path))
            found |= loaded if isinstance(loaded, Mapping) else {}
    return found


def _of_files(name: str, base: Path, notes: list[str]) -> Iterator[Test]:
    plain = name.removeprefix("file://")
    if plain.startswith(("http://", "https://", "huggingface://")):
        raise InvalidInput(f"tests are not fetched from {one_line(plain, 80)}", hint="save them in a file")
    if plain.partition(":")[0].endswith(PROGRAMS) or plain.partition("#")[0].endswith((".xlsx", ".xls")):
        notes.append(f"the tests of {plain} are not read: a program, or a spreadsheet (save it as CSV)")
        return
    paths = matching(plain, base)
    if not paths:
        raise InvalidInput(f"there are no tests {one_line(plain, 80)}")
    for path in paths:
        if path.suffix in (".yaml", ".yml", ".json"):
            found = definitions.load(read_text(path), str(path))
            yield from _tests(found if isinstance(found, list) else [found], path.parent, notes)
        else:
            yield from _of_rows(path, notes)


def _of_rows(path: Path, notes: list[str]) -> Iterator[Test]:
    """Yield the tests of a CSV, whose columns are variables, or of JSON lines."""
    for row in batches.read(os.fspath(path.absolute())):
        if row.value is None:
            raise InvalidInput(f"{path.name}, line {row.line}: {row.problem}")
        if path.suffix == ".jsonl" and ({"vars", "assert"} & row.value.keys()):
            yield _test(row.value, path.parent, notes)
        else:
            yield Test(cases.of_csv(row.value, lenient=True), {})


def _merged(one: Test, shared: Test) -> Iterator[Case]:
    """Yield a test's cases with what holds for all tests, which its own words go before."""
    options = {**shared.options, **one.options}
    first = () if options.get("disableDefaultAsserts") else shared.case.assertions
    joined = replace(
        one.case,
        variables=cases.with_around({**shared.case.variables, **one.case.variables}, options),
        assertions=tuple(_judged(check, options) for check in (*first, *one.case.assertions)),
        description=one.case.description or shared.case.description,
        threshold=shared.case.threshold if one.case.threshold is None else one.case.threshold,
        metadata={**shared.case.metadata, **one.case.metadata},
    )
    for case in [joined] if options.get("disableVarExpansion") else cases.crossed(joined, whole=()):
        yield replace(case, assertions=tuple(_named(check, case) for check in case.assertions))


def _judged(check: Assertion, options: Mapping[str, Any]) -> Assertion:
    """Return an assertion with what its test says of it: who judges, and whether it can be run at all."""
    given = {name: options[name] for name in ("provider", "rubricPrompt") if options.get(name)}
    changed = any(options.get(name) for name in _CHANGES)
    unusable = check.unusable or (CHANGED if changed else None)
    return replace(check, options={**given, **check.options}, unusable=unusable)


def _named(check: Assertion, case: Case) -> Assertion:
    """Return an assertion whose metric's name is filled with the case's variables."""
    if check.metric is None or not sandbox.is_jinja(check.metric):
        return check
    return replace(check, metric=one_line(sandbox.render(check.metric, case.variables, nunjucks=True), 100))
