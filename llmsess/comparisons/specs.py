"""A comparison's definition: variants, cases, assertions, repeats; from a mapping, YAML, JSON, or options.

    name: capitals
    baseline: small
    variants:
      - {name: small, model: openai/gpt-5-mini}
      - {name: large, model: openai/gpt-5, system: Think first., parameters: {max_tokens: 200}}
    prompt: What is the capital of {{ country }}? One word.
    cases: capitals.csv
    scorers:
      - {type: icontains, value: "{{ expected }}"}
    repeats: 2

Instead of `variants`, lists of `models`, `prompts`, `systems` and `parameters` are crossed. A mapping with `providers`
or `tests` is promptfoo's, and is read by `promptfoo`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmsess import batches, definitions, door, request_parameters, sandbox
from llmsess.comparisons import cases
from llmsess.comparisons.cases import Case
from llmsess.comparisons.files import inside, read_text
from llmsess.errors import InvalidInput, did_you_mean
from llmsess.models import dump_json
from llmsess.scorers import assertions
from llmsess.scorers.assertions import Assertion
from llmsess.settings import expanded
from llmsess.texts import one_line

MAX_REPEATS = 1_000
MAX_CELLS = 1_000_000
NAME_CHARACTERS = 200
Prompt = str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True)
class Variant:
    """One of the things that are compared: where it goes, and with what."""

    name: str
    model: str | None
    prompt: Prompt = None  # a template, a text or messages; None: the case is the prompt
    system: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """A whole definition. `text` is what was read; `notes` say what of another tool's file is not honoured."""

    name: str
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]
    text: str
    baseline: str | None = None
    assertions: tuple[Assertion, ...] = ()
    repeats: int = 1
    judge: str | None = None
    cluster: str | None = None
    derived: tuple[Mapping[str, str], ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    lenient: bool = False  # a variable that a case lacks is empty, as promptfoo has it

    @property
    def sha256(self) -> str:
        """Return the hash of what was read."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def cells(self) -> int:
        """Return how many answers it asks for."""
        return len(self.variants) * len(self.cases) * self.repeats


KEYS = ("name", "description", "baseline", "variants", "models", "prompts", "systems", "parameters", "prompt", "system",
        "cases", "scorers", "repeats", "judge", "cluster", "threshold", "derived", "limits",
        *batches.LIMITS)  # fmt: skip


def read(source: str | os.PathLike[str] | Mapping[str, Any], **changed: Any) -> Spec:
    """Return the definition of a mapping, a text of YAML or JSON, or the path of a file with one.

    `changed` replaces keys of it: name, baseline, models, cases, scorers, repeats, judge, limits. Raises InvalidInput.
    """
    value, base, text = _source(source)
    given = {key: item for key, item in changed.items() if item is not None}
    if {"providers", "tests", "scenarios", "targets"} & value.keys():
        from llmsess.comparisons import promptfoo

        spec = promptfoo.read(value, base, text, given)
    else:
        trusted = isinstance(source, Mapping) or "cases" in given  # named by the caller, not by a file
        spec = _own(value | given, base, text, trusted=trusted)
    return _checked(spec)


def _source(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Any], Path, str]:
    """Return a definition as a mapping, the folder that its paths are of, and its text."""
    if isinstance(source, Mapping):
        value = door.json_object(dict(source), "a comparison")
        return value, Path(), dump_json(value)
    base, text = Path(), os.fspath(source)
    if "\n" not in text and not text.lstrip().startswith("{"):
        path = expanded(text)
        base, text = path.parent, read_text(path)
    return definitions.mapping(definitions.load(text, "the comparison"), "a comparison"), base, text


# Our own form


def _own(value: dict[str, Any], base: Path, text: str, *, trusted: bool) -> Spec:
    for key in value:
        if key not in KEYS:
            guess = did_you_mean(key, KEYS)
            raise InvalidInput(f'a comparison has no "{one_line(key, 40)}"{guess}', hint=f"it has {', '.join(KEYS)}")
    threshold = assertions.number(value.get("threshold"), "threshold")
    default_cases = [{}] if value.get("cases") is None else value["cases"]
    if isinstance(default_cases, str) and not trusted and default_cases != "-":
        default_cases = str(inside(default_cases, base).absolute())
    found = tuple(cases.read(default_cases, base, threshold=threshold))
    scorers = value.get("scorers") or []
    return Spec(
        name=name_of(value.get("name")),
        variants=tuple(_variants(value, base)),
        cases=cases.distinct(found),
        text=text,
        baseline=value.get("baseline"),
        assertions=tuple(
            assertions.parse(cases.with_file(one, base))
            for one in (scorers if isinstance(scorers, list) else [scorers])
        ),
        repeats=_repeats(value.get("repeats", 1)),
        judge=value.get("judge"),
        cluster=value.get("cluster"),
        derived=tuple(derived(value.get("derived") or [])),
        limits=limits(value),
        notes=cases.said_of_doubles(found),
    )


def name_of(value: Any, thing: str = "comparison") -> str:
    """Return a name for a comparison, or a variant; raises InvalidInput."""
    if value is None:
        raise InvalidInput(f"a {thing} needs a name", hint="name: ..., or --name")
    plain = door.text(value, "a name").strip()
    odd = plain.startswith("@") or len(plain) > NAME_CHARACTERS or plain != one_line(plain, 999)
    if not plain or odd:
        raise InvalidInput(f'"{one_line(plain, 40)}" is no name for a {thing}', hint="one short line")
    return plain


def _repeats(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_REPEATS:
        raise InvalidInput(f"repeats is a number from 1 to {MAX_REPEATS}, not {one_line(str(value), 40)}")
    return value


def limits(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a run that a definition has, under `limits` or beside the other keys."""
    given = value.get("limits") or {}
    if not isinstance(given, Mapping):
        raise InvalidInput("limits is a mapping", hint=f"of {', '.join(batches.LIMITS)}")
    named = {str(name): item for name, item in given.items()}
    return {**named, **{name: value[name] for name in batches.LIMITS if value.get(name) is not None}}


def derived(value: Any) -> Iterable[dict[str, str]]:
    """Yield the metrics that are formulas over others."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, Mapping) or not all(isinstance(one.get(key), str) for key in ("name", "value")):
            raise InvalidInput("a derived metric has a name and a value, a formula over the others")
        yield {"name": one["name"], "value": one["value"]}


def _variants(value: dict[str, Any], base: Path) -> Iterable[Variant]:
    """Yield the variants that are listed, or that the lists of their parts cross to."""
    common = {"prompt": value.get("prompt"), "system": value.get("system")}
    parameters = value.get("parameters")
    if value.get("variants") is not None and value.get("models") is None:
        for one in _list(value["variants"], "variants"):
            yield _variant(one, common, parameters if isinstance(parameters, Mapping) else None, base)
        return
    parts: dict[str, list[Any]] = {
        "model": _list(value.get("models") or [], "models"),
        "prompt": _list(value.get("prompts") or [common["prompt"]], "prompts"),
        "system": _list(value.get("systems") or [common["system"]], "systems"),
        "parameters": parameters if isinstance(parameters, list) else [parameters],
    }
    for chosen in itertools.product(*(list(enumerate(part)) for part in parts.values())):
        given = {name: item for name, (_, item) in zip(parts, chosen, strict=True)}
        yield _variant(given | {"name": crossed_name(parts, chosen)}, common, None, base)


def crossed_name(parts: Mapping[str, list[Any]], chosen: Iterable[tuple[int, Any]]) -> str:
    """Return the name of a crossed variant: its model, and what else differs among them."""
    words = []
    for (part, items), (number, item) in zip(parts.items(), chosen, strict=True):
        if part == "model":
            words.append(str(item))
        elif len(items) > 1:
            words.append(f"{part} {number + 1}")
    return ", ".join(words)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"{name} is a list")
    return value


def _variant(one: Any, common: Mapping[str, Any], parameters: Mapping[str, Any] | None, base: Path) -> Variant:
    if isinstance(one, str):
        one = {"name": one, "model": one}
    if not isinstance(one, Mapping):
        raise InvalidInput("a variant is a mapping with a name and a model")
    unknown = one.keys() - {"name", "model", "prompt", "system", "parameters", "temperature", "max_tokens"}
    if unknown:
        known = "name, model, prompt, system, parameters"
        raise InvalidInput(f"a variant has no {', '.join(sorted(map(str, unknown)))}", hint=f"it has {known}")
    model = one.get("model")
    if not isinstance(model, str) or not model.strip():
        raise InvalidInput(f"the variant {one_line(str(one.get('name')), 40)} needs a model, as provider/name")
    if not isinstance(one.get("parameters") or {}, Mapping):
        raise InvalidInput("parameters are a mapping")
    own = {name: one[name] for name in ("temperature", "max_tokens") if one.get(name) is not None}
    given = dict(parameters or {}) | dict(one.get("parameters") or {}) | own
    return Variant(
        name=name_of(one.get("name", model), "variant"),
        model=model,
        prompt=prompt_of(one.get("prompt") or common["prompt"], base),
        system=_text(one.get("system") or common["system"], "system"),
        parameters=request_parameters.checked(given) or {},
    )


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f"{name} is a text")
    return value or None


def prompt_of(value: Any, base: Path) -> Prompt:
    """Return a prompt: a template as text, a list of messages, or what a file:// has."""
    if value is None or isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise InvalidInput("a prompt is a text or a list of messages")
    return read_text(inside(value, base)) if value.startswith("file://") else value


# Checks of the whole


def _checked(spec: Spec) -> Spec:
    """Return a definition that can be run; raises InvalidInput."""
    names = [variant.name for variant in spec.variants]
    if not names:
        raise InvalidInput("there is nothing to compare: no variants", hint="-m MODEL -m MODEL, or variants:")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"two variants are called {twice[0]}", hint="give each a name of its own")
    if not spec.cases:
        raise InvalidInput("there is nothing to ask: no cases")
    if spec.baseline is not None and spec.baseline not in names:
        guess = did_you_mean(str(spec.baseline), names)
        raise InvalidInput(f'the baseline "{one_line(str(spec.baseline), 60)}" is no variant{guess}')
    if spec.cells > MAX_CELLS:
        raise InvalidInput(f"{spec.cells:,} answers are too many for one comparison: at most {MAX_CELLS:,}")
    for name in ("judge", "cluster"):
        _text(getattr(spec, name), name)
    known = {name for case in spec.cases for name in (*case.variables, *case.metadata)}
    if spec.cluster is not None and spec.cluster not in known:
        guess = did_you_mean(spec.cluster, known)
        raise InvalidInput(f'no case has the variable or metadata "{one_line(spec.cluster, 40)}" to cluster by{guess}')
    for variant in spec.variants:
        for text in texts_of(variant):
            sandbox.names(text, nunjucks=spec.lenient) if sandbox.is_jinja(text) else None
    return spec


def texts_of(variant: Variant) -> list[str]:
    """Return the texts of a variant's prompt and system prompt, templates among them."""
    found: list[str] = [variant.system] if variant.system else []
    each_text(variant.prompt, found.append)
    return found


def each_text(value: Any, take: Callable[[str], object]) -> None:
    """Call a function with each text in a value."""
    if isinstance(value, str):
        take(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            each_text(item, take)
    elif isinstance(value, list):
        for item in value:
            each_text(item, take)
