"""Values that carry their unit or their form: durations, sizes, names, addresses of brokers."""

from __future__ import annotations

import re
import unicodedata
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

ASAP = 0.0
"""A period of "asap": as often as the bus allows."""
DAY = 86_400.0

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h)$"
_SIZE = r"^(0|[0-9]{1,9}(\.[0-9]{1,6})?(B|kB|KB|MB|GB|KiB|MiB|GiB))$"
_NAME = r"^[a-z0-9._-]{1,64}$"
_ID = r"^[A-Za-z0-9._-]{1,64}$"
_PREFIX = r"^[A-Za-z0-9._-]{1,64}(/[A-Za-z0-9._-]{1,64}){0,7}$"
_LOOPBACK = re.compile(r"^(localhost|127(\.[0-9]{1,3}){3}|::1)$")
_NUMBER = re.compile(r"^([0-9.]+)")


class Wrong(ValueError):
    """A value that does not fit; `advice` says what to write."""

    def __init__(self, text: str, advice: str = "") -> None:
        super().__init__(text)
        self.advice = advice


def show(value: object) -> str:
    """Print a value as it stands in the file, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def seconds(value: float) -> str:
    """Print a duration in the unit that reads best: 0.01 -> 10ms, 86400 -> 24h."""
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if value >= size and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value * 1000:g}ms" if value < 1 else f"{value:g}s"


def duration(value: object, low: float, high: float) -> float:
    """Return seconds of "500ms", "1s", "1m", "2h". Wrong when it is none, or outside low..high."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Wrong(
            f"is a number without a unit: {value}", f'write "{value}s" for {value} seconds (units: ms, s, m, h)'
        )
    if not isinstance(value, str) or not re.fullmatch(_DURATION, value):
        raise Wrong(f"is not a duration: {show(value)}", _meant_duration(value))
    number, unit = _split(value)
    result = round(number * _SECONDS[unit], 9)
    if not low <= result <= high:
        raise Wrong(f"is outside {seconds(low)} to {seconds(high)}: {show(value)}", "choose a value between these two")
    return result


def _meant_duration(value: object) -> str:
    likely = str(value).replace(" ", "").lower()
    likely = re.sub(r"(sec|second|seconds|giay|giây)$", "s", re.sub(r"(min|minute|minutes|phut|phút)$", "m", likely))
    if re.fullmatch(_DURATION, likely):
        return f'did you mean "{likely}"?'
    return 'write a number and a unit in quotes, e.g. "500ms", "10s", "1m", "2h"'


def period(value: object) -> float:
    """Return seconds, or ASAP. Wrong when under 10 ms or over a day."""
    if value == "asap":
        return ASAP
    try:
        return duration(value, 0.01, DAY)
    except Wrong as wrong:
        if isinstance(value, str) and value.lower() == "asap":
            raise Wrong(f"is not a duration: {show(value)}", 'did you mean "asap"?') from None
        advice = wrong.advice
        if "outside" in str(wrong):
            advice = 'a period is between 10ms and 24h; "asap" means as often as the bus allows'
        raise Wrong(str(wrong), advice) from None


