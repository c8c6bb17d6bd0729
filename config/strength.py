"""Judge whether a secret is one: no placeholder, long enough, and not easy to guess.

The estimate of entropy is an upper bound from the text alone: Shannon's entropy of its characters times the
number of characters that do not merely repeat or continue what stands before them.
"""

import re
from collections import Counter
from math import log2

EXAMINED = 256
"""Characters; more cannot make a strong secret weak."""
SHORTEST_REPEAT = 3
WHOLE = (
    r"admin|default|dev|foo|foobar|key|none|null|pass|passwd|password|postgres|root|secret|secretkey|slipway"
    r"|test|testing|token|x+"
)
ANYWHERE = (
    r"(change|replace)[-_ ]?(me|this|it)|your[-_ ]?(own|secret|password|token|key)|place[-_ ]?holder|example"
    r"|insecure|not[-_ ]?(a[-_ ]?)?secret|default[-_ ]?(secret|password|key)|to[-_ ]be[-_ ]set|supersecret"
)
ALONE = r"(?<![A-Za-z0-9])(todo|fixme|dummy|tbd|secret|password)(?![A-Za-z0-9])"
TEMPLATE = r"<[^<>]*>|\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\}|%[A-Za-z_]+%|\[[^\[\]]*\]"


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
    """Count the characters that neither repeat a piece seen before nor continue a run (`abc`, `321`)."""
    count = position = 0
    while position < len(text):
        count += 1
        position += max(1, run_at(text, position), repeat_at(text, position))
    return count


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
