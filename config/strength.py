"""Judge whether a secret is one: no placeholder, long enough, and not easy to guess.

The estimate of entropy is an upper bound from the text alone: Shannon's entropy of its characters times the
number of characters that do not merely repeat or continue what stands before them. Keys that lie side by
side, and a word that everybody tries first with the year behind it, count as one character.
"""

import re
from collections import Counter
from math import log2

EXAMINED = 256
"""Characters; more cannot make a strong secret weak."""
SHORTEST_REPEAT = 3
WHOLE = (
    r"admin|default|dev|foo|foobar|key|none|null|pass|passwd|password|postgres|root|secret|secretkey|slipway"
    r"|tbd|test|testing|token|x+"
)
ANYWHERE = (
    r"(change|replace|fill|insert)[-_ ]?(me|this|it|in|with)|your[-_ ]?(own|secret|password|token|key)"
    r"|place[-_ ]?holder|example|insecure|not[-_ ]?(a[-_ ]?)?secret|default[-_ ]?(secret|password|key)"
    r"|to[-_ ]be[-_ ]set|supersecret"
)
ALONE = r"(?<![A-Za-z0-9])(todo|fixme|dummy|secret|password)(?![A-Za-z0-9])"
TEMPLATE = r"<[^<>]*>|\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\}|%[A-Za-z_]+%|\[[^\[\]]*\]"

ROWS = (
    "1234567890",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
)
COLUMNS = ("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm")
WALKS = " ".join([*ROWS, *COLUMNS, *(row[::-1] for row in ROWS)])
SHORTEST_WALK = 4
WORDS = (
    r"spring|summer|autumn|winter|january|february|march|april|august|september|october|november|december"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|password|passwort|passwd|welcome|letmein"
    r"|access|login|admin|administrator|default|secret|hello|iloveyou|dragon|monkey|football|baseball"
    r"|master|sunshine|princess|shadow|superman|batman|starwars|freedom|whatever|michael|jordan|computer"
    r"|internet|server|database|postgres|docker|registry|ledger|slipway|production|staging|company|trustno"
)
YEAR = r"(19|20)[0-9]{2}"
LEET = str.maketrans("@4013$57", "aaoiesst")


def is_placeholder(text: str, name: str) -> bool:
    """Tell whether `text` stands for a value still to be filled in for the variable `name`."""
    word = re.sub(r"[^a-z]", "", text.lower())
    if word and (re.fullmatch(WHOLE, word) or word == re.sub(r"[^a-z]", "", name.lower())):
        return True
    if re.fullmatch(TEMPLATE, text, re.DOTALL):
        return True
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in (ANYWHERE, ALONE))


def entropy(text: str) -> float:
    """Estimate from above how many bits it takes to guess `text`."""
    text = text[:EXAMINED]
    if not text:
        return 0.0
    counts = Counter(text)
    each = -sum(count / len(text) * log2(count / len(text)) for count in counts.values())
    return each * surprises(text)


def surprises(text: str) -> int:
    """Count the characters that neither repeat a piece seen before nor continue a run, a walk or a word."""
    count = position = 0
    words = {match.start(): match.end() for match in re.finditer(WORDS, text.lower().translate(LEET))}
    while position < len(text):
        count += 1
        word = with_year(text, words[position]) - position if position in words else 0
        position += max(1, word, *(each(text, position) for each in (run_at, walk_at, repeat_at)))
    return count


def with_year(text: str, end: int) -> int:
    """Return where the year behind a word that ends at `end` ends, or `end` when there is none."""
    year = re.compile(YEAR).match(text, end)
    return year.end() if year else end


def walk_at(text: str, start: int) -> int:
    """Return the length of the longest piece at `start` that is a walk over the keys; 0 when it is short."""
    length = SHORTEST_WALK
    while start + length <= len(text) and text[start : start + length].lower() in WALKS:
        length += 1
    return length - 1 if length > SHORTEST_WALK else 0


def repeat_at(text: str, start: int) -> int:
    """Return the length of the longest piece at `start` that also begins before it; 0 when it is short."""
    length = SHORTEST_REPEAT
    while start + length <= len(text) and text.find(text[start : start + length], 0, start + length - 1) >= 0:
        length += 1
    return length - 1 if length > SHORTEST_REPEAT else 0


def run_at(text: str, start: int) -> int:
    """Return the length of the run at `start` whose neighbours are equal or one apart; 0 when it is short."""
    steps = [ord(b) - ord(a) for a, b in zip(text[start:], text[start + 1 :], strict=False)]
    if not steps or abs(steps[0]) > 1:
        return 0
    length = 2
    while length <= len(steps) and steps[length - 1] == steps[0]:
        length += 1
    return length if length >= SHORTEST_REPEAT else 0
