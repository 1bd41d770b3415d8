"""Sets of positive integers that are mostly consecutive. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from gateway.model import Ranges


class Numbers:
    """A set of positive integers as closed ranges, ascending and never adjacent: its size is that of its gaps."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int | None = None) -> None:
        """Add one number, or all from `first` to `last`."""
        last = first if last is None else last
        i = bisect_left(self._lasts, first - 1)
        j = bisect_right(self._firsts, last + 1)
        if i < j:
            first, last = min(first, self._firsts[i]), max(last, self._lasts[j - 1])
        self._firsts[i:j], self._lasts[i:j] = [first], [last]

    def remove(self, first: int, last: int | None = None) -> None:
        """Take out one number, or all from `first` to `last`, as far as they are there."""
        last = first if last is None else last
        i = bisect_left(self._lasts, first)
        j = bisect_right(self._firsts, last)
        if i < j:
            rest = [(a, b) for a, b in ((self._firsts[i], first - 1), (last + 1, self._lasts[j - 1])) if a <= b]
            self._firsts[i:j] = [a for a, _ in rest]
            self._lasts[i:j] = [b for _, b in rest]

    def __contains__(self, number: int) -> bool:
        i = bisect_left(self._lasts, number)
        return i < len(self._firsts) and self._firsts[i] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __bool__(self) -> bool:
        return bool(self._firsts)

    @property
    def highest(self) -> int:
        return self._lasts[-1] if self._lasts else 0

    def reaches(self, end: int) -> bool:
        """Whether every number from 1 to `end` is in the set."""
        return not end or (bool(self._firsts) and self._firsts[0] == 1 and self._lasts[0] >= end)

    def overlap(self, first: int, last: int) -> Ranges:
        """The part of the set that lies from `first` to `last`."""
        i = bisect_left(self._lasts, first)
        j = bisect_right(self._firsts, last)
        return tuple((max(first, self._firsts[k]), min(last, self._lasts[k])) for k in range(i, j))

    def gaps(self, end: int, first: int = 1) -> Ranges:
        """What is missing from `first` to `end`."""
        missing = []
        for a, b in self.overlap(first, end):
            if a > first:
                missing.append((first, a - 1))
            first = b + 1
        if first <= end:
            missing.append((first, end))
        return tuple(missing)
