"""HTML: one standalone page, readable in light and dark, without any network.

Everything is escaped, Markdown of replies is rendered with its HTML switched off and its pictures as links, code is
highlighted here, and the page's own policy forbids scripts and requests.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterator
from typing import IO, Any

from llmsess.exporters.base import (
    Archive,
    Conversation,
    Losses,
    Said,
    blocks_of,
    call_of,
    compact,
    kind_of,
    result_text,
    text_of,
)
from llmsess.exporters.markdown import heading, name_of, one_line

NAME = "html"
DESCRIPTION = "one standalone HTML page to read"
SUFFIX = ".html"
LOSES = "attachments that are no pictures, branches, exact structure"
MAX_RENDERED = 200_000  # characters of a text whose Markdown is rendered; a longer one is shown as it is
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]+")
STYLES = """
:root { color-scheme: light dark; --back: #fff; --text: #1f2328; --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa;
  --user: #eef4fb; --link: #0550ae; }
@media (prefers-color-scheme: dark) { :root { --back: #0d1117; --text: #e6edf3; --dim: #9198a1; --line: #3d444d;
  --soft: #151b23; --user: #16202d; --link: #79c0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.6 system-ui, sans-serif; }
main, nav { max-width: 50rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.3; overflow-wrap: anywhere; margin: 2rem 0 .25rem; }
a { color: var(--link); }
.facts { color: var(--dim); font-size: .875rem; overflow-wrap: anywhere; }
article { padding: .75rem 1rem; margin: 1rem 0; border: 1px solid var(--line); border-radius: .5rem;
  overflow-wrap: anywhere; }
article.user { background: var(--user); }
article > header { color: var(--dim); font-size: .8125rem; font-weight: 600; margin-bottom: .25rem; }
article h1 { font-size: 1.25rem; margin: 1rem 0 .5rem; }
article h2 { font-size: 1.15rem; margin: 1rem 0 .5rem; }
article :is(h3, h4, h5, h6) { font-size: 1rem; margin: 1rem 0 .5rem; }
article > :last-child { margin-bottom: 0; }
.plain { white-space: pre-wrap; margin: 0 0 .75rem; }
pre { background: var(--soft); padding: .75rem; border-radius: .375rem; overflow-x: auto; font-size: .875rem;
  line-height: 1.45; }
code { font-family: ui-monospace, monospace; font-size: .875em; background: var(--soft); padding: .1em .3em;
  border-radius: .25rem; }
pre code { background: none; padding: 0; }
details { border-left: 3px solid var(--line); padding-left: .75rem; margin: .5rem 0; }
summary { color: var(--dim); cursor: pointer; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; }
blockquote { border-left: 3px solid var(--line); margin-left: 0; padding-left: 1rem; color: var(--dim); }
img { max-width: 100%; height: auto; }
.error { color: #cf222e; }
@media print { details { display: block; } article { break-inside: avoid; } }
"""


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write the page: a list of the conversations where there are several, then each of them."""
    listed = [(conversation.id, conversation.name) for conversation in archive.conversations()]
    title = listed[0][1] if len(listed) == 1 else f"{len(listed):,} conversations"
    out.write(beginning(title))
    if len(listed) > 1:
        out.write('<nav aria-label="Conversations"><ul>\n')
        out.writelines(f'<li><a href="#{html.escape(key)}">{escaped(name)}</a></li>\n' for key, name in listed)
        out.write("</ul></nav>\n")
    out.write("<main>\n")
    for conversation in archive.conversations():
        out.writelines(section(conversation, losses))
    out.write("</main>\n</body>\n</html>\n")


def beginning(title: str) -> str:
    """Return the head of the page."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLES}{code_styles()}</style>\n</head>\n<body>\n"
    )


def escaped(text: str) -> str:
    """Return a text on one line, escaped."""
    return html.escape(one_line(text))


@functools.cache
def code_styles() -> str:
    """Return the styles of highlighted code, light and dark."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs("pre .hl")
    dark = HtmlFormatter(style="github-dark").get_style_defs("pre .hl")
    plain = "pre .hl, pre .hl .err { background: none; border: 0; }\n"
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{plain}"


def section(conversation: Conversation, losses: Losses) -> Iterator[str]:
    """Yield a conversation."""
    yield f'<section id="{html.escape(conversation.id)}">\n<h1>{escaped(conversation.name)}</h1>\n'
    yield f'<p class="facts">{" · ".join(map(escaped, facts(conversation)))}</p>\n'
    if conversation.system_prompt:
        yield f'<details><summary>System prompt</summary><p class="plain">{html.escape(conversation.system_prompt)}</p>'
        yield "</details>\n"
    for said in conversation.messages:
        yield f'<article class="{html.escape(said.role)}">\n<header>{escaped(heading(said))}</header>\n'
        yield from pieces(said, losses)
        yield "</article>\n"
    yield "</section>\n"


def facts(conversation: Conversation) -> Iterator[str]:
    """Yield what is known of a conversation."""
    yield f"{conversation.id[:8]}"
    yield from filter(None, (conversation.model, conversation.project, conversation.source))
    if conversation.started_at:
        yield f"{conversation.started_at:%Y-%m-%d %H:%M} UTC"
    yield from (f"#{tag}" for tag in conversation.tags)


def pieces(said: Said, losses: Losses) -> Iterator[str]:
    """Yield the parts of a message."""
    found = False
    for block in blocks_of(said):
        kind = kind_of(block)
        piece = ""
        if kind == "text":
            piece = rendered(text_of(block)) if said.role == "assistant" else plain(text_of(block))
        elif kind == "reasoning":
            piece = folded("Reasoning", plain(text_of(block)))
        elif kind == "call":
            call = call_of(block)
            given = call.given if isinstance(call.given, str) else compact(call.given)
            piece = folded(f"Calls {call.name}", code(given, "json"))
        elif kind == "result":
            piece = folded("Result", code(result_text(block, losses), ""))
        else:
            picture = picture_of(block)
            losses["attachments" if kind == "media" else "other blocks"] += picture is None
            piece = picture or f"<p><em>[{escaped(name_of(block))}]</em></p>\n"
        found = found or bool(piece)
        yield piece
    if said.error:
        yield f'<p class="error">{escaped(said.error)}</p>\n'
    elif not found:
        yield "<p><em>(empty)</em></p>\n"


def plain(text: str) -> str:
    """Return a text as it stands."""
    return f'<p class="plain">{html.escape(text)}</p>\n' if text else ""


def folded(summary: str, inner: str) -> str:
    """Return something that is shown when it is opened."""
    return f"<details><summary>{escaped(summary)}</summary>\n{inner}</details>\n"


def code(text: str, language: str) -> str:
    """Return a block of code, highlighted where its language is known."""
    return f"<pre><code>{highlighted(text, language, '')}</code></pre>\n"


def rendered(text: str) -> str:
    """Return the Markdown of a reply."""
    return str(markdown().render(text)) if len(text) <= MAX_RENDERED else plain(text)


@functools.cache
def markdown() -> Any:
    """Return the renderer of Markdown: without HTML, its pictures as links."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "highlight": highlighted}).enable(["table", "strikethrough"])
    made.add_render_rule("image", _picture_as_link)
    return made


def _picture_as_link(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    where = html.escape(str(token.attrGet("src") or ""))
    return f'<a href="{where}">{html.escape(token.content or "picture")}</a>'


def highlighted(text: str, language: str, attributes: str) -> str:
    """Return code with its words marked by what they are, escaped where the language is not known."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language.strip().lower()) if len(text) <= MAX_RENDERED else None
    except ClassNotFound:
        lexer = None
    if lexer is None:
        return html.escape(text)
    return f'<span class="hl">{highlight(text, lexer, HtmlFormatter(nowrap=True))}</span>'


def picture_of(block: Any) -> str | None:
    """Return a picture whose bytes are there, None for anything else."""
    if not isinstance(block, dict):
        return None
    source: dict[str, Any] = block["source"] if isinstance(block.get("source"), dict) else {}
    media_type, data = source.get("media_type"), source.get("data")
    image = block.get("image_url")
    url = image.get("url") if isinstance(image, dict) else None
    if isinstance(url, str) and url.startswith("data:"):
        head, _, data = url.removeprefix("data:").partition(";base64,")
        media_type = head
    if media_type not in PICTURES or not isinstance(data, str) or not BASE64.fullmatch(data):
        return None
    return f'<p><img alt="picture" src="data:{media_type};base64,{data}"></p>\n'
