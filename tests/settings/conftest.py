"""A sound site file to start from, and a way to spoil it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.settings import load

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

    def is_told(self, old: str, new: str, path: str, line: str, text: str, advice: str) -> None:
        """Spoil the file; the one problem of `path` must say `text` and `advice`, at a line that contains `line`.

        `line@2`: the second line that contains it.
        """
        self.text = self.text.replace(old, new, 1)
        assert new in self.text
        with pytest.raises(ConfigError) as raised:
            load(self.saved())
        problems = [problem for problem in raised.value.problems if problem.path == path]
        assert problems, raised.value
        [problem] = problems
        assert text in problem.text
        assert advice in problem.advice
        part, _, count = line.partition("@")
        numbers = [number for number, written in enumerate(self.text.splitlines(), 1) if part in written]
        assert (problem.file, problem.line) == (str(self.path), numbers[int(count or 1) - 1])
        said = str(raised.value)
        machinery = ("pydantic", "http", "validation", "input should", "type=", "geheim")
        assert not any(word in said.lower() for word in machinery)
        assert f"{self.path}:{problem.line}: {path}".rstrip(": ") in said


@pytest.fixture
def site_file(tmp_path: Path) -> SiteFile:
    return SiteFile(tmp_path / "gateway.toml")
