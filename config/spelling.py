"""Find the name that somebody meant."""

from collections.abc import Iterable

LONG_WORD = 10
"""Letters; two mistakes in so many hardly make another word."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` is a slip of, or None when it is somebody else's.

    A slip has other capitals; or is one mistake away, two from a long word; or begins like the known one up
    to the first `_` and is two mistakes away or only longer or shorter at its end.
    """
    best: tuple[int, str] | None = None
    folded = name.upper().replace("-", "_")
    for candidate in known:
        mistakes = slip(folded, candidate)
        if mistakes is not None and (best is None or mistakes < best[0]):
            best = mistakes, candidate
    return best[1] if best else None


def slip(name: str, known: str) -> int | None:
    """Return how many mistakes lie between two names in capitals, or None when they are too far apart."""
    prefix = known.partition("_")[0] + "_"
    kin = "_" in known and name.startswith(prefix) and name != prefix
    if kin and (name.startswith(known) or known.startswith(name)):
        return min(abs(len(name) - len(known)), 3)
    allowed = 2 if kin or ("_" not in known and len(known) >= LONG_WORD) else 1
    # Cheap bounds first: all names of the process are held against all of ours at every start.
    if abs(len(name) - len(known)) > allowed or len(set(known).difference(name)) > allowed:
        return None
    mistakes = distance(name, known)
    return mistakes if mistakes <= allowed else None


def distance(one: str, other: str) -> int:
    """Return how many letters were left out, added, replaced or swapped (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
