"""A terminal to type at: a process on a pseudo-terminal, and what its screen shows."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from prompt_toolkit.utils import get_cwidth

DEADLINE_S = 120
"""For slow machines; nothing waits longer than it must."""

SEQUENCE = re.compile(r"\x1b(?:\[([?]?)([0-9;]*)( ?[@-~])|\][^\x07]*\x07)")
BEGUN = re.compile(r"\x1b(?:\[[?]?[0-9;]* ?|\][^\x07]*)?\Z")
ITALIC = 3


class Screen:
    """The part of a VT100 that line editors use. Whatever else is sent fails the test.

    Attributes:
        row: of the cursor, from 0; likewise ``column``.
        replies: what the terminal would answer, to be sent by whoever reads them.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.row = self.column = 0
        self.replies = ""
        self.coloured = False
        self._cells = [self._blank() for _ in range(rows)]
        self._italics = [[False] * columns for _ in range(rows)]
        self._italic = False
        self._rest = ""

    def __str__(self) -> str:
        return "\n".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """All rows without the blanks at their ends."""
        return ["".join(row).rstrip(" ") for row in self._cells]

    @property
    def italics(self) -> str:
        """What is shown in italics, row by row."""
        picked = (
            "".join(cell for cell, italic in zip(*rows, strict=True) if italic)
            for rows in zip(self._cells, self._italics, strict=True)
        )
        return "\n".join(row for row in picked if row)

    def feed(self, text: str) -> None:
        """Show text and do what its sequences say."""
        text, self._rest = self._rest + text, ""
        if begun := BEGUN.search(text):
            text, self._rest = text[: begun.start()], begun[0]
        place = 0
        while place < len(text):
            if text[place] == "\x1b":
                match = SEQUENCE.match(text, place)
                assert match, f"unknown sequence: {text[place : place + 12]!r}"
                if match[3]:
                    self._obey(match[1], match[2], match[3])
                place = match.end()
            else:
                self._put(text[place])
                place += 1

    def _put(self, char: str) -> None:
        if char == "\n":
            if self.row == self.rows - 1:
                self._cells = [*self._cells[1:], self._blank()]
                self._italics = [*self._italics[1:], [False] * self.columns]
            else:
                self.row += 1
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char != "\x07":
            assert char >= " ", f"control character {char!r}"
            assert not "\x7f" <= char <= "\x9f", f"control character {char!r}"
            width = get_cwidth(char)
            for offset in range(width):
                if self.column + offset < self.columns:
                    self._cells[self.row][self.column + offset] = "" if offset else char
                    self._italics[self.row][self.column + offset] = self._italic
            self.column = min(self.columns - 1, self.column + width)

    def _obey(self, private: str, arguments: str, what: str) -> None:
        numbers = [int(number or 0) for number in arguments.split(";")]
        count = max(1, numbers[0])
        match what:
            case "A":
                self.row = max(0, self.row - count)
            case "B":
                self.row = min(self.rows - 1, self.row + count)
            case "C":
                self.column = min(self.columns - 1, self.column + count)
            case "D":
                self.column = max(0, self.column - count)
            case "H":
                self.row, self.column = count - 1, max(1, numbers[-1]) - 1
            case "J":
                self._erase(self.row, 0 if numbers[0] == 2 else self.column)
                for row in range(0 if numbers[0] == 2 else self.row + 1, self.rows):
                    self._erase(row, 0)
            case "K":
                self._erase(self.row, self.column)
            case "m":
                self._dress(numbers)
            case "n":
                assert numbers == [6]
                self.replies += f"\x1b[{self.row + 1};{self.column + 1}R"
            case "h" | "l":
                assert private == "?"
            case _:
                assert what == " q", f"unknown sequence: {private}{arguments}{what}"

    def _dress(self, numbers: list[int]) -> None:
        """Colours and attributes, as ``Select Graphic Rendition`` has them."""
        left = iter(numbers)
        for number in left:
            if number == 0:
                self._italic = False
            elif number == ITALIC:
                self._italic = True
            elif number in (38, 48):  # 5;N or 2;R;G;B
                self.coloured = True
                for _ in range(1 if next(left) == 5 else 3):
                    next(left)
            elif 30 <= number <= 37 or 40 <= number <= 47 or 90 <= number <= 107:
                self.coloured = True

    def _erase(self, row: int, column: int) -> None:
        self._cells[row][column:] = self._blank()[column:]
        self._italics[row][column:] = [False] * (self.columns - column)

    def _blank(self) -> list[str]:
        return [" "] * self.columns


class Typist:
    """Someone at a terminal. Use it as a context manager; at its end the process is gone.

    Args:
        args: the process' command line.
        environment: all of it.

    Attributes:
        screen: what is shown; brought up to date by waiting.
    """

    def __init__(
        self, args: Sequence[str], environment: dict[str, str], *, rows: int = 24, columns: int = 80
    ) -> None:
        self.screen = Screen(rows, columns)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            args, stdin=follower, stdout=follower, stderr=follower, env=environment
        )
        os.close(follower)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hang_up()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def hang_up(self) -> None:
        """Take the terminal away."""
        if self._leader >= 0:
            os.close(self._leader)
            self._leader = -1

    def type(self, text: str) -> None:
        """Press keys, as a terminal sends them."""
        os.write(self._leader, text.encode())

    def wait_for(self, condition: Callable[[Screen], bool] | str) -> Screen:
        """The screen once it fulfils a condition or holds a text."""
        until = time.monotonic() + DEADLINE_S
        while not (
            condition in str(self.screen) if isinstance(condition, str) else condition(self.screen)
        ):
            assert self._read(until), f"in vain waited for {condition}:\n{self.screen}"
        return self.screen

    def wait(self) -> int:
        """The exit code, once the process has ended."""
        until = time.monotonic() + DEADLINE_S
        while self._read(until):
            pass
        return self.process.wait(max(1.0, until - time.monotonic()))

    def _read(self, until: float) -> bool:
        """Show what comes next; whether anything did."""
        ready, _, _ = select.select([self._leader], [], [], max(0.0, until - time.monotonic()))
        try:
            data = os.read(self._leader, 65536) if ready else b""
        except OSError:  # how Linux tells that the other end is closed
            data = b""
        self.screen.feed(self._decoder.decode(data))
        if self.screen.replies:
            self.type(self.screen.replies)
            self.screen.replies = ""
        return bool(data)
