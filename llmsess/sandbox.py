"""Texts with variables, filled in where nothing can be reached or used up: Jinja, or names with a dollar.

A text with `{{`, `{%` or `{#` is Jinja; any other has its `$name` and `${name}` replaced, `$$` is a dollar. Jinja's own
sandbox keeps templates from Python; this one also bounds what they make (characters, items, digits) and how long they
take, so it knows only the filters and methods that are listed here. A missing variable is an error. Where Nunjucks is
meant (promptfoo's templates), a missing one is empty, values print as JavaScript's do, and its own filters are known.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from llmsess.errors import InvalidInput
from llmsess.models import dump_json
from llmsess.texts import one_line

MAX_CHARACTERS = 50_000_000  # of one text
MAX_ITEMS = 1_000_000  # of one list, all levels of it
MAX_BITS = 10_000  # of one number
MAX_STEPS = 2_000_000  # lines of a compiled template: about a second
MAX_S = 5.0
KEPT = 64  # templates that are kept compiled
GLOBALS = ("range", "dict", "namespace")  # names beside the variables
FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
    "reverse", "round", "select", "selectattr", "sort", "string", "striptags", "sum", "title", "tojson", "trim",
    "truncate", "unique", "upper", "urlencode", "wordcount",
)  # fmt: skip
METHODS = (
    "capitalize", "casefold", "count", "endswith", "find", "get", "index", "isalnum", "isalpha", "isdigit", "islower",
    "isspace", "isupper", "items", "keys", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind",
    "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper",
    "values",
)  # fmt: skip
_DOLLAR = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_TAGS = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NAME = "<template>"  # of the compiled code, as Jinja calls it
_CAUSES = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, MemoryError, RecursionError)


def is_jinja(text: str) -> bool:
    """Return whether a text is a Jinja template rather than one with $names."""
    return "{{" in text or "{%" in text or "{#" in text


@functools.lru_cache(maxsize=KEPT)
def names(text: str, *, nunjucks: bool = False) -> frozenset[str]:
    """Return the names that a text needs values for; raises InvalidInput for a text that is no template."""
    if not is_jinja(text):
        return frozenset(found[2] or found[3] for found in _DOLLAR.finditer(text) if not found[1])
    import jinja2
    from jinja2 import meta

    try:
        parsed = _environment(nunjucks).parse(_jinja(text) if nunjucks else text)
        return frozenset(meta.find_undeclared_variables(parsed).difference(GLOBALS))
    except (jinja2.TemplateSyntaxError, RecursionError) as error:
        raise _wrong(error) from error


def render(text: str, variables: Mapping[str, Any], *, nunjucks: bool = False) -> str:
    """Return a text with the values of its variables; raises InvalidInput where one is missing or it cannot be made."""
    if not is_jinja(text):
        missing = names(text) - variables.keys()
        if missing:
            raise InvalidInput(f"the template needs {', '.join(sorted(missing))}")
        return _DOLLAR.sub(lambda found: found[1] or str(variables[found[2] or found[3]]), text)
    import jinja2

    try:
        template = _compiled(text, nunjucks)
        with _bounded_steps():
            return str(template.render({str(key): value for key, value in variables.items()}))
    except (jinja2.TemplateSyntaxError, RecursionError) as error:
        raise _wrong(error) from error
    except (jinja2.TemplateError, *_CAUSES) as error:
        reason = one_line(str(error) or type(error).__name__, 200)
        raise InvalidInput(f"the template cannot be filled: {reason}") from error


@functools.lru_cache(maxsize=KEPT)
def _compiled(text: str, nunjucks: bool) -> Any:
    """Return a template, compiled once for all the rows that fill it."""
    return _environment(nunjucks).from_string(_jinja(text) if nunjucks else text)


def _jinja(text: str) -> str:
    """Return Nunjucks' text with the operators that Jinja writes otherwise."""
    return _TAGS.sub(lambda found: found[0].replace("===", "==").replace("!==", "!="), text)


def _wrong(error: Exception) -> InvalidInput:
    line = getattr(error, "lineno", None)
    where = f" in line {line}" if line else ""
    return InvalidInput(f"the template is wrong{where}: {one_line(str(error), 200)}")


@contextmanager
def _bounded_steps() -> Iterator[None]:
    """Let the compiled templates of a block run only so many lines."""
    from jinja2.exceptions import SecurityError

    steps, before, until = 0, sys.gettrace(), time.monotonic() + MAX_S

    def step(frame: Any, event: str, arg: Any) -> Any:
        nonlocal steps
        steps += event == "line"
        if steps > MAX_STEPS or time.monotonic() > until:
            raise SecurityError("it takes too long")
        return step

    def called(frame: Any, event: str, arg: Any) -> Any:
        return step(frame, "line", arg) if frame.f_code.co_filename == _NAME else None

    sys.settrace(called)
    try:
        yield
    finally:
        sys.settrace(before)


def joined(pieces: Iterable[Any]) -> str:
    """Return pieces as one text; raises SecurityError where that would be too long."""
    from jinja2.exceptions import SecurityError

    texts, size = [], 0
    for piece in pieces:
        check_items(piece)
        texts.append(str(piece))
        size += len(texts[-1])
        if size > MAX_CHARACTERS:
            raise SecurityError(f"it makes more than {MAX_CHARACTERS:,} characters")
    return "".join(texts)


