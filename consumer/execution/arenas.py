"""Room for Python's small objects, in one piece.

Python asks the kernel for 1 MiB at a time for them (an arena). While modules are imported, shared
libraries are mapped in between, and what lies scattered cannot be put into huge pages: a fork, and
its end, then look at each page of 4 KiB.
"""

from __future__ import annotations

_ARENAS = 48
"""What numpy, pandas and scikit-learn take, warm, is some forty."""

_BLOCK_BYTES = 460
"""With its header close to 512 bytes, the largest that still counts as small."""

_BLOCKS_IN_ARENA = 2048
_KEPT_IN_ARENA = 2
"""An arena is given back when nothing is left in it."""


class Room:
    """Arenas side by side, nearly empty: what is imported next fills them."""

    def __init__(self) -> None:
        # A list that grows moves, and leaves gaps between arenas.
        blocks = [b""] * (_ARENAS * _BLOCKS_IN_ARENA)
        for number in range(len(blocks)):
            blocks[number] = bytes(_BLOCK_BYTES)
        self._kept = blocks[:: _BLOCKS_IN_ARENA // _KEPT_IN_ARENA]

    def give_back(self) -> None:
        """What nobody has filled."""
        self._kept.clear()
