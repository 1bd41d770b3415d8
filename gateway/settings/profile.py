"""Profiles: one TOML file of facts per device type. Finding them, and what may stand in them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

import drivers
from gateway.errors import ConfigError, Problem
from gateway.settings.document import Document, read
from gateway.settings.explain import explain, nearest
from gateway.settings.forms import Baud, Format, Order
from gateway.settings.lines import Place
from gateway.settings.points import point_problems, range_problem
from gateway.settings.quantities import Words
from gateway.settings.tables import OptionsTable, PointTable, Table

SHIPPED = Path(drivers.__file__).parent / "profiles"

Hex = Annotated[str, Field(pattern=r"^([0-9A-F]{2}( [0-9A-F]{2})*)?$", max_length=800)]


class HeadTable(Table):
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)*$", max_length=64)]
    """Name of the profile and of its file."""
    vendor: Words
    """Who makes the device."""
    model: Words
    """The maker's name of the device."""
    class_: Annotated[str, Field(alias="class", pattern=r"^[a-z0-9-]{1,40}$")]
    """What the device is, e.g. energy-3ph."""
    driver: str = "modbus"
    """Protocol."""
    confidence: Literal["high", "medium", "low"]
    """How sure the facts are."""
    sources: list[str] = Field(min_length=1, max_length=20)
    """Public documents that the facts come from."""
    notes: list[str] = Field(default_factory=list, max_length=20)
    """What a technician should know."""


class FactoryTable(Table):
    """The serial line as the factory sets it."""

    baud: Baud
    """Bits per second."""
    format: Format
    """Data bits, parity, stop bits."""
    address: Annotated[int, Field(ge=1, le=247)] | None = None
    """Unit id."""


class GoldenTable(Table):
    """One exchange that is known to be right."""

    provenance: Literal["manual", "real", "built"]
    """Printed in a manual, taken from a real device, or built from the documented map."""
    request: Hex
    """Bytes to the device."""
    reply: Hex = ""
    """Bytes from the device."""
    expect: dict[str, Any] = Field(default_factory=dict)
    """Points and their values after decoding; "bad:sentinel" for no value."""
    note: str = ""
    """What is special."""


class SignatureTable(Table):
    """One fact that a scan can see: the raw value of a register, before scale and offset."""

    table: Literal["holding", "input"]
    """Which of the two tables of registers."""
    at: Annotated[int, Field(ge=0, le=65535)]
    """Protocol address, counted from 0."""
    type: Literal["u8hi", "u8lo", "u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"] = "u16"
    """How the value is written."""
    order: Order = ""
    """Order of the bytes on the wire: ABCD (default), CDAB, BADC, DCBA."""
    low: float | None = None
    """The value is at least this..."""
    high: float | None = None
    """... and at most this."""
    equals: Annotated[list[int], Field(min_length=1, max_length=64)] | None = None
    """Or it is one of these."""


class ProfileTable(Table):
    profile: HeadTable
    """What device this is."""
    serial: FactoryTable | None = None
    """Factory setting of the line."""
    limits: OptionsTable = OptionsTable()
    """What the device can take."""
    point: list[PointTable] = Field(min_length=1, max_length=2000)
    """The values of the device."""
    golden: list[GoldenTable] = Field(default_factory=list, max_length=100)
    """Exchanges that the tests decode."""
    signature: list[SignatureTable] = Field(default_factory=list, max_length=8)
    """What a scan recognises the device by; all must hold."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that has been read and checked."""

    table: ProfileTable
    sha256: str

    @property
    def points(self) -> dict[str, PointTable]:
        return {point.name: point for point in self.table.point}


def parse(document: Document) -> Profile:
    """Check a profile. ConfigError with every problem."""
    problems = list(_problems(document))
    try:
        table = ProfileTable.model_validate(document.data)
    except ValidationError as error:
        problems += explain(document, ProfileTable, error)
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return Profile(table, document.sha256)


def _problems(document: Document) -> Iterator[Problem]:
    head = document.table("profile")
    expected = Path(document.file).stem
    if isinstance(head.get("id"), str) and head["id"] != expected:
        yield document.problem(
            ("profile", "id"), f'is "{head["id"]}" but the file is called {expected}.toml', "give both the same name"
        )
    if str(head.get("driver", "modbus")) not in drivers.DRIVERS:
        yield document.problem(("profile", "driver"), "names an unknown driver", f"known: {', '.join(drivers.DRIVERS)}")
    yield from point_problems(document, ("point",), document.data.get("point"))
    known = {point["name"] for _, point in document.tables(("point",)) if isinstance(point.get("name"), str)}
    for place, golden in document.tables(("golden",)):
        for name in golden.get("expect", {}) if isinstance(golden.get("expect"), dict) else ():
            if name not in known:
                advice = nearest(name, known) or f"points of this profile: {', '.join(sorted(known))}"
                yield document.problem(("golden", place, "expect", name), "is not a point of this profile", advice)
    for place, signature in document.tables(("signature",)):
        yield from _signature(document, ("signature", place), signature)


def _signature(document: Document, place: Place, raw: dict[str, Any]) -> Iterator[Problem]:
    from drivers.modbus.register import Register

    bounds = [key for key in ("low", "high") if key in raw]
    if "equals" in raw and bounds:
        yield document.problem((*place, "equals"), f"stands beside {bounds[0]}", "write equals, or low and high")
    if not bounds and "equals" not in raw:
        yield document.problem(place, "says nothing of the value", "write low and high, or equals = [1, 2]")
    yield from range_problem(document, place, raw.get("low"), raw.get("high"))
    try:
        table = SignatureTable.model_validate(raw)
    except ValidationError:
        return  # explained elsewhere, value by value
    try:
        Register(table.table, table.at, table.type, table.order)
    except ValueError as error:
        yield document.problem(place, str(error))


class Catalogue:
    """The profiles of some directories; the first directory that has a name wins. Each file is read once."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = tuple(directories)
        self._read: dict[str, Profile] = {}

    def names(self) -> list[str]:
        """Return the names of all profiles, sorted."""
        return sorted({path.stem for directory in self._directories for path in directory.glob("*.toml")})

    def path(self, name: str) -> Path:
        """Return the file of a profile. KeyError when there is none."""
        for directory in self._directories:
            for path in directory.glob("*.toml"):  # not joined: a name must not climb out of the directory
                if path.stem == name:
                    return path
        raise KeyError(name)

    def get(self, name: str) -> Profile:
        """Return a checked profile. KeyError when there is none, ConfigError when it is wrong."""
        if name not in self._read:
            self._read[name] = parse(read(self.path(name)))
        return self._read[name]


def profile_names(directories: Sequence[Path] = (SHIPPED,)) -> list[str]:
    """Return the names of the profiles, sorted."""
    return Catalogue(directories).names()


def raw_profile(name: str, directories: Sequence[Path] = (SHIPPED,)) -> dict[str, Any]:
    """Return a profile as it stands in its file, unchecked: for whoever must not share our decoder. KeyError."""
    with Catalogue(directories).path(name).open("rb") as file:
        return tomllib.load(file)
