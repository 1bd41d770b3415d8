"""What is allowed, and yet worth a remark: printed by `gateway check` and in the status."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.model import Bus, SerialPort, Site, Uplink
from gateway.settings.forms import BAUDS, usual_baud
from gateway.settings.quantities import is_plain_remote, seconds


def notes(site: Site) -> list[str]:
    """Return one sentence for each remark."""
    remarks = [*_uplink(site.uplink), *(text for bus in site.buses for text in _bus(bus))]
    if site.clock == "system":
        remarks.append('clock.trust = "system": the clock is believed even when it was never set')
    if not site.buses:
        remarks.append("there is no [[bus]] yet: nothing will be read")
    return remarks


def loss_window(site: Site) -> float:
    """Return how many seconds of readings a power cut can cost that the IOC had not confirmed."""
    return site.store.linger + site.store.commit_every


def loss_sentence(site: Site) -> str:
    """Say what a power cut can cost."""
    window = seconds(round(loss_window(site), 3))
    if site.store.durability == "strict":
        return f"a power cut costs nothing that was published; readings of the last {window} may not be stored yet"
    return f"a power cut can cost at most the last {window} (linger + commit_every) that the IOC had not confirmed"


def _uplink(uplink: Uplink) -> Iterator[str]:
    for url in uplink.brokers:
        if is_plain_remote(url):
            yield f"{url}: readings and password cross the network unprotected (insecure = true)"
        elif urlsplit(url).scheme == "mqtts" and not uplink.cert and not uplink.username:
            yield f"{url}: neither certificate nor user name: the broker cannot tell this gateway from another"
    if uplink.confirm == "puback":
        yield (
            'confirm = "puback": a broker that speaks only MQTT 3.1.1 cannot say that it refused a message; '
            'confirm = "ioc" closes that gap'
        )


def _bus(bus: Bus) -> Iterator[str]:
    if not bus.devices:
        yield f"bus {bus.name} has no device yet: gateway scan finds them"
    if isinstance(bus.port, SerialPort):
        if bus.port.baud not in BAUDS:
            yield f"bus {bus.name}: {bus.port.baud} baud is unusual; did you mean {usual_baud(bus.port.baud)}?"
        if bus.port.port.startswith("/dev/ttyUSB"):
            yield (
                f"bus {bus.name}: {bus.port.port} may become another adapter after a restart; "
                "use its name in /dev/serial/by-path"
            )
