"""Masking secrets in what is given away: best effort, by the list of patterns below.

Each pattern is a form of key, token or password that its issuer documents or that is plain to see (a private key, a
password in an address, an assignment to a name like api_key). What looks like none of them stays: a person must look.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import Any

BEGINNING = (  # of a word, also behind an escape of JSON or a colour of a terminal; {B} below
    r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})"
    r"|(?<=\[m)|(?<=\[[0-9]m)|(?<=\[[0-9]{2}m)|(?<=;[0-9]m)|(?<=;[0-9]{2}m))"
)
SECRET_NAME = re.compile(r"(?i)(?:api[_-]?key|secret|token|passw(?:or)?d|access[_-]?key)[A-Z0-9_]{0,20}$")
PATTERNS: dict[str, str] = {  # what it is: what it looks like; the group `secret`, or all of it, is masked
    "private key": (
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----(?:[A-Za-z0-9+/=\s:,.\\]|-(?!-)){0,9000}"
        r"-----END [A-Z ]{0,20}PRIVATE KEY-----"
    ),
    "anthropic key": r"{B}sk-ant-[A-Za-z0-9_-]{16,}",
    "openai key": r"{B}sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,}",
    "openrouter key": r"{B}sk-or-v1-[0-9a-f]{32,}",
    "aws key id": r"{B}(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    "github token": r"{B}(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})",
    "gitlab token": r"{B}gl(?:pat|ptt|dt|rt|cbt)-[A-Za-z0-9_-]{20,}",
    "slack token": r"{B}xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "slack webhook": r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    "google key": r"{B}AIza[A-Za-z0-9_-]{35}",
    "google oauth token": r"{B}ya29\.[A-Za-z0-9_-]{20,}",
    "stripe key": r"{B}(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{20,}",
    "hugging face token": r"{B}hf_[A-Za-z0-9]{30,}",
    "groq key": r"{B}gsk_[A-Za-z0-9]{40,}",
    "xai key": r"{B}xai-[A-Za-z0-9]{40,}",
    "npm token": r"{B}npm_[A-Za-z0-9]{36}",
    "pypi token": r"{B}pypi-[A-Za-z0-9_-]{50,}",
    "sendgrid key": r"{B}SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "json web token": r"{B}eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{8,}",
    "password in an address": r"{B}[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{0,100}:(?P<secret>[^\s/@\"']{3,200})@",
    "bearer token": r"(?i){B}bearer\s+(?P<secret>[A-Za-z0-9._~+/-]{16,}=*)",
    "assigned secret": (
        r"(?i){B}[A-Z0-9_.-]{0,40}(?:api[_-]?key|secret|token|passw(?:or)?d|access[_-]?key)[A-Z0-9_]{0,20}"
        r"[\"']?\s{0,3}(?:=|:|=>)\s{0,3}[\"']?(?P<secret>[^\s\"',;{}()<>]{8,200})"
    ),
}
_COMPILED = {name: re.compile(pattern.replace("{B}", BEGINNING)) for name, pattern in PATTERNS.items()}


class Redactor:
    """Masks secrets in texts and counts them by kind."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """Return the text with each secret as `[redacted: kind]`."""
        for name, pattern in _COMPILED.items():
            text = pattern.sub(functools.partial(self._masked, name), text)
        return text

    def _masked(self, name: str, match: re.Match[str]) -> str:
        secret = match["secret"] if "secret" in match.re.groupindex else match[0]
        if secret.startswith("[redacted:"):
            return match[0]
        self.found[name] += 1
        start = match[0].rindex(secret)
        return f"{match[0][:start]}[redacted: {name}]{match[0][start + len(secret) :]}"

    def value(self, value: Any) -> Any:
        """Return a JSON value with the secrets in its texts masked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.named(key, item) for key, item in value.items()}
        return value

    def named(self, name: str, value: Any) -> Any:
        """Return what stands under a name, which may tell that it is a secret."""
        masked = self.value(value)
        if (
            masked == value
            and isinstance(value, str)
            and SECRET_NAME.search(name)
            and re.fullmatch(r"\S{8,200}", value)
        ):
            self.found["assigned secret"] += 1
            return "[redacted: assigned secret]"
        return masked
