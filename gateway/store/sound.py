"""Whether a row of the small tables is what a store writes: pages carry no checksum, a damaged one may hold anything.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from gateway.store.notices import LOSSES
from gateway.store.rows import LAST_RUN, LAST_SEQ, lane

Row = tuple[Any, ...]
_IDS, _RUNS, _SEQS = range(1, lane("t")[1] + 1), range(1, LAST_RUN + 1), range(LAST_SEQ + 1)
SHAPES = {"run": (int, str, str, int, int, int), "state": (str, bytes | str), "birth": (str, str, bytes, int)}


def is_sound(table: str, row: Row) -> bool:
    """Whether the row of `run`, `state` or `birth` can be what was written there."""
    shape = SHAPES[table]
    if len(row) != len(shape) or not all(map(isinstance, row, shape)):
        return False
    try:
        return _CONTENTS[table](row)
    except (AttributeError, TypeError, ValueError):  # MessagePack of something else, or none
        return False


def _run(row: Row) -> bool:
    number, _, ended, *high = row
    return number in _RUNS and ended in ("", "clean", "unclean") and all(seq in _SEQS for seq in high)


def _state(row: Row) -> bool:
    key, value = row
    if key == ".salvage":
        return isinstance(value, str)
    held = msgpack.unpackb(value)
    if key == ".anchors":
        return all(isinstance(anchor, int) for anchor in held.values())
    return key != ".lost" or all(code in LOSSES and all(map(_is_span, spans)) for code, spans in held.items())


def _is_span(span: Any) -> bool:
    first, last = span
    return first in _IDS and last in _IDS and first <= last


def _birth(row: Row) -> bool:
    return isinstance(msgpack.unpackb(row[2]), dict) and row[3] in _RUNS


_CONTENTS: dict[str, Callable[[Row], bool]] = {"run": _run, "state": _state, "birth": _birth}
