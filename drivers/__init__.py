"""Device knowledge: protocols and profiles. Pure: no IO, no clock, no event loop."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drivers.base import Driver

DRIVERS = {
    "modbus": "drivers.modbus.driver:Modbus",
}
"""Name in the site file -> where the class is. Imported when the first device asks for it."""


def create(name: str, **options: Any) -> Driver:
    """Build the driver of one device. `options` are the driver's own; an unknown name is a KeyError."""
    module, _, attribute = DRIVERS[name].partition(":")
    driver: Driver = getattr(import_module(module), attribute)(**options)
    return driver
