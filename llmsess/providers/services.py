"""Providers' own batch services, which answer within a day at half the price: OpenAI's and Anthropic's.

A service takes requests with keys of ours and our id of the whole, and is asked later. OpenAI keeps our id in the
metadata of a batch; Anthropic has none, so that a batch is known by the keys of its results, which begin with our id.
https://platform.openai.com/docs/guides/batch https://docs.anthropic.com/en/docs/build-with-claude/batch-processing
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any, ClassVar

from llmsess.errors import ProviderError
from llmsess.providers import wire
from llmsess.providers.sdk import SdkProvider

TIMEOUT_S = 600.0  # of an upload
EARLIER = timedelta(minutes=10)  # by how much a service's clock may be behind
MARK_CHARACTERS = 12  # of our id, at the beginning of each key
STREAMED = ("stream", "stream_options")  # keys of a request that a service does not take


@dataclass(frozen=True)
class Work:
    """How a service stands with a batch: whether it is through, in which words, its counts, what went wrong."""

    ended: bool
    status: str
    counts: Mapping[str, int]
    error: str | None = None
    total: int | None = None


class BatchService(ABC):
    """One service, at one server; all of it raises ProviderError."""

    max_requests: ClassVar[int]
    max_bytes: ClassVar[int]

    def __init__(self, provider: SdkProvider, base_url: str | None, api_key: str | None) -> None:
        self.provider = provider
        self.client = provider.client(base_url, api_key, TIMEOUT_S)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @abstractmethod
    def line(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request as the service takes it."""

    @abstractmethod
    def submit(self, file: IO[bytes], uuid: str, uploaded: str | None, on_uploaded: Callable[[str], object]) -> str:
        """Hand over the requests of a file, a line each, under our id, and return the service's id.

        What is uploaded already is not again; `on_uploaded` is told the service's id of what is.
        """

    @abstractmethod
    def find(self, uuid: str, since: datetime, known: set[str]) -> tuple[str | None, bool]:
        """Return the service's id of the batch with our id, if it has one, and whether that is certain.

        `since` is when it was made at the earliest, `known` are ids of other batches of ours.
        """

    @abstractmethod
    def look(self, remote_id: str) -> Work:
        """Return how the service stands with a batch."""

    @abstractmethod
    def stream_results(self, remote_id: str) -> Iterator[Any]:
        """Yield the lines of results, in any order: answers and errors."""

    @abstractmethod
    def cancel(self, remote_id: str) -> None:
        """Ask the service to stop; what it has answered stays."""


def mark(uuid: str) -> str:
    """Return the beginning of the keys of a batch with our id."""
    return f"{uuid[:MARK_CHARACTERS]}-"


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    """Return how many requests of a batch are in each of the service's states."""
    return {key: count for key, count in (found.get("request_counts") or {}).items() if isinstance(count, int)}


