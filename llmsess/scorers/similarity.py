"""Scorers of likeness to a reference: Levenshtein, ROUGE-N, BLEU, GLEU. Texts are compared by words, but for the first.

Several references are a list, of which the best counts. Formulas: Lin 2004 (ROUGE), Papineni and others 2002 (BLEU-4,
with 0.1 for a count of none, so that short answers are not all 0), Wu and others 2016 (GLEU).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from llmsess.scorers.base import Answer, Score, Scorer, Wanted, graded, need_value, text_of

LONGEST = 4  # words of the longest n-grams of BLEU and GLEU
FLOOR = 0.1
DISTANCE = 5  # that promptfoo lets pass
_WORD = re.compile(r"\w+|[^\w\s]")
Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Return the words and signs of a text in lower case."""
    return _WORD.findall(text.casefold())


def grams(tokens: Sequence[str], size: int) -> Grams:
    """Return how often each run of so many words comes."""
    return Counter(tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1))


def rouge_n(text: str, reference: str, size: int = 1) -> float:
    """Return the F1 of the n-grams that two texts share."""
    ours, theirs = grams(words(text), size), grams(words(reference), size)
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0


def bleu(text: str, references: Sequence[str]) -> float:
    """Return BLEU-4 of a text against references, smoothed."""
    ours, theirs = words(text), [words(reference) for reference in references]
    if not ours or not any(theirs):
        return 0.0
    logarithms = []
    for size in range(1, min(LONGEST, len(ours)) + 1):
        mine, best = grams(ours, size), Counter[tuple[str, ...]]()
        for one in theirs:
            best |= grams(one, size)
        shared = (mine & best).total()
        if size == 1 and not shared:
            return 0.0
        logarithms.append(math.log((shared or FLOOR) / mine.total()))
    nearest = min((abs(len(one) - len(ours)), len(one)) for one in theirs)[1]
    brevity = min(0.0, 1 - nearest / len(ours))
    return math.exp(brevity + math.fsum(logarithms) / len(logarithms))


def gleu(text: str, reference: str) -> float:
    """Return the smaller of precision and recall over n-grams of one to four words."""
    ours, theirs = words(text), words(reference)
    mine: Grams = Counter()
    other: Grams = Counter()
    for size in range(1, LONGEST + 1):
        mine += grams(ours, size)
        other += grams(theirs, size)
    most = max(mine.total(), other.total())
    return (mine & other).total() / most if most else 0.0


def _references(wanted: Wanted) -> list[str]:
    value = wanted.value
    return [text_of(one) for one in value] if isinstance(value, list) and value else [text_of(value)]


def levenshtein(answer: Answer, wanted: Wanted) -> Score:
    """Return the share of a text that need not be edited; it passes up to so many edits (5)."""
    from rapidfuzz.distance import Levenshtein

    distance, reference = min((Levenshtein.distance(answer.text, one), one) for one in _references(wanted))
    most = max(len(answer.text), len(reference))
    limit = DISTANCE if wanted.threshold is None else wanted.threshold
    why = None if distance <= limit else f"{distance:,} edits, more than {limit:g}"
    return Score(1 - distance / most if most else 1.0, distance <= limit, why)


def _rouge(answer: Answer, wanted: Wanted) -> Score:
    score = max(rouge_n(answer.text, one, int(wanted.options.get("n") or 1)) for one in _references(wanted))
    return graded(score, wanted, 0.75, "ROUGE")


def _bleu(answer: Answer, wanted: Wanted) -> Score:
    return graded(bleu(answer.text, _references(wanted)), wanted, 0.5, "BLEU")


def _gleu(answer: Answer, wanted: Wanted) -> Score:
    return graded(max(gleu(answer.text, one) for one in _references(wanted)), wanted, 0.5, "GLEU")


SCORERS = {
    "levenshtein": Scorer("at most so many edits (5) from this text", levenshtein, need_value),
    "rouge-n": Scorer("ROUGE-1 (or option n) of this text is at least 0.75", _rouge, need_value),
    "bleu": Scorer("BLEU of this text, or of these, is at least 0.5", _bleu, need_value),
    "gleu": Scorer("GLEU of this text is at least 0.5", _gleu, need_value),
}
