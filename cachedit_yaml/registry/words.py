"""Which files may claim a class, told by the words in their texts.

Parsing ten thousand files takes a minute, looking for the words in them a few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from cachedit_yaml.language.patterns import fits
from cachedit_yaml.registry.entry import Entry

#: Class names, and patterns with ``*``.
_WORD: Final = re.compile(r"[A-Za-z0-9_*]+")
#: The probe of a file, to the next key at its margin: it claims nothing.
_PROBE: Final = re.compile(r"(?ms)^probe:.*?(?=^[^\s#]|\Z)")


class Words:
    """An index of the class-like words of many files.

    Args:
        entries: the files, the weakest source first.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_word: dict[str, list[Entry]] = {}
        self._patterns: dict[str, list[Entry]] = {}
        # Whose text does not show what it says: escapes, and anchors that a probe may hold.
        self._unclear: list[Entry] = []
        self._all = list(entries)
        for entry in self._all:
            text = entry.raw
            if "\\" in text:
                self._unclear.append(entry)
            head = _PROBE.sub("", text)
            if "*" in head:
                head = text  # an alias may stand for names that the probe holds
            for word in set(_WORD.findall(head)):
                if "*" in word:
                    self._patterns.setdefault(word, []).append(entry)
                    # An alias such as `*names` stands for what is found elsewhere in the text.
                if word[0].isupper():
                    self._by_word.setdefault(word, []).append(entry)

    def mentioning(self, name: str) -> Iterator[Entry]:
        """Files that may claim a class by its own name; some of them do not."""
        if not name[:1].isupper():
            yield from self._all
            return
        yield from self._by_word.get(name, ())
        yield from self._unclear

    def matching(self, name: str) -> Iterator[Entry]:
        """Files that may claim a class by a pattern; some of them do not."""
        for pattern, entries in self._patterns.items():
            if fits(pattern, name):
                yield from entries
        yield from self._unclear

    def classes(self) -> dict[str, Entry]:
        """Every class-like word, with the first file that mentions it."""
        return {word: entries[0] for word, entries in self._by_word.items()}
