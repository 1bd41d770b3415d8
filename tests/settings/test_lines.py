"""The line scanner against tomllib: every path of the parsed document has a line, and that line shows the key."""

import json
import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.lines import dotted, lines

BARE = st.text(alphabet="abcXYZ019_-", min_size=1, max_size=6)
QUOTED = st.text(alphabet="ab .=#[]{}'\"\\ếđ,", min_size=0, max_size=6)
KEYS = st.one_of(BARE, QUOTED)
TEXTS = st.text(alphabet="ab =#[]{}\"'\\,\nđ", max_size=12)
SCALARS = st.one_of(
    st.integers(-99, 99).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(["1.5", "inf", "1979-05-27 07:32:00", "07:32:00", "0xff"]),
    st.sampled_from(["'lit # [x'", "'''a\n'b'\n'''", "''''''"]),
    st.sampled_from(['"""a\n"b" # no remark\n\\"""c""""', '""""""', '"""\\\n   x"""', '"]"', '"}"', '"\\""']),
    TEXTS.map(json.dumps),
)


def key_text(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def shows(line: str, key: str) -> bool:
    return key_text(key) in line or (bool(key) and f"'{key}'" in line)


@st.composite
def values(draw, depth=2):
    kind = draw(st.sampled_from(["scalar", "scalar", "array", "inline"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(SCALARS)
    if kind == "array":
        items = draw(st.lists(values(depth=depth - 1), max_size=3))
        gap = draw(st.sampled_from(["", " ", "\n  ", " # remark, ]\n"]))
        comma = draw(st.sampled_from(["", ","])) if items else ""
        return "[" + gap + f",{gap}".join(items) + ("\n" if "#" in gap else "") + comma + gap + "]"
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    pairs = [f"{key_text(key)} = {draw(values(depth=0))}" for key in keys]
    return "{ " + ", ".join(pairs) + " }"


@st.composite
def documents(draw):
    """A TOML text; it may be invalid (a table declared twice), then it is thrown away."""
    text = draw(st.sampled_from(["", "# remark\n", "\n\n"]))
    for _ in range(draw(st.integers(0, 6))):
        header = draw(st.sampled_from(["none", "table", "array"]))
        path = " . ".join(key_text(key) for key in draw(st.lists(KEYS, min_size=1, max_size=3)))
        if header == "table":
            text += f"[ {path} ] # {path}\n"
        elif header == "array":
            text += f"[[{path}]]\n"
        for _ in range(draw(st.integers(0, 3))):
            dots = ".".join(key_text(key) for key in draw(st.lists(KEYS, min_size=1, max_size=2)))
            text += f"{draw(st.sampled_from(['', '  ', chr(9)]))}{dots} = {draw(values())}\n"
    return text


def paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*path, place))


@given(documents())
def test_every_path_has_a_line_that_shows_its_key(text):
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = lines(text)
    expected = set(paths(document))
    assert set(found) == expected
    rows = text.split("\n")
    for path in expected:
        if path and isinstance(path[-1], str):
            assert shows(rows[found[path] - 1], path[-1]), (path, found[path])


@given(documents())
def test_windows_line_ends_change_no_line(text):
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert lines(text.replace("\n", "\r\n")) == lines(text)


def test_a_site_file_by_hand():
    text = (
        "[gateway]\n"
        'id = "x"\n'
        "\n"
        "[[bus]]\n"
        'name = "a"\n'
        "serial = { port = '/dev/x', baud = 1 }\n"
        "  [[bus.device]]\n"
        "  address = 1\n"
        '  points.voltage = { every = "1s" }\n'
        "  [[bus.device]]\n"
        "  address = [\n"
        "    1,\n"
        "    { b = 2 },\n"
        "  ]\n"
        "[[bus]]\n"
        "[bus.tcp]\n"
        "host = 1\n"
    )
    found = lines(text)
    assert found["gateway", "id"] == 2
    assert found["bus",] == 4
    assert found["bus", 0] == 4
    assert found["bus", 0, "serial", "baud"] == 6
    assert found["bus", 0, "device", 0, "points", "voltage", "every"] == 9
    assert found["bus", 0, "device", 1] == 10
    assert found["bus", 0, "device", 1, "address", 1, "b"] == 13
    assert found["bus", 1] == 15
    assert found["bus", 1, "tcp", "host"] == 17


def test_a_later_header_tells_the_line_of_a_table_that_was_implied():
    assert lines("[a.b]\n[a]\n")["a",] == 2


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("bus", 0, "device", 12, "address"), "bus[0].device[12].address"),
        (("uplink", "brokers", 1), "uplink.brokers[1]"),
    ],
)
def test_dotted(path, text):
    assert dotted(path) == text
