"""A terminal's screen, as much of it as our terminal view uses: what a person would see."""

import re

TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """Rows of a window that is high enough; text beyond the width folds to the next row."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.cells: list[str] = [""]
        self.folded: list[bool] = [False]
        self.row = self.column = 0
        self.cursor = True
        self.styles: set[str] = set()

    def feed(self, text: str) -> None:
        """Take what a program writes; an unknown sequence is an error."""
        end = 0
        for found in TOKEN.finditer(text):
            assert found.start() == end, f"unknown sequence at {text[end : end + 20]!r}"
            end = found.end()
            parameters, letter, line_end, printed = found.groups()
            if letter:
                self._control(parameters, letter)
            elif line_end == "\r":
                self.column = 0
            elif line_end == "\n":
                self._go(self.row + 1)
            else:
                self._print(printed)
        assert end == len(text), f"unknown sequence at {text[end : end + 20]!r}"

    def resize(self, columns: int) -> None:
        """Fold the rows anew, as terminals do; the cursor stays below what was written."""
        lines: list[str] = []
        for text, folded in zip(self.cells, self.folded, strict=True):
            if folded:
                lines[-1] += text
            else:
                lines.append(text)
        self.columns, self.cells, self.folded = columns, [], []
        for line in lines:
            pieces = [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
            self.cells += pieces
            self.folded += [number > 0 for number in range(len(pieces))]
        self.row = len(self.cells) - 1

    @property
    def text(self) -> list[str]:
        """Return the rows, without the blank ones at the end."""
        rows = [row.rstrip() for row in self.cells]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def _control(self, parameters: str, letter: str) -> None:
        if letter == "F":
            self.row, self.column = max(self.row - int(parameters or 1), 0), 0
        elif letter == "J" and parameters in ("", "0"):
            self.cells[self.row] = self.cells[self.row][: self.column]
            del self.cells[self.row + 1 :], self.folded[self.row + 1 :]
        elif letter in "hl" and parameters == "?25":
            self.cursor = letter == "h"
        elif letter == "m":
            self.styles.add(parameters)
        elif not (letter in "hl" and parameters == "?2026"):
            raise AssertionError(f"the view uses {parameters}{letter}")

    def _go(self, row: int, *, folded: bool = False) -> None:
        self.row, self.column = row, 0
        while len(self.cells) <= row:
            self.cells.append("")
            self.folded.append(folded)

    def _print(self, text: str) -> None:
        for character in text:
            if self.column >= self.columns:
                self._go(self.row + 1, folded=True)
            row = self.cells[self.row].ljust(self.column)
            self.cells[self.row] = row[: self.column] + character + row[self.column + 1 :]
            self.column += 1
