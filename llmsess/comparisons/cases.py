"""Cases: what every variant is asked. From lists, CSV, JSON lines, Inspect's datasets, openai/evals samples, sessions.

A case is known by what it says, not by its row: the hash of its variables and messages, the expected answer left out,
so that a corrected expectation needs no new answer. A variable that is a list stands for several cases, one for each
of its values (but for `expected`, `choices`, and their like). What a row is, its keys tell:

    vars, assert, ...           promptfoo's test
    input with ideal            a sample of openai/evals; the ideal answer is the variable `expected`
    input with target, choices  a sample of an Inspect dataset; the target is `expected`
    messages                    a conversation
    anything else               variables; columns `__expected`, `__description`, ... as in promptfoo's CSVs
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llmsess import batches, definitions
from llmsess.batches import Row
from llmsess.comparisons.files import inside, read_text
from llmsess.errors import InvalidInput
from llmsess.models import dump_json
from llmsess.scorers import assertions, json_values
from llmsess.scorers.assertions import Assertion
from llmsess.scorers.base import texts_of
from llmsess.settings import expanded
from llmsess.texts import too_deep

EXPECTED = ("expected", "ideal", "target")
WHOLE = (*EXPECTED, "choices", "messages", "metadata")  # variables that are lists without standing for several cases
ASKED = ("prompt", "input", "question")  # variables that are the prompt where nothing else is
MAX_CROSSED = 100_000
NO_TEXTS = (".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp3", ".wav", ".mp4", ".zip", ".xlsx", ".docx")
PROBLEMS_SHOWN = 5
_EXPECTED = re.compile(r"__expected(.*)")
_CONFIG = re.compile(r"__config:(__expected[^:]*):(threshold|metric|weight)")
_TEST = ("vars", "assert", "options", "description", "threshold", "metadata")


@dataclass(frozen=True)
class Case:
    """A case. `messages` are asked where the variant has no prompt of its own; `line` is where it stands."""

    variables: Mapping[str, Any] = field(default_factory=dict)
    messages: list[Any] | None = None
    assertions: tuple[Assertion, ...] = ()
    description: str | None = None
    threshold: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    key: str = ""

    def hash(self, *, whole: bool = False) -> str:
        """Return the hash of what it says, with `whole` of what is expected too."""
        asked = {name: item for name, item in self.variables.items() if whole or name not in EXPECTED}
        return hashlib.sha256(dump_json([asked, self.messages]).encode()).hexdigest()[:32]


def read(source: Any, base: Path, *, threshold: float | None = None, lenient: bool = False) -> Iterator[Case]:
    """Yield the cases of a list, of the path of a file beside the definition, or of rows; raises InvalidInput for all.

    `threshold` is that of cases which have none; `lenient` keeps assertions of unknown types as not run.
    """
    problems: list[str] = []
    bad = count = 0
    for row in _rows(source, base):
        count += 1
        try:
            if row.value is None:
                raise InvalidInput(row.problem or "the row cannot be read")
            for case in of_row(row.value, base, lenient=lenient):
                yield replace(case, line=row.line, threshold=threshold if case.threshold is None else case.threshold)
        except InvalidInput as error:
            bad += 1
            problems += [f"case {row.line}: {error}"] if bad <= PROBLEMS_SHOWN else []
    if bad:
        more = f"; and {bad - PROBLEMS_SHOWN:,} more" if bad > PROBLEMS_SHOWN else ""
        raise InvalidInput(f"{bad:,} of {count:,} cases cannot be read: {'; '.join(problems)}{more}")


def _rows(source: Any, base: Path) -> Iterable[Row]:
    """Return the rows of a source."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source).removeprefix("file://")
        path = expanded(name)
        return _of_file(path if path.is_absolute() or name == "-" else base / path)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise InvalidInput("cases are a list, or the path of a CSV or of JSON lines")
    return (one if isinstance(one, Row) else _given(number, one) for number, one in enumerate(source, 1))


def _of_file(path: Path) -> Iterable[Row]:
    if path.suffix in (".yaml", ".yml"):
        found = definitions.load(read_text(path), str(path))
        return _rows(found if isinstance(found, list) else [found], path.parent)
    return batches.read(path if str(path) != "-" else "-")


def _given(number: int, one: Any) -> Row:
    if isinstance(one, str):
        return Row(number, {"prompt": one})
    if not isinstance(one, Mapping):
        return Row(number, None, f"a case is a mapping or a text, not {type(one).__name__}")
    return Row(number, {str(key): item for key, item in one.items()})


# What a row is


