"""Read large JSON lists entry by entry, so that the whole text is never in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

_CHUNK = 1 << 22  # characters
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def read_json_list(file: Path, shrink: Callable[[Any], Any]) -> list[Any] | None:
    """Read a list and make each entry smaller as soon as it is read.

    Args:
        file: of any encoding that ``json.loads`` knows.
        shrink: returns what is kept of an entry.

    Returns:
        list | None: None if the file does not hold a list, or no valid JSON; ``json.loads`` then
        gives the content, or an error with the place.
    """
    with file.open("rb") as start:
        encoding = json.detect_encoding(start.read(4))
    with file.open(encoding=encoding, errors="surrogatepass", newline="") as stream:
        try:
            return _read(_Text(stream), shrink)
        except (ValueError, RecursionError):
            return None


def _read(text: _Text, shrink: Callable[[Any], Any]) -> list[Any] | None:
    if text.take() != "[":
        return None
    entries: list[Any] = []
    if text.peek() == "]":
        text.take()
    else:
        separator = ","
        while separator == ",":
            entries.append(shrink(text.value()))
            separator = text.take()
        if separator != "]":
            return None
    return None if text.peek() else entries


class _Text:
    """The part of a stream that is being read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._text, self._position = stream, "", 0

    def peek(self) -> str:
        """Return the next character that is no space, nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self._position)
            self._position = space.end() if space else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._refill():
                return ""

    def take(self) -> str:
        """Return the next character that is no space and go on behind it."""
        char = self.peek()
        self._position += len(char)
        return char

    def value(self) -> Any:
        """Return the next value.

        Raises:
            ValueError: if there is none.
        """
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except ValueError:
                end = len(self._text)
            # A number might go on behind the part that was read.
            if end < len(self._text):
                self._position = end
                return value
            if not self._refill():
                raise ValueError("value: expected a JSON value in a list, got another text")

    def _refill(self) -> bool:
        rest = self._text[self._position :]
        more = self._stream.read(max(_CHUNK, len(rest)))
        self._text, self._position = rest + more, 0
        return bool(more)