def check_items(value: Any) -> None:
    """Raise SecurityError for lists in lists that have too many items, some of them again and again."""
    from jinja2.exceptions import SecurityError

    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, (list, tuple, dict)):
            count += len(item)
            if count > MAX_ITEMS:
                raise SecurityError(f"it makes more than {MAX_ITEMS:,} items")
            waiting += [*item.keys(), *item.values()] if isinstance(item, dict) else item


def _finalized(value: Any) -> Any:
    """Return a value that is about to become text; what only has an address is none."""
    from jinja2.exceptions import SecurityError
    from jinja2.runtime import Undefined

    check_items(value)
    if isinstance(value, Iterator) or (callable(value) and not isinstance(value, Undefined)):
        raise SecurityError("a function or a sequence without an end makes no text: use | list, or call it")
    return value


def _as_javascript(value: Any) -> Any:
    """Return a value that is about to become text as JavaScript prints it, objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return dump_json(value) if isinstance(_finalized(value), (dict, list)) else value


def _dumped(value: Any, spaces: int | None = None) -> str:
    return dump_json(value) if not spaces else json.dumps(value, ensure_ascii=False, indent=min(int(spaces), 10))


_OF_NUNJUCKS: dict[str, Callable[..., Any]] = {
    "dump": _dumped, "safe": lambda value: value, "load": lambda value: json.loads(str(value)),
    "nl2br": lambda value: str(value).replace("\n", "<br />\n"),
}  # fmt: skip


def _size(value: Any) -> int:
    """Return how large a value is, in characters or items; 0 where it is neither text nor list."""
    return len(value) if isinstance(value, (str, list, tuple)) else 0


def _check_operation(operator: str, left: Any, right: Any) -> None:
    """Raise SecurityError for an operation that would make too much."""
    from jinja2.exceptions import SecurityError

    sizes = [_size(left), _size(right)]
    most = MAX_CHARACTERS if isinstance(left, str) or isinstance(right, str) else MAX_ITEMS
    if operator == "%" and isinstance(left, str):
        raise SecurityError("% is not for texts: use ~")
    if operator == "*" and any(isinstance(value, (list, tuple)) for value in (left, right)):
        raise SecurityError("lists cannot be multiplied")
    if operator == "+" and sum(sizes) > most:
        raise SecurityError("a text or list that long is not for templates")
    if operator in ("*", "**"):
        times = [value for value in (left, right) if isinstance(value, int)]
        if any(sizes) and times and max(sizes) * max(times) > most:
            raise SecurityError("a text or list that long is not for templates")
        bits = [value.bit_length() for value in times]
        if len(bits) == 2 and (sum(bits) if operator == "*" else bits[0] * max(right, 0)) > MAX_BITS:
            raise SecurityError("a number that large is not for templates")


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    """Return a text with every `old` as `new`."""
    from jinja2.exceptions import SecurityError

    text, old, new = str(text), str(old), str(new)
    if len(text) + text.count(old) * len(new) > MAX_CHARACTERS:
        raise SecurityError(f"it makes more than {MAX_CHARACTERS:,} characters")
    replaced: str = text.replace(old, new, -1 if count is None else count)
    return replaced


def _join(items: Iterable[Any], between: str = "", attribute: str | None = None) -> str:
    """Return items as one text."""
    found = [item if attribute is None else item[attribute] for item in items]
    return joined(piece for i, item in enumerate(found) for piece in ((between, item) if i else (item,)))


@functools.cache
def _environment(nunjucks: bool = False) -> Any:
    """Return the sandbox: strict about names, without files, with what is listed here and no more."""
    import jinja2
    from jinja2.compiler import CodeGenerator
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generator(CodeGenerator):
        def visit_Concat(self, node: Any, frame: Any) -> None:
            self.write("environment.concat((")
            for inner in node.nodes:
                self.visit(inner, frame)
                self.write(", ")
            self.write("))")

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["+", "*", "**", "%"])
        code_generator_class = Generator
        concat = staticmethod(joined)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            _check_operation(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def is_safe_callable(self, obj: Any) -> bool:
            owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)  # Jinja wraps str.format
            if isinstance(owner, (str, bytes, list, tuple, dict, int, float)):
                return getattr(obj, "__name__", "") in METHODS
            return super().is_safe_callable(obj)

        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, dict) and attribute in obj:  # a key of a row may be called items
                return obj[attribute]
            if nunjucks and attribute == "length" and isinstance(obj, (str, list)):
                return len(obj)
            return super().getattr(obj, attribute)

    environment = Sandbox(
        undefined=jinja2.ChainableUndefined if nunjucks else jinja2.StrictUndefined, keep_trailing_newline=True,
        autoescape=False, finalize=_as_javascript if nunjucks else _finalized,
    )  # fmt: skip
    environment.globals = {name: environment.globals[name] for name in GLOBALS}
    own: dict[str, Callable[..., Any]] = {"replace": _replace, "join": _join, "tojson": dump_json}
    environment.filters = {name: _checked(own.get(name, environment.filters[name])) for name in FILTERS}
    if nunjucks:
        environment.filters |= {name: _checked(one) for name, one in _OF_NUNJUCKS.items()}
    return environment


def _checked(filter: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that takes only so many items."""

    @functools.wraps(filter)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for value in args:
            check_items(value)
        return filter(*args, **kwargs)

    return checked
