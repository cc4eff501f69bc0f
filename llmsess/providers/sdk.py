"""What the providers share that stand on a vendor's SDK: the client, the bytes of its answers, its errors made ours.

The SDKs of OpenAI and Anthropic are made by one generator: their clients, options and errors have the same names.
Retries are switched off, since llmsess counts its own, and so are redirects, which could carry a key to another host.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import math
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from llmsess.errors import InvalidInput, MissingExtra, ProviderError
from llmsess.providers import wire
from llmsess.providers.base import Delta, Provider, Reply, Request, Turn, may_be_billed
from llmsess.providers.building import Building
from llmsess.texts import clean

ARGUMENTS = ("model", "max_tokens", "stream")
NO_KEY = "none"  # an SDK insists on one; local servers ignore it
IDLE_S = 2.0  # that a connection is kept without a request
SHARERS = 16  # requests at a time of one client: each looks through all connections of its pool
CONNECT_S = 10.0  # a server that takes longer to take a connection is not there
KINDS = {400: "bad_request", 401: "auth", 402: "quota", 403: "auth", 404: "not_found", 408: "timeout",
         413: "context_length", 422: "bad_request", 429: "rate_limit", 503: "overloaded", 504: "timeout",
         529: "overloaded"}  # fmt: skip


@dataclass
class _Shared:
    """A client that stays open: for which address, key and time it is, and how many requests use it now."""

    key: tuple[str | None, str | None, float]
    client: Any
    users: int = 0


class SdkProvider(Provider):
    """A back end reached through the SDK of that name, which is imported when a request is sent."""

    sdk_name: ClassVar[str]
    client_name: ClassVar[str]
    building: ClassVar[type[Building]]
    request_id_header: ClassVar[str] = "x-request-id"
    url_env: ClassVar[str]  # the environment variable that moves the SDK's own server
    default_url: ClassVar[str]

    def __init__(self) -> None:
        if importlib.util.find_spec(self.sdk_name) is None:
            raise MissingExtra(f"the {self.sdk_name} SDK", "providers")
        self.lock = threading.Lock()
        self.kept: list[_Shared] | None = None  # clients that stay open

    @functools.cached_property
    def sdk(self) -> Any:
        try:
            return importlib.import_module(self.sdk_name)
        except ImportError as error:
            raise MissingExtra(f"the {self.sdk_name} SDK", "providers") from error

    def client(self, base_url: str | None, api_key: str | None, timeout_s: float = 30.0) -> Any:
        """Return an SDK client; without a base URL it takes the environment's or its own."""
        self.url(base_url)
        return getattr(self.sdk, self.client_name)(
            base_url=base_url or self.base_url,
            api_key=api_key or NO_KEY,
            max_retries=0,
            timeout=self.sdk.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            http_client=self.sdk.DefaultHttpxClient(follow_redirects=False, limits=self.connections()),
        )

    def connections(self) -> Any:
        """Return the SDK's limits of connections, an idle one dropped before a server would, which is after 5 s."""
        usual = self.sdk.DEFAULT_CONNECTION_LIMITS
        return type(usual)(
            max_connections=usual.max_connections, max_keepalive_connections=usual.max_keepalive_connections,
            keepalive_expiry=IDLE_S,
        )  # fmt: skip

    def url(self, base_url: str | None = None) -> str:
        """Return where the server is; raises InvalidInput for what is no address, or has a password in it."""
        url = base_url or self.base_url or os.environ.get(self.url_env) or self.default_url
        try:
            address = urlsplit(url)
            known = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        except ValueError:  # an odd port, an odd IPv6 address
            known = False
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise InvalidInput(f"the address in {self.url_env} has a password in it, which would be shown and stored")
        if not known:
            raise InvalidInput(f'"{url}" is no address of a server', hint="as https://host:port/v1")
        return url

    def check(self, request: Request) -> None:
        self.url(request.base_url)
        self.body(request)

    @abstractmethod
    def body(self, request: Request) -> dict[str, Any]:
        """Return the request as the API wants it. Raises InvalidInput for what it cannot take."""

    def content(self, turn: Turn) -> str | list[Any]:
        """Return what a turn says, its attachments as the API wants them."""
        return [self.block(block) for block in turn.blocks] if turn.blocks else turn.content

    @abstractmethod
    def block(self, block: Any) -> Any:
        """Return a block of a turn as the API wants it. Raises InvalidInput for an attachment it cannot take."""

    @abstractmethod
    def endpoint(self, client: Any) -> Any:
        """Return the SDK's resource that requests are created at."""

    def opened(self, client: Any, body: dict[str, Any]) -> Any:
        """Return the context manager of the SDK's raw response to a request.

        An SDK checks the names of arguments, which come and go with its versions: only the oldest are given as such. It
        also walks through messages given so, which takes a fifth of the time of a request.
        """
        named = {name: body.pop(name) for name in ARGUMENTS if name in body}
        return self.endpoint(client).with_streaming_response.create(messages=[], **named, extra_body=body)

    @abstractmethod
    def model_pages(self, client: Any) -> Any:
        """Return the context manager of the SDK's raw response that lists the models."""

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        if self.kept is not None:  # in an outer block, whose end closes them
            yield
            return
        self.kept = []
        try:
            yield
        finally:
            kept, self.kept = self.kept, None
            for shared in kept:
                shared.client.close()

    @contextlib.contextmanager
    def lent(self, request: Request) -> Iterator[Any]:
        """Return a client for a request: the one that is kept open, else a new one that is closed after it."""
        kept, key = self.kept, (request.base_url, request.api_key, request.timeout_s)
        if kept is None:
            with self.client(*key) as client:
                yield client
            return
        with self.lock:
            shared = next((one for one in kept if one.key == key and one.users < SHARERS), None)
            if shared is None:
                shared = _Shared(key, self.client(*key))
                kept.append(shared)
            shared.users += 1
        try:
            yield shared.client
        finally:
            with self.lock:
                shared.users -= 1

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        with self.lent(request) as client, contextlib.ExitStack() as stack:
            with self.guarded(answered=False):
                response = stack.enter_context(self.opened(client, self.body(request)))
            yield from self.read(response, request.timeout_s)

    def read(self, response: Any, timeout_s: float) -> Iterator[Delta | Reply]:
        """Yield the deltas and the Reply of an open response; a stream may not be silent for longer than the time."""
        building = self.building(self.name, response.headers.get(self.request_id_header), response.status_code)
        if "event-stream" not in response.headers.get("content-type", ""):
            yield building.whole(wire.whole(self.pieces(response), self.name))
            return
        heard = time.monotonic()
        for line in wire.lines(self.pieces(response), self.name):
            if line.startswith("data:"):
                delta = building.event(line[5:].strip())
                if delta is not None:
                    yield delta
                    heard = time.monotonic()
            if time.monotonic() - heard > timeout_s:  # comments that keep the connection alive say nothing
                raise ProviderError(f"{self.name} said nothing for {timeout_s:g} s", error_kind="timeout", billed=True)
            if building.done:
                break
        yield building.reply()

    def list_models(self, *, base_url: str | None = None, api_key: str | None = None) -> list[str]:
        with self.client(base_url, api_key) as client, contextlib.ExitStack() as stack:
            with self.guarded(answered=False):
                response = stack.enter_context(self.model_pages(client))
            answer = wire.parsed(wire.whole(self.pieces(response), self.name), self.name)
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, list):
            raise wire.broken(self.name, "no list of models")
        names = [model.get("id") for model in data if isinstance(model, dict)]
        return sorted(clean(name) for name in names if name and isinstance(name, str))

    def pieces(self, response: Any) -> Iterator[bytes]:
        """Yield the bytes of an open response as they come."""
        with self.guarded(answered=True):
            yield from response.iter_bytes()

    @contextlib.contextmanager
    def guarded(self, *, answered: bool) -> Iterator[None]:
        """Run the SDK; whatever it and what it stands on raise on an answer becomes a ProviderError."""
        try:
            yield
        except self.sdk.APIError as error:
            raise self.translated(error, answered) from error
        except Exception as error:  # the library below raises what it likes on odd bytes
            raise ProviderError(
                f"{self.name}: the answer could not be read: {reason(error)}", error_kind=_kind_of(error), billed=True
            ) from error

    def translated(self, error: Any, answered: bool) -> ProviderError:
        """Return the SDK's error as ours."""
        if isinstance(error, self.sdk.APIStatusError):
            return self.refusal(error)
        if isinstance(error, self.sdk.APITimeoutError):
            begun = answered or "Connect" not in type(error.__cause__).__name__
            return ProviderError(f"{self.name} did not answer in time", error_kind="timeout", billed=begun)
        if isinstance(error, self.sdk.APIConnectionError):
            where = str(error.request.url) if error.request else "the server"
            return ProviderError(
                f"{self.name}: no connection to {where}: {reason(error.__cause__ or error)}",
                error_kind="connection",
                billed=answered or not _refused(error),
                hint="is the server running?" if _refused(error) else None,
            )
        return ProviderError(f"{self.name}: {error.message}", error_kind="bad_response", billed=True)

    def refusal(self, error: Any) -> ProviderError:
        """Return the error of an answer that is no success."""
        status, headers = error.status_code, error.response.headers
        kind = self.kind(error.body) or KINDS.get(status, "server" if status >= 500 else "bad_request")
        waits = wire.retry_after_s(headers)
        moved = f" to {headers['location']}" if 300 <= status < 400 and headers.get("location") else ""
        return ProviderError(
            f"{self.name} answered {status}: {f'moved{moved}' if moved else said(error)}",
            error_kind=kind,
            http_status=status,
            retry_after_s=waits,
            billed=may_be_billed(status),
            request_id=headers.get(self.request_id_header),
            hint=_HINTS.get(kind) or (None if waits is None else f"try again in {math.ceil(waits)} s"),
        )

    def kind(self, body: Any) -> str | None:
        """Return the kind of an error where its body tells more than its status."""
        return None


_HINTS = {"auth": "check the API key", "quota": "see to the account: trying again does not help",
          "context_length": "send less of the conversation: --context last:N"}  # fmt: skip


def said(error: Any) -> str:
    """Return what the server said in one short line."""
    detail = error_object(error.body).get("message")
    return " ".join(str(detail or error.response.text or error.message).split())[:300] or "nothing"


def error_object(body: Any) -> Mapping[str, Any]:
    """Return the error that a body has in it, or is."""
    found = body.get("error", body) if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _kind_of(error: Exception) -> str:
    """Return what an error below the SDK is, by the names of its classes, which its HTTP library changed once."""
    names = [kind.__name__ for kind in type(error).__mro__]
    if any("Timeout" in name for name in names):
        return "timeout"
    return "connection" if "TransportError" in names or "StreamError" in names else "bad_response"


def _refused(error: Exception) -> bool:
    return "refused" in reason(error).lower() or "ConnectError" in type(error.__cause__).__name__


def reason(error: BaseException) -> str:
    """Return what an error says in one line, its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
