from __future__ import annotations

import configparser
from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "gateway.service"


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment]  # systemd's keys are case sensitive
    parsed.read(UNIT, encoding="utf-8")
    return parsed


def test_the_unit_never_gives_up_and_lets_the_agent_flush():
    service = unit()["Service"]
    assert service["Restart"] == "always"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["TimeoutStopSec"]) > 10
    assert service["WatchdogSignal"] == "SIGTERM"
    assert int(service["TimeoutAbortSec"]) > 10


def test_the_agent_may_read_whether_the_clock_is_synchronised():
    service = unit()["Service"]
    assert "ProtectClock" not in service
    assert "@clock" not in service["SystemCallFilter"]
    assert service["CapabilityBoundingSet"] == ""
