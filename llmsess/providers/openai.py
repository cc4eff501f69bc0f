"""OpenAI and every server that speaks its chat completions, through the openai SDK with its retries switched off.

Answers are read as plain JSON rather than through the SDK's models, so that fields of other servers (reasoning,
cost) and the usage object come through verbatim, and so that a stream that stops early is noticed: it ends with
`[DONE]` or a finish reason. https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmsess.models import reported_usd, token_count
from llmsess.providers import media
from llmsess.providers.base import Delta, Request
from llmsess.providers.building import Building, Json, get, text
from llmsess.providers.sdk import SdkProvider, error_object

AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_KINDS = {"context_length_exceeded": "context_length", "insufficient_quota": "quota"}


@dataclass
class Completion(Building):
    """A chat completion while its pieces come in."""

    half: str = ""  # the first half of a character whose second is to come

    def chunk(self, event: Json) -> Delta | None:
        self.usage = event.get("usage") or self.usage
        self.model = text(event.get("model")) or self.model
        choices = event.get("choices") or []
        if not choices:
            return None
        self.begun = True
        self.finish_reason = text(choices[0].get("finish_reason")) or self.finish_reason
        return self.add(choices[0].get("delta") or {})

    def entire(self, answer: Json) -> None:
        choices = answer.get("choices") or []
        self.usage, self.model = answer.get("usage"), text(answer.get("model"))
        if choices:
            self.begun = self.done = True
            self.finish_reason = text(choices[0].get("finish_reason"))
            self.add(choices[0].get("message") or {})

    def add(self, delta: Json) -> Delta | None:
        content = delta.get("content") or delta.get("refusal") or ""
        if isinstance(content, list):
            content = "".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
        for i, call in enumerate(delta.get("tool_calls") or []):
            index = call.get("index")
            known = self.calls.setdefault(
                index if isinstance(index, int) else i, {"id": "", "name": "", "arguments": ""}
            )
            function = call.get("function") or {}
            known["id"] = call.get("id") or known["id"]
            known["name"] += function.get("name") or ""
            known["arguments"] += function.get("arguments") or ""
        return self.said(self.paired(content), str(delta.get("reasoning_content") or delta.get("reasoning") or ""))

    def paired(self, said: str) -> str:
        """Return the text with a character that was split over two pieces put together again."""
        said, self.half = self.half + said, ""
        if said and "\ud800" <= said[-1] <= "\udbff":
            said, self.half = said[:-1], said[-1]
        if not said.isascii() and any("\ud800" <= character <= "\udfff" for character in said):
            return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return said

    def tokens(self) -> dict[str, Any]:
        """Return the usage as fields of a Reply; OpenAI's input includes the cached already."""
        usage = self.usage
        prompt, completion = get(usage, "prompt_tokens_details"), get(usage, "completion_tokens_details")
        return {
            "input_tokens": token_count(get(usage, "prompt_tokens")),
            "cached_input_tokens": token_count(get(prompt, "cached_tokens")),
            "cache_write_tokens": token_count(get(prompt, "cache_write_tokens")),
            "output_tokens": token_count(get(usage, "completion_tokens")),
            "reasoning_tokens": token_count(get(completion, "reasoning_tokens")),
            "cost_usd": reported_usd(get(usage, "cost")),  # OpenRouter and gateways like it
        }


class OpenAI(SdkProvider):
    name = dialect = "openai"
    sdk_name, client_name = "openai", "OpenAI"
    building = Completion
    url_env = "OPENAI_BASE_URL"
    default_url = "https://api.openai.com/v1"

    def endpoint(self, client: Any) -> Any:
        return client.chat.completions

    def model_pages(self, client: Any) -> Any:
        return client.models.with_streaming_response.list()

    def body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": turn.role, "content": self.content(turn)} for turn in request.turns]
        if request.system:
            messages.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {"model": request.model, "messages": messages, "stream": request.stream}
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.max_tokens is not None:
            body["max_completion_tokens" if self.name == "openai" else "max_tokens"] = request.max_tokens
        if request.schema is not None:
            asked = {"name": "answer", "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": asked}
        return body | dict(request.parameters)

    def block(self, block: Any) -> Any:
        found = media.of(block)
        if found is None:
            return block
        if found.kind == "image":
            return {"type": "image_url", "image_url": {"url": found.data_url}}
        if found.kind == "text":
            return {"type": "text", "text": found.text()}
        if found.media_type in AUDIO:
            return {"type": "input_audio", "input_audio": {"data": found.data, "format": AUDIO[found.media_type]}}
        if found.media_type == "application/pdf":
            return {"type": "file", "file": {"filename": found.name or "file.pdf", "file_data": found.data_url}}
        raise media.unsupported(self.name, found, "images, texts, PDF, and WAV or MP3 audio")

    def kind(self, body: Any) -> str | None:
        return _KINDS.get(str(error_object(body).get("code")))
