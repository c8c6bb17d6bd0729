"""A few lines at the bottom of a terminal, painted over and over in place, below what was printed before.

rich's own `Live` counts the lines that it painted last; when the window becomes narrower the terminal folds
those lines and they become more, and every repaint leaves some behind. This one counts how many rows its last
lines take at the present width, and paints a frame in one write so that nothing flickers.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
ERASE_BELOW = "\x1b[J"
BEGIN_FRAME, END_FRAME = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output: terminals that know it show the frame at once, others ignore it."""


class Painter:
    """Paint frames of `rich` lines with `write`, in place."""

    def __init__(
        self,
        console: "Console",
        write: Callable[[str], None],
        size: Callable[[], tuple[int, int]],
    ) -> None:
        self._console = console
        self._write = write
        self._size = size
        self._painted: list[int] = []
        self._shown = ""

    def paint(self, lines: "list[Text]") -> None:
        """Replace the frame by `lines`, each cut to the width; more than fit lose those at the end."""
        columns, rows = self._size()
        lines = _single(lines)[: max(rows - 1, 1)]
        frame = "".join(self._line(line, columns) + "\n" for line in lines)
        if frame == self._shown and all(cells < columns for cells in self._painted):
            return
        self._write(BEGIN_FRAME + HIDE_CURSOR + self._back(columns) + frame + END_FRAME)
        self._painted = [min(line.cell_len, columns - 1) for line in lines]
        self._shown = frame

    def print(self, lines: "list[Text]", *, cut: bool = False) -> None:
        """Print `lines` for good, above where the next frame will be; `cut` those that are wider than it."""
        columns, _ = self._size()
        text = "".join(self._line(line, columns if cut else None) + "\n" for line in _single(lines))
        self._write(BEGIN_FRAME + self._back(columns) + text + END_FRAME)
        self._painted, self._shown = [], ""

    def stop(self) -> None:
        """Erase the frame and give the cursor back."""
        columns, _ = self._size()
        self._write(self._back(columns) + SHOW_CURSOR)
        self._painted, self._shown = [], ""

    def _back(self, columns: int) -> str:
        taken = sum(max(1, -(-cells // max(columns, 1))) for cells in self._painted)
        return (f"\x1b[{taken}F" if taken else "\r") + ERASE_BELOW

    def _line(self, line: "Text", columns: int | None) -> str:
        if columns is not None:
            line = line.copy()
            line.truncate(max(columns - 1, 1), overflow="ellipsis")
        with self._console.capture() as captured:
            self._console.print(line, end="", no_wrap=True, overflow="ignore", crop=False, highlight=False)
        return captured.get()


def _single(lines: "list[Text]") -> "list[Text]":
    """Return the lines one by one, with blanks for tabs: what is counted must be what is painted."""
    single = [piece for line in lines for piece in line.split("\n", allow_blank=True)]
    for line in single:
        line.expand_tabs(8)
    return single
