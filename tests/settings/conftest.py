"""A sound site file to start from, and a way to spoil it."""

from __future__ import annotations

from pathlib import Path

import pytest

GOOD = """\
[gateway]
id = "tn-p1-cab-014"
site = "Tây Ninh / phường 1"

[uplink]
brokers = ["mqtts://ioc.example.vn:8883"]
username = "u"
password_file = "/etc/gateway/secret"

[store]
path = "/var/lib/gateway"

[[bus]]
name = "rs485-1"
serial = { port = "/dev/ttyGOOD", baud = 9600, format = "8N1" }

  [[bus.device]]
  name = "meter-1"
  profile = "eastron-sdm630"
  address = 1
  every = "10s"
  location = "tủ điện số 1"
  points.voltage_l1 = { every = "1s", deadband = 0.5 }

  [[bus.device]]
  name = "meter-2"
  profile = "peacefair-pzem-016"
  address = 2

[[bus]]
name = "pump-plc"
tcp = { host = "192.168.10.20", port = 502 }

  [[bus.device]]
  name = "pump"
  driver = "modbus"
  address = 1
  every = "1s"

    [[bus.device.point]]
    name = "starts"
    table = "holding"
    at = 0
    type = "u32"
    kind = "counter"
"""


class SiteFile:
    """A site file on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = GOOD

    def replaced(self, old: str, new: str) -> SiteFile:
        assert self.text.count(old) == 1, f"{old!r} must stand in the file once"
        self.text = self.text.replace(old, new)
        return self

    def line(self, part: str) -> int:
        """The 1-based number of the only line that contains `part`."""
        [number] = [number for number, line in enumerate(self.text.splitlines(), 1) if part in line]
        return number

    def saved(self) -> Path:
        self.path.write_text(self.text, encoding="utf-8")
        return self.path


@pytest.fixture
def site_file(tmp_path: Path) -> SiteFile:
    return SiteFile(tmp_path / "gateway.toml")
