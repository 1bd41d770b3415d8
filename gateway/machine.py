"""How the machine is that the agent runs on: memory, disk, temperature, power. Reads what Linux offers, no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TEMPERATURE = "sys/class/thermal/thermal_zone0/temp"  # thousandths of a degree (kernel: thermal sysfs API)
_UNDERVOLTAGE = "sys/class/hwmon/hwmon*/in0_lcrit_alarm"  # raspberrypi-hwmon: 1 after the supply fell below 4.63 V


def facts(store: Path, root: Path = Path("/")) -> dict[str, Any]:
    """Return bytes of memory and free disk, degrees Celsius, whether the power was too low; None: not known here."""
    return {
        "memory_bytes": _memory(root),
        "disk_free_bytes": _disk_free(store),
        "temperature": None if (raw := _number(root / _TEMPERATURE)) is None else raw / 1000,
        "undervoltage": _undervoltage(root),
    }


def _memory(root: Path) -> int | None:
    try:
        return int((root / "proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _disk_free(store: Path) -> int | None:
    try:
        disk = os.statvfs(store)
    except OSError:
        return None
    return disk.f_bavail * disk.f_frsize


def _undervoltage(root: Path) -> bool | None:
    alarms = [value for path in root.glob(_UNDERVOLTAGE) if (value := _number(path)) is not None]
    return any(alarms) if alarms else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
