"""The offline provider that answers with the prompt, word by word; a token is a word between white space."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llmsess.providers.base import Delta, Provider, Reply, Request

PIECES = 10_000  # of a streamed reply at most, as no server sends a book word by word


def count_words(*texts: str | None) -> int:
    """Return how many words the texts have together."""
    return sum(len(text.split()) for text in texts if text)


def prompt_of(request: Request) -> str:
    """Return the last prompt of a request, "" where it has none."""
    return next((turn.content for turn in reversed(request.turns) if turn.role == "user"), "")


class Echo(Provider):
    name = "echo"

    def send(self, request: Request) -> Iterator[Delta | Reply]:
        prompt = prompt_of(request)
        if request.stream:
            words = re.findall(r"\s*\S+\s*", prompt) or [prompt]
            step = 1 + len(words) // PIECES
            for i in range(0, len(words), step):
                yield Delta(text="".join(words[i : i + step]))
        sent = self.count_tokens(request)
        answered = count_words(prompt)
        yield Reply(
            content=prompt,
            finish_reason="stop",
            input_tokens=sent,
            output_tokens=answered,
            usage={"input_tokens": sent, "output_tokens": answered},
            model=request.model,
        )

    def most_output_tokens(self, request: Request) -> int:
        return count_words(prompt_of(request))

    def count_tokens(self, request: Request) -> int:
        return count_words(request.system, *(turn.content for turn in request.turns))

    def list_models(self, *, base_url: str | None = None, api_key: str | None = None) -> list[str]:
        return ["echo"]