def of_row(row: Mapping[str, Any], base: Path, *, lenient: bool = False) -> Iterator[Case]:
    """Yield the cases that a row stands for; raises InvalidInput."""
    if isinstance(row.get("vars"), Mapping) or (isinstance(row.get("assert"), list) and not row.keys() - {*_TEST}):
        case = of_test(row, base, lenient=lenient)
    elif "input" in row and "ideal" in row:
        case = _of_sample(row, row["ideal"])
    elif "input" in row and ({"target", "choices"} & row.keys()):
        case = _of_sample(row, row.get("target"))
    elif any(name.startswith("__") for name in row):
        case = of_csv(row, lenient=lenient)
    else:
        messages = row.get("messages")
        case = Case({name: item for name, item in row.items() if name != "messages"}, _messages(messages))
    yield from crossed(case)


def _messages(value: Any) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, Mapping) and "role" in one for one in value):
        raise InvalidInput("messages are objects with a role and content")
    return list(value)


def of_test(row: Mapping[str, Any], base: Path, *, lenient: bool) -> Case:
    """Return promptfoo's test as a case, its lists as they are."""
    given, described, metadata = row.get("assert") or (), row.get("description"), row.get("metadata") or {}
    if not isinstance(given, (list, tuple)):
        raise InvalidInput("assert is a list of assertions")
    if not isinstance(described, (str, type(None))) or not isinstance(metadata, Mapping):
        raise InvalidInput("a description is a text, metadata a mapping")
    return Case(
        {str(name): loaded(item, base) if lenient else item for name, item in (row.get("vars") or {}).items()},
        _messages(row.get("messages")),
        tuple(assertions.parse(with_file(one, base) if lenient else one, lenient=lenient) for one in given),
        described,
        assertions.number(row.get("threshold"), "threshold"),
        metadata,
    )


def loaded(value: Any, base: Path) -> Any:
    """Return a value of a definition, one that names a file of text by what the file says."""
    if not isinstance(value, str) or not value.startswith("file://"):
        return value
    path = inside(value, base)
    if any(sign in path.name for sign in "*?["):
        return [loaded(f"file://{one}", base) for one in sorted(path.parent.absolute().glob(path.name))]
    if path.suffix in (".py", ".js", ".mjs", ".cjs", ".ts"):
        raise InvalidInput(f"{value} is a program, whose output is not made here")
    if path.suffix.lower() in NO_TEXTS:
        raise InvalidInput(f"{value} is no text")
    text = read_text(path)
    return definitions.load(text, value) if path.suffix in (".yaml", ".yml", ".json") else text.rstrip("\n")


def with_file(given: Any, base: Path) -> Any:
    """Return an assertion whose value names a file of data with what the file says in its place."""
    if not isinstance(given, Mapping):
        return given
    if isinstance(given.get("assert"), list):
        return {**given, "assert": [with_file(one, base) for one in given["assert"]]}
    value = given.get("value")
    if not isinstance(value, str) or not value.startswith("file://"):
        return given
    path, _, function = value.removeprefix("file://").partition(":")
    if path.endswith(".py"):
        if given.get("type") not in ("python", "not-python"):
            return {**given, "unusable": f"{value} is a program, whose output is not made here"}
        return {**given, "value": f"file://{inside(path, base).absolute()}{':' + function if function else ''}"}
    if path.endswith((".js", ".mjs", ".cjs", ".ts", ".rb")):
        return {**given, "unusable": f"{value} is code of another language"}
    return {**given, "value": loaded(value, base)}


def _of_sample(row: Mapping[str, Any], expected: Any) -> Case:
    """Return a sample of openai/evals or of an Inspect dataset as a case."""
    said = row["input"]
    others = {
        name: item for name, item in row.items() if name not in ("input", "ideal", "target", "metadata", "id")
        and item is not None
    }  # fmt: skip
    metadata = dict(row.get("metadata") or {}) if isinstance(row.get("metadata"), Mapping) else {}
    if row.get("id") is not None:
        metadata["id"] = row["id"]
    if isinstance(others.get("choices"), str):  # of a CSV
        others["choices"] = _choices(others["choices"])
    wanted = {} if expected is None else {"expected": expected}
    if isinstance(said, list):
        return Case(others | wanted, _messages(said), metadata=metadata)
    if not isinstance(said, str):
        raise InvalidInput("input is a text or a list of messages")
    return Case({"input": said} | others | wanted, None, metadata=metadata)


def _choices(text: str) -> list[str]:
    """Return the choices of a cell: a JSON list, or texts with commas between."""
    found = json_values.parsed(text)
    return texts_of(found if isinstance(found, list) else text)


