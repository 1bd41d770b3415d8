"""Tell systemd how the service is (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def notify(message: str) -> None:
    """Send `message` ("READY=1", "WATCHDOG=1", "STOPPING=1") to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
