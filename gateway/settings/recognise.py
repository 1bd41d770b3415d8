"""What a scan needs of the profiles: what a device is recognised by, and the lines that factories set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.settings.profile import SHIPPED, Catalogue, FactoryTable, SignatureTable


@dataclass(frozen=True, slots=True)
class Signature:
    """One fact of a device type: the raw value at `at` is one of `equals`, or within low..high (None: no bound).

    `count` registers are read; table, type and order are those of drivers.modbus.register.
    """

    table: str
    at: int
    count: int
    type: str
    order: str
    low: float | None
    high: float | None
    equals: tuple[int, ...]

    def holds(self, raw: float) -> bool:
        """Whether a raw value, before scale and offset, fits. NaN never does."""
        if self.equals:
            return raw in self.equals
        return (self.low is None or raw >= self.low) and (self.high is None or raw <= self.high)


@dataclass(frozen=True, slots=True)
class Factory:
    """The serial line as the factory sets it; `address` None where each unit comes with another."""

    baud: int
    format: str
    address: int | None


def signatures(directories: Sequence[Path] = (SHIPPED,)) -> dict[str, list[Signature]]:
    """Return profile -> what must hold of it, all of it; profiles with most to hold first, those with none left out."""
    catalogue = Catalogue(directories)
    found = {name: [_signature(one) for one in catalogue.get(name).table.signature] for name in catalogue.names()}
    return {name: found[name] for name in sorted(found, key=lambda name: -len(found[name])) if found[name]}


def factories(directories: Sequence[Path] = (SHIPPED,)) -> dict[str, Factory]:
    """Return profile -> factory setting of its line; those whose speed and format most profiles have come first."""
    catalogue = Catalogue(directories)
    lines = {name: table for name in catalogue.names() if (table := catalogue.get(name).table.serial) is not None}
    common = Counter(_line(table) for table in lines.values())
    first = sorted(lines, key=lambda name: (-common[_line(lines[name])], _line(lines[name])))
    return {name: Factory(lines[name].baud, lines[name].format, lines[name].address) for name in first}


def _line(table: FactoryTable) -> tuple[int, str]:
    return table.baud, table.format


def _signature(table: SignatureTable) -> Signature:
    from drivers.modbus.register import WORDS

    equals = tuple(table.equals or ())
    count = WORDS[table.type]
    return Signature(table.table, table.at, count, table.type, table.order, table.low, table.high, equals)
