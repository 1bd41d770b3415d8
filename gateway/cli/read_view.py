"""What `gateway read` shows."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

ORDERS = {"ABCD": (0, 1, 2, 3), "CDAB": (2, 3, 0, 1), "BADC": (1, 0, 3, 2), "DCBA": (3, 2, 1, 0)}
"""Name -> where on the wire each byte stands, the most significant first."""
QUALITY_STYLES = {"good": "green", "uncertain": "yellow", "bad": "red"}


def style_of(quality: str) -> str:
    """Return the colour of a quality."""
    return QUALITY_STYLES[quality.partition(":")[0]]


def value_text(value: object) -> str:
    """Write a value for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def unit_text(unit: str) -> str:
    """Write a UCUM code; nothing for a plain number."""
    return "" if unit == "1" else unit


def show_points(points: Sequence[Mapping[str, Any]], end: Mapping[str, Any]) -> None:
    """Draw the points of a device."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("point", "value", "unit", "quality"):
        table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
    for point in points:
        quality = Text(point["quality"], style_of(point["quality"]))
        if point["why"]:
            quality.append(f"\n{point['why']}", "dim")
        table.add_row(Text(point["point"]), Text(value_text(point["value"])), Text(unit_text(point["unit"])), quality)
    console.print(table)
    many = f"{end['exchanges']} request" + ("" if end["exchanges"] == 1 else "s")
    console.print(Text(f"{end['device']} on {end['bus']}: {many}, {end['took_ms']:g} ms on the bus", "dim"))


def show_words(found: Mapping[str, Any], words: Mapping[str, Any]) -> None:
    """Write what a unit says of itself."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    who = f"unit {found['unit']} on {found['bus']}"
    if not words:
        what = "what it is (function 43/14)" if "identity" in found else "what it counts (functions 7, 8, 11)"
        print(f"gateway: {who} answers, but it cannot say {what}: read its registers instead", file=sys.stderr)
        return
    width = max(map(len, words))
    for name, word in words.items():
        console.print(Text.assemble((name.replace("_", " ").ljust(width + 2), "dim"), str(word)))
    console.print(Text(f"{who}: {found['took_ms']:g} ms on the bus", "dim"))


# Raw registers --------------------------------------------------------------------------------------------------------


def decoded(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw data for machines: bits or registers as numbers."""
    data = bytes.fromhex(found["data"])
    many = found["count"]
    if found["table"] in ("coil", "discrete"):
        return {**found, "values": [data[at // 8] >> at % 8 & 1 for at in range(many)]}
    return {**found, "values": list(struct.unpack(f">{len(data) // 2}H", data))}


def show_raw(found: Mapping[str, Any]) -> None:
    """Draw raw data: registers in every reading that they may have, bits in rows of sixteen."""
    from rich.console import Console
    from rich.text import Text

    # What is piped is not cut to the width of some terminal.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    values = decoded(found)["values"]
    if found["table"] in ("coil", "discrete"):
        for at in range(0, len(values), 16):
            row = " ".join(f"{''.join(map(str, values[at + k : at + k + 4]))}" for k in range(0, 16, 4))
            console.print(f"{found['first'] + at:>5}  {row}")
    else:
        console.print(_registers(bytes.fromhex(found["data"]), found["first"]))
        console.print(
            Text(
                "two registers each (other pairs: begin one address later); bold: a likely number",
                "dim",
            )
        )
    where = f"unit {found['unit']} on {found['bus']}, {found['table']}"
    console.print(Text(f"{where}: {found['took_ms']:g} ms on the bus", "dim"))


def _registers(data: bytes, first: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("addr", "hex", "u16", "s16", "", *ORDERS):
        table.add_column(name, justify="right" if name else "left")
    words = [(first + at // 2, data[at : at + 2]) for at in range(0, len(data), 2)]
    for pair in range(0, len(words), 2):
        here = [Text("\n").join(column) for column in zip(*map(_word, words[pair : pair + 2]), strict=True)]
        four = data[2 * pair : 2 * pair + 4]
        natural = [bytes(four[place] for place in places) for places in ORDERS.values()] if len(four) == 4 else []
        cells = [Text("\n").join(Text(line, style) for line, style in readings(bytes_)) for bytes_ in natural]
        table.add_row(*here, Text("u32\ns32\nf32", "dim") if cells else "", *cells)
    return table


def _word(word: tuple[int, bytes]) -> tuple[Text, ...]:
    from rich.text import Text

    at, data = word
    unsigned, signed = struct.unpack(">H", data)[0], struct.unpack(">h", data)[0]
    return Text(str(at)), Text(data.hex().upper()), Text(str(unsigned)), Text(str(signed))


def readings(four: bytes) -> list[tuple[str, str]]:
    """Return four bytes, the most significant first, as u32, s32 and f32, each with its style."""
    unsigned, signed, real = (struct.unpack(form, four)[0] for form in (">I", ">i", ">f"))
    return [
        (str(unsigned), ""),
        (str(signed), ""),
        (f"{real:.7g}", "bold green" if is_plausible(real) else "dim"),
    ]


def is_plausible(real: float) -> bool:
    """Whether a float is a number that a sensor may send."""
    return math.isfinite(real) and 1e-3 < abs(real) < 1e7
