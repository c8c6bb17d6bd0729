"""The marks, durations and sizes that every view writes the same way."""

from collections.abc import Mapping

MARKS = {
    "success": "✓",
    "failure": "✗",
    "error": "✗",
    "skipped": "○",
    "cancelled": "■",
    "running": "●",
    "waiting": "·",
}
ASCII_MARKS = {
    "success": "+",
    "failure": "x",
    "error": "x",
    "skipped": "-",
    "cancelled": "!",
    "running": "*",
    "waiting": ".",
}
BAD = ("failure", "error")


def duration(seconds: float) -> str:
    """Spell a duration in the shortest form that still tells: 0.4 s, 12 s, 2 min 05 s, 1 h 02 min."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(count: float) -> str:
    """Spell a number of bytes in decimal units, as registries do."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def figure(name: str, value: float) -> str:
    """Spell one figure of a stage by what its name says it counts."""
    if name.startswith("bytes") or name.endswith("bytes"):
        return f"{size(value)} {name.replace('bytes', '').strip('_ ').replace('_', ' ')}".strip()
    label = name.replace("_", " ")
    if name.endswith("coverage"):
        return f"{value:.1f} % {label}"
    if name.endswith("seconds"):
        return f"{duration(value)} {label.removesuffix('seconds').strip()}".strip()
    if value == 1 and label.endswith("s") and not label.endswith("ss"):
        label = label.removesuffix("s")
    return f"{value:,.0f} {label}" if float(value).is_integer() else f"{value:,.1f} {label}"


def figures(values: Mapping[str, float]) -> list[str]:
    """Spell a stage's figures; its plain seconds are left out, for they stand beside its name already."""
    return [figure(name, float(value)) for name, value in values.items() if name != "seconds"]


def count(number: int, one: str, many: str = "") -> str:
    """Join a number and its noun: 1 stage, 3 stages."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_digest(digest: str) -> str:
    """Return the part of a digest that a person compares: sha256: and twelve digits."""
    head, colon, hexadecimal = digest.partition(":")
    return f"{head}:{hexadecimal[:12]}" if colon else digest[:12]
