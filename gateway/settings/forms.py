"""Values of serial lines, points and times of the day that have a form of their own."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from gateway.settings.quantities import Wrong, show

BAUDS = (1200, 2400, 4800, 9600, 14400, 19200, 28800, 38400, 57600, 76800, 115200, 230400, 460800, 921600)
"""Speeds that devices are sold with; others are allowed and remarked on."""

_WINDOW = r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])"


def line_format(value: str) -> str:
    """Accept data bits, parity, stop bits."""
    if re.fullmatch(r"[5-8][NEO][12]", value):
        return value
    likely = value.upper().replace("-", "").replace(",", "").replace(" ", "")
    advice = f'did you mean "{likely}"?' if re.fullmatch(r"[5-8][NEO][12]", likely) else 'write e.g. "8N1" or "8E1"'
    raise Wrong(f"is not a line format (data bits, parity N, E or O, stop bits): {show(value)}", advice)


def baud(value: int) -> int:
    """Accept any speed that hardware can do."""
    if 300 <= value <= 4_000_000:
        return value
    raise Wrong(f"is outside 300 to 4000000: {value}", f"did you mean {usual_baud(value)}?")


def usual_baud(value: int) -> int:
    """Return the usual speed that was probably meant: the one written alike, else the nearest."""
    alike = difflib.get_close_matches(str(value), [str(usual) for usual in BAUDS], n=1)
    return int(alike[0]) if alike else min(BAUDS, key=lambda usual: abs(usual - value))


def labels(value: object) -> dict[int, str]:
    """Read { "0" = "off", "1" = "on" }: TOML keys are text, codes are numbers."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Wrong("must be a table of texts", 'write { "0" = "off", "1" = "on" }')
    if wrong := [key for key in value if not re.fullmatch(r"-?[0-9]{1,20}", key)]:
        raise Wrong(f"has a key that is not a whole number: {show(wrong[0])}", 'write { "0" = "off", "1" = "on" }')
    if len(value) > 256 or any(len(text) > 100 for text in value.values()):
        raise Wrong("has more than 256 texts, or a text over 100 characters", "make it shorter")
    return {int(key): text for key, text in value.items()}


def bit(value: object) -> int | tuple[int, int]:
    """Read 5 (one bit of a register) or [1, 3] (three bits from bit 1)."""
    pair: list[Any] = value if isinstance(value, list) else [value, 1]
    if len(pair) != 2 or not all(isinstance(part, int) and not isinstance(part, bool) for part in pair):
        raise Wrong(f"is not a bit: {show(value)}", "write 5 for bit 5, or [1, 3] for three bits from bit 1")
    first, count = pair
    return (first, count) if isinstance(value, list) else first


def sentinels(value: object) -> list[float]:
    """Read raw values that mean "no value"; whole numbers stay exact."""
    if not isinstance(value, list) or any(isinstance(raw, bool) or not isinstance(raw, int | float) for raw in value):
        raise Wrong(f"must be a list of numbers, not {show(value)}", "write e.g. [65535]")
    return value


def forbidden(value: object) -> list[tuple[str, int, int]]:
    """Read [["holding", 100, 120]]: table, first and last address that must never be read."""
    advice = 'write [["holding", 100, 120]]: table, first and last address'
    if not isinstance(value, list):
        raise Wrong(f"must be a list, not {show(value)}", advice)
    for part in value:
        if not isinstance(part, list) or [type(item) for item in part] != [str, int, int]:
            raise Wrong("has an entry that is not a table and two addresses", advice)
        if part[0] not in {"coil", "discrete", "holding", "input"} or not 0 <= part[1] <= part[2] <= 65535:
            raise Wrong(f"has an entry that is not a range of addresses: {part}", advice)
    return [(table, first, last) for table, first, last in value]


def window(value: object) -> tuple[int, int]:
    """Read "22:00-05:00" as seconds of the day."""
    match = re.fullmatch(_WINDOW, value) if isinstance(value, str) else None
    if match is None:
        raise Wrong(
            f"is not a part of the day: {show(value)}",
            'write hours and minutes, from-to, e.g. "22:00-05:00"; midnight is 00:00',
        )
    hour, minute, to_hour, to_minute = (int(part) for part in match.groups())
    start, end = hour * 3600 + minute * 60, to_hour * 3600 + to_minute * 60
    if start == end:
        raise Wrong(f"begins and ends at the same time: {show(value)}", "write two times, or remove it")
    return start, end


def apart(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Accept parts of the day that do not overlap and leave some of it."""
    day = 86_400
    spans = sorted(
        span for start, end in windows for span in ([(start, end)] if start < end else [(start, day), (0, end)])
    )
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise Wrong(
                f"has two entries for {start // 3600:02}:{start // 60 % 60:02}", "join the two that overlap into one"
            )
    if sum(end - start for start, end in spans) == day:
        raise Wrong("covers the whole day: the device would never be read", "leave some time, or remove the device")
    return windows


def factor(value: float) -> float:
    """Accept a scale."""
    if value == 0:
        raise Wrong(
            "is 0: every value would become 0", "leave scale out, or write the factor from the manual, e.g. 0.1"
        )
    return value


Baud = Annotated[int, AfterValidator(baud), WithJsonSchema({"type": "integer", "minimum": 300, "maximum": 4000000})]
Format = Annotated[str, AfterValidator(line_format), WithJsonSchema({"type": "string", "pattern": "^[5-8][NEO][12]$"})]
Labels = Annotated[
    dict[int, str],
    PlainValidator(labels),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]
Bit = Annotated[
    int | tuple[int, int],
    PlainValidator(bit),
    WithJsonSchema({"oneOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
]
Sentinels = Annotated[
    list[float],
    PlainValidator(sentinels),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
Forbidden = Annotated[
    list[tuple[str, int, int]],
    PlainValidator(forbidden),
    WithJsonSchema({"type": "array", "items": {"type": "array"}}),
]
Quiet = Annotated[
    list[
        Annotated[
            tuple[int, int], PlainValidator(window), WithJsonSchema({"type": "string", "pattern": f"^{_WINDOW}$"})
        ]
    ],
    Field(max_length=8),
    AfterValidator(apart),
]
Address = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 255})]
Order = Annotated[str, Field(pattern=r"^[A-H]{2,8}$")]
Unit = Annotated[str, Field(min_length=1, max_length=24, pattern=r"^\S+$")]
Scale = Annotated[float, AfterValidator(factor)]
Deadband = Annotated[float, Field(ge=0)]
Decimals = Annotated[int, Field(ge=0, le=15)]
