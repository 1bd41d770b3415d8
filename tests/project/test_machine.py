from __future__ import annotations

from pathlib import Path

import pytest

from gateway.machine import facts


def pretend(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine_has_memory_and_a_disk(tmp_path):
    found = facts(tmp_path)
    assert found["memory_bytes"] > 10**6
    assert found["disk_free_bytes"] > 0


@pytest.mark.parametrize(("alarm", "low"), [("1\n", True), ("0\n", False)])
def test_a_raspberry_pi_tells_temperature_and_undervoltage(tmp_path, alarm, low):
    files = {"sys/class/thermal/thermal_zone0/temp": "48312\n", "sys/class/hwmon/hwmon1/in0_lcrit_alarm": alarm}
    found = facts(tmp_path, pretend(tmp_path, files))
    assert (found["temperature"], found["undervoltage"]) == (48.312, low)


def test_what_a_machine_does_not_offer_is_none_and_no_error(tmp_path):
    files = {"sys/class/thermal/thermal_zone0/temp": "hot", "proc/self/statm": ""}
    found = facts(tmp_path / "no-store", pretend(tmp_path, files))
    assert found == {"memory_bytes": None, "disk_free_bytes": None, "temperature": None, "undervoltage": None}