def of_csv(row: Mapping[str, Any], *, lenient: bool) -> Case:
    """Return a row of promptfoo's CSV as a case."""
    variables = {name: _object(item) for name, item in row.items() if not name.startswith("__")}
    configured: dict[str, dict[str, Any]] = {}
    for name, item in row.items():
        found = _CONFIG.fullmatch(name)
        if found and item not in (None, ""):
            configured.setdefault(_place(found[1]), {})[found[2]] = item
    checks = []
    for name, item in row.items():
        if _EXPECTED.fullmatch(name) and item not in (None, ""):
            one = assertions.parse(str(item), lenient=True).as_json()
            one |= configured.get(_place(name)) or {}
            if row.get("__metric"):
                one.setdefault("metric", row["__metric"])
            checks.append(assertions.parse(one, lenient=lenient))
    metadata = {}
    for name, item in row.items():
        if name.startswith("__metadata:") and item not in (None, ""):
            key = name.removeprefix("__metadata:")
            metadata[key.removesuffix("[]")] = _parts(str(item)) if key.endswith("[]") else item
    around = {name: row[f"__{name}"] for name in ("prefix", "suffix") if row.get(f"__{name}")}
    least = assertions.number(row.get("__threshold"), "threshold")
    return Case(with_around(variables, around), None, tuple(checks), row.get("__description") or None, least, metadata)


PREFIX, SUFFIX = "_prefix", "_suffix"  # variables of a case that stand before and after its prompt


def with_around(variables: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables with the texts that promptfoo puts before and after a case's prompt."""
    around = {PREFIX: options.get("prefix"), SUFFIX: options.get("suffix")}
    return {**variables, **{name: text for name, text in around.items() if isinstance(text, str) and text}}


def _place(name: str) -> str:
    """Return which expectation a column is of, the first where it has no number."""
    return name.removeprefix("__expected") or "1"


def _object(value: Any) -> Any:
    """Return a cell that is a JSON object as such, so that a prompt can name what is in it."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return found if isinstance(found, dict) and not too_deep(value, found) else value


def _parts(text: str) -> list[str]:
    return [part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]


def crossed(case: Case, whole: tuple[str, ...] = WHOLE) -> Iterator[Case]:
    """Yield a case for each combination of the values of its variables that are lists, but for those named whole."""
    lists = {name: item for name, item in case.variables.items() if isinstance(item, list) and name not in whole}
    if not lists:
        yield case
        return
    count = 1
    for items in lists.values():
        count *= len(items)
    if not 0 < count <= MAX_CROSSED:
        raise InvalidInput(f"its lists stand for {count:,} cases" if count else "a variable is an empty list")
    for chosen in itertools.product(*lists.values()):
        yield replace(case, variables={**case.variables, **dict(zip(lists, chosen, strict=True))})


# All of them


def distinct(found: Iterable[Case]) -> tuple[Case, ...]:
    """Return the cases with their keys, equal ones once: asking twice is no further evidence.

    Assertions of equal ones are joined. Where they expect different things, or have thresholds and not the same
    assertions, they are several, in whatever order they come.
    """
    alike: dict[str, list[Case]] = {}
    for case in found:
        alike.setdefault(case.hash(), []).append(case)
    keyed: dict[str, Case] = {}
    for key, group in alike.items():
        parted = len({dump_json(_expected(case)) for case in group}) > 1
        unlike = any(case.assertions != group[0].assertions for case in group)
        strict = unlike and any(case.threshold is not None for case in group)
        for case in group:
            _join(keyed, _key(case, strict) if parted or strict else key, case)
    return tuple(sorted(keyed.values(), key=lambda case: case.line))


def _key(case: Case, strict: bool) -> str:
    """Return the key of a case that asks what others ask, and expects something else."""
    if not strict:
        return case.hash(whole=True)
    said = [case.hash(whole=True), case.threshold, *(one.as_json() for one in case.assertions)]
    return hashlib.sha256(dump_json(said).encode()).hexdigest()[:32]


def _join(keyed: dict[str, Case], key: str, case: Case) -> None:
    """Add a case under its key, or its assertions to the one that is there."""
    known = keyed.get(key)
    if known is None:
        keyed[key] = replace(case, key=key)
    else:
        more = tuple(one for one in case.assertions if one not in known.assertions)
        keyed[key] = replace(known, assertions=(*known.assertions, *more))


def _expected(case: Case) -> list[Any]:
    return [case.variables.get(name) for name in EXPECTED]


def said_of_doubles(found: Sequence[Case]) -> tuple[str, ...]:
    """Return the note that says how many cases are equal to one before."""
    doubles = len(found) - len(distinct(found))
    words = "1 case asks" if doubles == 1 else f"{doubles:,} cases ask"
    return (f"{words} what another asks, and count once with it",) if doubles else ()


def default_prompt(case: Case) -> str | list[Any] | None:
    """Return what a case asks where the variant has no prompt: its messages, or the variable that is a prompt."""
    if case.messages is not None:
        return case.messages
    said = next((case.variables[name] for name in ASKED if isinstance(case.variables.get(name), str)), None)
    choices = case.variables.get("choices")
    if said is None or not isinstance(choices, list) or not choices:
        return said
    listed = [f"{letter}) {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False)]
    return "\n".join([said, "", *listed, "", "Answer with the letter of the right choice alone."])
