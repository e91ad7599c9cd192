"""How the zygote's memory lies, so that a fork of it, and its end, have little to look at.

A fork copies the list of mappings and the tables of all pages of memory. With an entry for each
2 MiB in place of each 4 KiB, forking a process of 170 MB and letting the child end takes half the
time; half as many mappings save about 0.5 ms more.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from itertools import pairwise

from consumer.sandbox.linux import HUGE_PAGE, collapse_into_huge_page, protect

_CODE = mmap.PROT_READ | mmap.PROT_EXEC
_DATA = mmap.PROT_READ | mmap.PROT_WRITE


@dataclass(frozen=True)
class _Mapping:
    begin: int
    end: int
    rights: str
    offset: int
    path: str

    def goes_on_in(self, other: _Mapping) -> bool:
        """Whether the other one is the next piece of the same file."""
        size = self.end - self.begin
        return (
            self.path.startswith("/")
            and self.path == other.path
            and self.end == other.begin
            and self.offset + size == other.offset
        )


def arrange() -> None:
    """Of all that is there now, when everything has been imported; nothing moves."""
    _merge_mappings()
    _use_huge_pages()


def _merge_mappings() -> None:
    """Two mappings of a shared library in place of five: 700 in place of 1,400.

    The kernel merges neighbours with the same rights. What a library only reads may be executed
    then, and what the linker had made read-only can be written to: no wall, for a fold may do as
    it likes in its own process.
    """
    for one, two in pairwise(_mappings()):
        if one.goes_on_in(two):
            match one.rights, two.rights:
                case "r--p", "r-xp":
                    protect(one.begin, one.end - one.begin, _CODE)
                case "r-xp", "r--p":
                    protect(two.begin, two.end - two.begin, _CODE)
                case "r--p", "rw-p":
                    protect(one.begin, one.end - one.begin, _DATA)


def _use_huge_pages() -> None:
    for mapping in _mappings():
        if mapping.rights == "rw-p" and mapping.path in ("", "[heap]"):
            first = -(-mapping.begin // HUGE_PAGE) * HUGE_PAGE
            for address in range(first, mapping.end - HUGE_PAGE + 1, HUGE_PAGE):
                collapse_into_huge_page(address)


def _mappings() -> list[_Mapping]:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        lines = [line.split(maxsplit=5) for line in maps]
    found = []
    for span, rights, offset, _, _, *path in lines:
        begin, end = (int(address, 16) for address in span.split("-"))
        found.append(_Mapping(begin, end, rights, int(offset, 16), "".join(path).strip()))
    return found
