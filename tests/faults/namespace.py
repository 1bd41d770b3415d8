"""A network of its own for the agent: two cables (uplink and field) and its own resolver. Needs root and iproute2."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catalogue import NotHere

_numbers = itertools.count()
_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


@dataclass(frozen=True)
class Namespace:
    """`uplink` and `field` are this side's addresses of the two cables; `spare` is a second one of the uplink's."""

    name: str
    uplink: str
    spare: str
    field: str
    cable: str
    """This side's end of the uplink's cable."""

    def unplug(self) -> None:
        """The cable to the broker is pulled: what is sent is gone, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        ip("link", "set", self.cable, "up")


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, env={"PATH": _PATH})
    if done.returncode:
        raise NotHere(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@contextlib.contextmanager
def namespace(resolver: bool = False) -> Iterator[Namespace]:
    """Make one. With `resolver` names are asked for at this side's uplink address."""
    if os.geteuid() or not shutil.which("ip", path=_PATH):
        raise NotHere("a network namespace needs root and iproute2")
    number = os.getpid() * 8 % 65536 + next(_numbers) % 8
    net = f"198.18.{number // 256}.{number % 256 // 8 * 8}"
    base = net.rpartition(".")[0]
    first = int(net.rpartition(".")[2])
    name = f"fault-{os.getpid()}-{number % 8}"
    near, far = f"fu{number}", f"ff{number}"
    made = Namespace(name, f"{base}.{first + 1}", f"{base}.{first + 2}", f"198.19.{number // 256}.{first + 1}", near)
    etc = Path("/etc/netns") / name
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
        for cable, addresses in ((near, (made.uplink, made.spare)), (far, (made.field,))):
            ip("link", "add", cable, "type", "veth", "peer", "name", "x" + cable, "netns", name)
            for address in addresses:
                ip("addr", "add", f"{address}/29", "dev", cable)
            inside = f"{addresses[0].rpartition('.')[0]}.{first + 5}"
            ip("-n", name, "addr", "add", f"{inside}/29", "dev", "x" + cable)
            ip("-n", name, "link", "set", "x" + cable, "up")
            ip("link", "set", cable, "up")
        if resolver:
            etc.mkdir(parents=True)
            (etc / "resolv.conf").write_text(f"nameserver {made.uplink}\noptions timeout:1 attempts:1\n")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, env={"PATH": _PATH})
        shutil.rmtree(etc, ignore_errors=True)