def size(value: object, low: int, high: int) -> int:
    """Return bytes of "512MB", "64KB", "1GiB", "0". Wrong when it is none, or outside low..high."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise Wrong(f"is a number without a unit: {value}", 'write a unit in quotes, e.g. "512MB" (units: KB, MB, GB)')
    if not isinstance(value, str) or not re.fullmatch(_SIZE, value):
        raise Wrong(
            f"is not a size: {show(value)}", 'write a number and a unit in quotes, e.g. "64KB", "512MB", "1GiB"'
        )
    number, unit = (0.0, "B") if value == "0" else _split(value)
    result = round(number * _BYTES[unit])
    if not low <= result <= high:
        raise Wrong(
            f"is outside {low // 10**6} MB to {high // 10**9} GB: {show(value)}", "choose a value between these two"
        )
    return result


def cap(value: object, low: int, high: int) -> int:
    """Return bytes; 0 is no limit. Wrong when it is no size, or a limit outside low..high."""
    result = size(value, 0, high)
    if 0 < result < low:
        least = f"{low // 10**6} MB" if low >= 10**6 else f"{low} B"
        raise Wrong(f"is less than {least}: {show(value)}", 'raise it, or write "0" for no limit')
    return result


def _split(value: str) -> tuple[float, str]:
    match = _NUMBER.match(value)
    assert match is not None, "the pattern begins with a number"
    return float(match[1]), value[match.end() :]


def plain(value: str) -> str:
    """Make a name of any text: Đồng hồ 1 -> dong-ho-1."""
    text = unicodedata.normalize("NFKD", value.lower().replace("đ", "d"))
    text = "".join(char for char in text if not unicodedata.combining(char))
    return re.sub(r"[^a-z0-9._-]+", "-", text).strip("-")[:64]


def name(value: str) -> str:
    """Accept what can stand in an MQTT topic."""
    if re.fullmatch(_NAME, value):
        return value
    allowed = 'allowed are small letters a-z, digits, "-", "_" and ".", at most 64'
    suggestion = plain(value)
    advice = f'write "{suggestion}"; {allowed}' if suggestion and len(value) <= 64 else allowed
    raise Wrong(f"cannot be a name, because names stand in MQTT topics: {show(value)}", advice)


def gateway_id(value: str) -> str:
    """Accept an id that can stand in an MQTT topic."""
    if re.fullmatch(_ID, value):
        return value
    raise Wrong(
        f"cannot be the id of a gateway, because it stands in MQTT topics: {show(value)}",
        'allowed are letters, digits, "-", "_" and ".", at most 64: no "/", "+", "#" and no spaces',
    )


def prefix(value: str) -> str:
    """Accept one or more topic levels."""
    if re.fullmatch(_PREFIX, value):
        return value
    raise Wrong(
        f"cannot begin an MQTT topic: {show(value)}",
        'write levels of letters, digits, "-", "_" and ".", separated by "/", e.g. "city" or "tay-ninh/light"',
    )


def words(value: str) -> str:
    """Accept text for people, in any language: one line, at most 200 characters."""
    if len(value) > 200:
        raise Wrong(f"is longer than 200 characters ({len(value)})", "make it shorter")
    if any(unicodedata.category(char) == "Cc" for char in value):
        raise Wrong("contains a control character (a line break or tab)", "write it on one line")
    return value


def absolute(value: str) -> str:
    """Accept an absolute path."""
    if not value.startswith("/"):
        raise Wrong(f"is not a full path: {show(value)}", 'write the whole path, beginning with "/"')
    if len(value) > 1024 or "\0" in value:
        raise Wrong(f"is not a path: {show(value)}", "a path has at most 1024 characters")
    return value


def broker(value: str) -> str:
    """Accept mqtt://host[:port] and mqtts://host[:port]."""
    form = 'write "mqtts://host:8883" (with TLS) or "mqtt://host:1883" (without)'
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Wrong(f"is not the address of a broker: {show(value)}", form) from None
    if "@" in parts.netloc:
        raise Wrong("has a user name or password in the address of the broker", "use username and password_file")
    if "://" not in value:
        raise Wrong(f"has no mqtts:// in front: {show(value)}", f'did you mean "mqtts://{value}"?')
    if parts.scheme not in {"mqtt", "mqtts"}:
        likely = "mqtts" if parts.scheme in {"ssl", "tls", "mqttss", "https", "wss"} else "mqtt"
        raise Wrong(f'has an unknown scheme "{parts.scheme}://"', f'did you mean "{likely}://{parts.netloc}"? {form}')
    if not parts.hostname or port == 0:
        raise Wrong(f"has no host or no valid port: {show(value)}", form)
    if parts.path.strip("/") or parts.query or parts.fragment or re.search(r"\s", value):
        raise Wrong(f"has something after host and port: {show(value)}", form)
    return value


def is_plain_remote(url: str) -> bool:
    """Whether a valid broker address sends readings unprotected over a network."""
    parts = urlsplit(url)
    return parts.scheme == "mqtt" and not _LOOPBACK.match(parts.hostname or "")


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Name = Annotated[str, AfterValidator(name), _text(_NAME)]
GatewayId = Annotated[str, AfterValidator(gateway_id), _text(_ID)]
Prefix = Annotated[str, AfterValidator(prefix), _text(_PREFIX)]
Words = Annotated[str, AfterValidator(words)]
AbsolutePath = Annotated[str, AfterValidator(absolute), _text("^/")]
Broker = Annotated[str, AfterValidator(broker), _text("^mqtts?://")]
Period = Annotated[float, PlainValidator(period), _text(_DURATION[:-1].replace("^", "^(asap|") + ")$")]
Linger = Annotated[float, PlainValidator(partial(duration, low=0.0, high=300.0)), _text(_DURATION)]
Interval = Annotated[float, PlainValidator(partial(duration, low=0.0, high=60.0)), _text(_DURATION)]
Timeout = Annotated[float, PlainValidator(partial(duration, low=0.01, high=60.0)), _text(_DURATION)]
Minutes = Annotated[float, PlainValidator(partial(duration, low=1.0, high=3600.0)), _text(_DURATION)]
StoreSize = Annotated[int, PlainValidator(partial(size, low=8 * 10**6, high=10**12)), _text(_SIZE)]
PerSecond = Annotated[int, PlainValidator(partial(cap, low=500, high=10**9)), _text(_SIZE)]
PerDay = Annotated[int, PlainValidator(partial(cap, low=10**6, high=10**12)), _text(_SIZE)]
KeepSize = Annotated[int, PlainValidator(partial(size, low=0, high=10**12)), _text(_SIZE)]
