"""The offline provider that answers from a file: for demos, tests and rehearsals of what can go wrong.

The model's name is the path of the file, `scripted/answers.yaml`, or any name whose `script` parameter is one. The
file is a YAML or JSON list, or JSON lines; an entry is a text or an object with these keys, all optional:

    prompt         answer only this prompt (exactly), whenever it comes; match: only prompts this regex finds
    content        the answer; reasoning: the thinking before it; finish_reason: "stop"
    usage          {input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens}
    cost_usd       what it reports to have cost, as a string
    delay_s        wait before the answer; chunk_delay_s: between its words
    error          {kind, status, message, retry_after_s, after_words}: fail, after so many words if given

An entry with prompt or match answers what it fits; the others answer the turns in order: the first the first, ...
Tokens that `usage` leaves out are counted as words, cost and cached tokens are unknown.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from llmsess.errors import InvalidInput, ProviderError
from llmsess.models import MAX_COST_USD, TOKEN_FIELDS, token_count
from llmsess.providers.base import Delta, Provider, Reply, Request, may_be_billed
from llmsess.providers.echo import count_words
from llmsess.settings import expanded

MAX_DELAY_S = 3_600


class Scripted(Provider):
    name = "scripted"

    def check(self, request: Request) -> None:
        load(script_of(request))

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        path = script_of(request)
        answer = choose(load(path), request, path)
        time.sleep(answer.get("delay_s", 0))
        error = answer.get("error")
        content, reasoning = answer.get("content", ""), answer.get("reasoning")
        if error is not None and "after_words" not in error:
            raise failure(error, billed=may_be_billed(error.get("status", 0)))
        if request.stream:
            if reasoning:
                yield Delta(reasoning=reasoning)
            for i, piece in enumerate(re.findall(r"\s*\S+\s*", content)):
                if error is not None and i >= error["after_words"]:
                    raise failure(error, billed=True)
                yield Delta(text=piece)
                time.sleep(answer.get("chunk_delay_s", 0))
        if error is not None:
            raise failure(error, billed=True)
        yield reply(answer, request, content, reasoning)

    def most_output_tokens(self, request: Request) -> int:
        path = script_of(request)
        try:
            answer = choose(load(path), request, path)
        except ProviderError:
            return 0
        return int(reply(answer, request, answer.get("content", ""), answer.get("reasoning")).output_tokens or 0)

    def count_tokens(self, request: Request) -> int:
        return count_words(request.system, *(turn.content for turn in request.turns))


def script_of(request: Request) -> str:
    """Return the path of the script that answers a request."""
    return str(request.parameters.get("script") or request.model)


def load(path: str) -> list[dict[str, Any]]:
    """Return the entries of a script; raises InvalidInput where the file is missing or is none."""
    try:
        text = expanded(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"the script {path} cannot be read", hint="a model scripted/PATH answers from PATH"
        ) from error
    return parse(path, text)


@functools.lru_cache(maxsize=8)
def parse(path: str, text: str) -> list[dict[str, Any]]:
    """Return the entries of a script's text, which is parsed once."""
    import yaml  # here: JSON lines do without

    try:
        if path.endswith(".jsonl"):
            entries: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        elif path.endswith(".json"):
            entries = json.loads(text)
        else:
            entries = yaml.safe_load(text)
    except ValueError as error:
        raise InvalidInput(f"the script {path} is no JSON: {error}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"the script {path} is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InvalidInput(f"the script {path} is nested too deeply") from error
    if not isinstance(entries, list) or not all(isinstance(entry, (str, dict)) for entry in entries):
        raise InvalidInput(f"the script {path} is no list of answers")
    answers = [{"content": entry} if isinstance(entry, str) else entry for entry in entries]
    for number, answer in enumerate(answers, 1):
        for key, value in answer.items():
            if key not in _CHECKS or not _CHECKS[key](value):
                raise InvalidInput(f'answer {number} of the script {path} has an odd "{key}"')
    return answers


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_span(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_DELAY_S


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _is_usage(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key in TOKEN_FIELDS and token_count(n) is not None for key, n in value.items()
    )


def _is_cost(value: Any) -> bool:
    try:
        return 0 <= Decimal(str(value)) < MAX_COST_USD
    except InvalidOperation:
        return False


_OF_ERROR: dict[str, Callable[[Any], bool]] = {
    "kind": _is_text, "message": _is_text, "retry_after_s": _is_span,
    "after_words": lambda n: token_count(n) is not None, "status": lambda n: isinstance(n, int) and 100 <= n <= 999,
}  # fmt: skip


def _is_error(value: Any) -> bool:
    return isinstance(value, dict) and all(key in _OF_ERROR and _OF_ERROR[key](item) for key, item in value.items())


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("prompt", "content", "reasoning", "finish_reason"), _is_text),
    **dict.fromkeys(("delay_s", "chunk_delay_s"), _is_span),
    "match": _is_pattern, "usage": _is_usage, "cost_usd": _is_cost, "error": _is_error,
}  # fmt: skip


def choose(entries: list[dict[str, Any]], request: Request, path: str) -> dict[str, Any]:
    """Return the entry that answers the request; raises ProviderError when the script has none."""
    prompts = [turn.content for turn in request.turns if turn.role == "user"]
    last = prompts[-1] if prompts else ""
    for entry in entries:
        if entry.get("prompt") == last or ("match" in entry and re.search(entry["match"], last)):
            return entry
    in_order = [entry for entry in entries if "prompt" not in entry and "match" not in entry]
    if 0 < len(prompts) <= len(in_order):
        return in_order[len(prompts) - 1]
    raise ProviderError(f"the script {path} has no answer for turn {len(prompts)}", error_kind="bad_request")


def failure(error: Mapping[str, Any], *, billed: bool) -> ProviderError:
    """Return the error that an entry asks for."""
    return ProviderError(
        error.get("message", "the script says: fail"),
        error_kind=error.get("kind", "server"),
        http_status=error.get("status"),
        retry_after_s=error.get("retry_after_s"),
        billed=billed,
    )


def reply(answer: Mapping[str, Any], request: Request, content: str, reasoning: str | None) -> Reply:
    """Return an entry's reply, what `usage` leaves out counted in words."""
    counted = {
        "input_tokens": count_words(request.system, *(turn.content for turn in request.turns)),
        "output_tokens": count_words(content, reasoning),
    }
    usage = counted | answer.get("usage", {})
    cost = answer.get("cost_usd")
    return Reply(
        content=content,
        reasoning=reasoning,
        finish_reason=answer.get("finish_reason", "stop"),
        usage=usage,
        cost_usd=None if cost is None else Decimal(str(cost)),
        model=request.model,
        **usage,
    )