class OpenAIBatches(BatchService):
    max_requests, max_bytes = 50_000, 190 * 1024**2  # OpenAI's limits are 50,000 and 200 MB
    ENDPOINT = "/v1/chat/completions"
    ENDED = ("completed", "failed", "expired", "cancelled")

    def line(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        asked = {name: value for name, value in body.items() if name not in STREAMED}
        return {"custom_id": key, "method": "POST", "url": self.ENDPOINT, "body": asked}

    def submit(self, file: IO[bytes], uuid: str, uploaded: str | None, on_uploaded: Callable[[str], object]) -> str:
        with self.provider.guarded(answered=False):
            if uploaded is None:
                uploaded = self.client.files.create(file=(f"llmsess-{uuid}.jsonl", file), purpose="batch").id
                on_uploaded(uploaded)
            made = self.client.batches.create(
                input_file_id=uploaded, endpoint=self.ENDPOINT, completion_window="24h", metadata={"llmsess": uuid}
            )
        return str(made.id)

    def find(self, uuid: str, since: datetime, known: set[str]) -> tuple[str | None, bool]:
        earliest = (since - EARLIER).timestamp()
        with self.provider.guarded(answered=False):
            for one in self.client.batches.list(limit=100):
                if (one.metadata or {}).get("llmsess") == uuid:
                    return str(one.id), True
                if one.created_at < earliest:  # the newest come first
                    break
        return None, True

    def look(self, remote_id: str) -> Work:
        with self.provider.guarded(answered=False):
            found = self.client.batches.retrieve(remote_id).to_dict()
        errors = (found.get("errors") or {}).get("data") or []
        said = "; ".join(str(error.get("message")) for error in errors if isinstance(error, dict))
        counts = _counts(found)
        status = str(found.get("status"))
        return Work(status in self.ENDED, status, counts, said or None, counts.get("total"))

    def stream_results(self, remote_id: str) -> Iterator[Any]:
        with self.provider.guarded(answered=False):
            found = self.client.batches.retrieve(remote_id)
        for file in (found.output_file_id, found.error_file_id):
            if file:
                yield from self._lines(file)

    def _lines(self, file: str) -> Iterator[Any]:
        content = self.client.files.with_streaming_response.content
        with self.provider.guarded(answered=True), content(file) as response:
            for line in wire.lines(response.iter_bytes(), self.provider.name, most_bytes=None):
                if line.strip():
                    yield wire.parsed(line, self.provider.name)

    def cancel(self, remote_id: str) -> None:
        with self.provider.guarded(answered=False):
            self.client.batches.cancel(remote_id)


class AnthropicBatches(BatchService):
    max_requests, max_bytes = 10_000, 32 * 1024**2  # Anthropic's are 100,000 and 256 MB, in one document in memory

    def line(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"custom_id": key, "params": {name: value for name, value in body.items() if name not in STREAMED}}

    def submit(self, file: IO[bytes], uuid: str, uploaded: str | None, on_uploaded: Callable[[str], object]) -> str:
        requests = [json.loads(line) for line in file]
        with self.provider.guarded(answered=False):
            made = self.client.messages.batches.create(requests=[], extra_body={"requests": requests})
        return str(made.id)

    def find(self, uuid: str, since: datetime, known: set[str]) -> tuple[str | None, bool]:
        certain, earliest = True, since - EARLIER
        with self.provider.guarded(answered=False):
            for one in self.client.messages.batches.list(limit=100):
                if one.created_at < earliest:  # the newest come first
                    break
                if one.id in known:
                    continue
                if one.processing_status != "ended":
                    certain = False  # its keys are told by its results only
                elif self._is_ours(one.id, uuid):
                    return str(one.id), True
        return None, certain

    def _is_ours(self, remote_id: str, uuid: str) -> bool:
        first = next(self.stream_results(remote_id), None)
        return isinstance(first, dict) and str(first.get("custom_id")).startswith(mark(uuid))

    def look(self, remote_id: str) -> Work:
        with self.provider.guarded(answered=False):
            found = self.client.messages.batches.retrieve(remote_id).to_dict()
        counts = _counts(found)
        status = str(found.get("processing_status"))
        return Work(status == "ended", status, counts, None, sum(counts.values()) or None)

    def stream_results(self, remote_id: str) -> Iterator[Any]:
        with self.provider.guarded(answered=True):
            for one in self.client.messages.batches.results(remote_id):
                yield one.to_dict(mode="json")

    def cancel(self, remote_id: str) -> None:
        with self.provider.guarded(answered=False):
            self.client.messages.batches.cancel(remote_id)


SERVICES: dict[str, type[BatchService]] = {"openai": OpenAIBatches, "anthropic": AnthropicBatches}


def service(provider: Any, base_url: str | None, api_key: str | None) -> BatchService:
    """Return the batch service of a provider; raises ProviderError where it has none."""
    found = SERVICES.get(provider.dialect or "") if isinstance(provider, SdkProvider) else None
    if found is None:
        raise ProviderError(f"{provider.name} has no batch service", error_kind="bad_request",
                            hint="llmsess batch run sends the requests one by one")  # fmt: skip
    return found(provider, base_url, api_key)
