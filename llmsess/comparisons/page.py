"""One standalone HTML page: verdicts, the matrix of cases and variants, a filter, a diff of two answers, distributions.

All of it is in the file, as JSON that a script of the page draws; its own policy forbids requests. Texts reach the page
as text nodes only.
"""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import IO

from llmsess.comparisons import answering, reports
from llmsess.models import ComparisonGroup

MAX_ANSWER_CHARACTERS = 100_000  # of one answer in the page


def write(group: ComparisonGroup, out: IO[str]) -> int:
    """Write the page and return how many answers it has."""
    start, middle, end = _parts()
    out.write(start + html.escape(group.name) + middle)
    summary = reports.record(answering.summary(group))
    out.write('{"summary":' + _safe(json.dumps(summary, ensure_ascii=False)) + ',"cells":[')
    count = 0
    for count, row in enumerate(reports.cell_records(group), 1):
        if row["answer"] is not None and len(row["answer"]) > MAX_ANSWER_CHARACTERS:
            left = len(row["answer"]) - MAX_ANSWER_CHARACTERS
            row["answer"] = f"{row['answer'][:MAX_ANSWER_CHARACTERS]} … ({left:,} more characters)"
        out.write(("," if count > 1 else "") + _safe(json.dumps(row, ensure_ascii=False)))
    out.write("]}" + end)
    return count


def _parts() -> tuple[str, str, str]:
    """Return the page's template, parted where the title and the data go."""
    template = resources.files("llmsess.comparisons").joinpath("page.html").read_text(encoding="utf-8")
    start, _, rest = template.partition("{{title}}")
    middle, _, end = rest.partition("{{data}}")
    return start, middle, end


def _safe(text: str) -> str:
    """Return JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
