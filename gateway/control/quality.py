"""What a quality means, in a technician's words: the probable cause and what to do next."""

from __future__ import annotations

from drivers.base import BusError, Refused
from gateway.errors import GatewayError
from gateway.field.poller import quality_of

_NO_REGISTER = "the device has no such register: check table, address and profile"
_WORDS = {
    "bad:timeout": "no answer; check the power of the device, its address, its speed and format, and wires A and B",
    "bad:crc": "the answer came mangled; check speed and format, termination, and that no two devices share an address",
    "bad:sentinel": "the device itself says that it has no value here: a sensor may be missing",
    "bad:decode": "the bytes are no value of this type: check type and byte order of the point",
    "bad:device": "another device answers at this address: its values are not those of the profile",
    "bad:exception-1": "the device does not know this function: check the table of the point",
    "bad:exception-2": _NO_REGISTER,
    "bad:exception-3": "the device does not accept so many registers at once, or this value",
    "bad:exception-4": "the device failed while it worked on the request: look at its display, switch it off and on",
    "bad:exception-5": "the device has begun something that takes long: ask again later",
    "bad:exception-6": "the device is busy: ask again in a moment",
    "bad:exception-10": "the gateway in between has no path to this unit: check its table of routes",
    "bad:exception-11": "the gateway in between got no answer from the unit: check the unit's power, address and wires",
    "uncertain:range": "outside what is plausible for this point: check scale, byte order and limits",
    "uncertain:restarted": "the device's counter has started again",
}


def why(quality: str) -> str:
    """Explain a quality; empty for a good one."""
    if quality == "good":
        return ""
    if quality.startswith("bad:exception-"):
        return _WORDS.get(quality, "the device refuses, with a code of its own: see its manual")
    return _WORDS.get(quality, "")


def explained(whom: str, error: BusError) -> GatewayError:
    """Turn what the bus said into a sentence with its cause and the next step."""
    if isinstance(error, Refused):  # the driver has named unit, request and meaning of the code
        return GatewayError(str(error))
    return GatewayError(f"{whom}: {why(quality_of(error))} ({error})")
