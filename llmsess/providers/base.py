"""What a provider is: something that turns a Request into Deltas and, at the end, one Reply.

A provider sends once. It never retries, stores nothing and prints nothing; it raises ProviderError, whose `billed`
says whether the request may have been charged. Write one by subclassing `Provider`, register it in
`llmsess.providers` or under the entry point group `llmsess.providers`, and the conformance suite in
tests/test_providers.py tells whether it is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple

from llmsess.errors import ProviderError
from llmsess.models import TOKEN_FIELDS, dump_json, token_count
from llmsess.providers import secrecy


class Turn(NamedTuple):
    """One message as a provider gets it: role system, developer, user, assistant or tool, and its text.

    `blocks` is the exact structured content where there is more than text, else None.
    """

    role: str
    content: str
    blocks: Sequence[Any] | None = None


@dataclass(frozen=True)
class Request:
    """Everything one request needs. `model` is the provider's own name; parameters go to the server as they are.

    `schema` is a JSON Schema that the answer should fit; a server that cannot be asked for that is not.
    """

    model: str
    turns: Sequence[Turn]
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    stream: bool = True
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0

    def sha256(self) -> str:
        """Return the hash of what is asked, without the key, the address and the way it comes back."""
        asked = {
            "model": self.model,
            "system": self.system,
            "turns": [[turn.role, turn.content, turn.blocks] for turn in self.turns],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "parameters": dict(self.parameters),
            "schema": self.schema,
        }
        return hashlib.sha256(dump_json(asked).encode()).hexdigest()


@dataclass(frozen=True)
class Delta:
    """A piece of a streamed reply."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Reply:
    """A whole reply. Tokens are normalised: input includes cached and cache writes, output includes reasoning."""

    content: str
    reasoning: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()  # blocks: {"type": "tool_use", "id", "name", "input"}
    finish_reason: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: Mapping[str, Any] | None = None  # the provider's own object, verbatim
    cost_usd: Decimal | None = None  # where the provider says what it charged
    model: str | None = None  # the model that answered, in the provider's words
    request_id: str | None = None
    http_status: int | None = None


NEVER_BILLED = (503, 529)  # of a server's own errors: it did not begin


def may_be_billed(status: int) -> bool:
    """Return whether a request that was answered with that status may be charged all the same."""
    return status >= 500 and status not in NEVER_BILLED


class Provider(ABC):
    """One back end. `key_env` names the environment variable of its key, None where it needs none.

    `dialect` is whose API it speaks, openai or anthropic, so that requests written for that can go as they stand.
    """

    name: str
    dialect: str | None = None
    key_env: str | None = None
    base_url: str | None = None

    def check(self, request: Request) -> None:  # noqa: B027  most have nothing to check
        """Raise InvalidInput where the request, whose turns may be still to come, could never be sent; send nothing."""

    def count_tokens(self, request: Request) -> int | None:
        """Return exactly how many tokens the request has, None where only the server knows; send nothing."""
        return None

    def most_output_tokens(self, request: Request) -> int | None:
        """Return how many tokens the answer can have, None where nobody says."""
        limits = (
            request.max_tokens,
            *(request.parameters.get(name) for name in ("max_tokens", "max_completion_tokens")),
        )
        return next((limit for limit in limits if isinstance(limit, int)), None)

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep connections open from one request to the next within a block; several threads may send in it."""
        yield

    def answer(self, request: Request) -> Generator[Delta | Reply]:
        """Send the request and yield its deltas and one Reply that can be stored; raises ProviderError.

        The request's key is kept out of every text, should a server repeat it.
        """
        text, reasoning, ended = secrecy.Pieces(request.api_key), secrecy.Pieces(request.api_key), False
        try:
            for item in self.send(request):
                if isinstance(item, Delta):
                    said, thought = text.take(item.text), reasoning.take(item.reasoning)
                else:
                    said, thought, ended = text.rest(), reasoning.rest(), True
                if said or thought:
                    yield Delta(said, thought)
                if not isinstance(item, Delta):
                    yield secrecy.hidden(storable(item), request.api_key)
            if not ended:
                raise ProviderError("the reply never ended", error_kind="truncated", billed=True)
        except ProviderError as error:
            said, thought = text.rest(), reasoning.rest()
            if said or thought:
                yield Delta(said, thought)
            raise secrecy.hidden(error, request.api_key) from error

    @abstractmethod
    def send(self, request: Request) -> Iterator[Delta | Reply]:
        """Send the request; yield its deltas (none if it is not streamed), then the one Reply. Raises ProviderError."""

    def models(self, *, base_url: str | None = None, api_key: str | None = None) -> list[str]:
        """Return the names of the models the server has, as `list_models()` does, the key kept out of every text."""
        try:
            return self.list_models(base_url=base_url, api_key=api_key)
        except ProviderError as error:
            raise secrecy.hidden(error, api_key) from error

    def list_models(self, *, base_url: str | None = None, api_key: str | None = None) -> list[str]:
        """Return the names of the models the server has. Raises ProviderError where it cannot say."""
        raise ProviderError(f"{self.name} cannot list its models", error_kind="bad_request")


def storable(reply: Reply) -> Reply:
    """Return a reply whose figures can be stored: what is odd about them must not cost a reply that came."""
    checked = {name: check(getattr(reply, name)) for name, check in _CHECKS}
    odd: dict[str, Any] = {name: value for name, value in checked.items() if value is not getattr(reply, name)}
    return replace(reply, **odd) if odd else reply


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _cost(value: Any) -> Decimal | None:
    return value if isinstance(value, Decimal) and value.is_finite() else None


def _json(value: Any) -> Any:
    """Return a value as JSON can hold it, numbers of other kinds as texts, None where it cannot."""
    if not value:
        return value
    try:
        dump_json(value)
        return value
    except (TypeError, ValueError, RecursionError):
        return _forced(value)


def _forced(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=str))
    except (TypeError, ValueError, RecursionError):
        return None


_CHECKS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    *((name, token_count) for name in TOKEN_FIELDS), ("reasoning", _word), ("finish_reason", _word), ("model", _word),
    ("request_id", _word), ("cost_usd", _cost), ("usage", _json), ("tool_calls", _json),
)  # fmt: skip
