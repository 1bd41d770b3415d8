"""`gateway check` as a technician and a program see it; the shipped example and schemas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.settings import load
from gateway.settings.schema import main as write_schemas
from gateway.settings.schema import schemas, text

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "config").glob("*.toml"))


def test_a_sound_file_is_summed_up(site_file, capsys):
    assert main(["check", "--config", str(site_file.saved()), "--portable"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "is in order: gateway tn-p1-cab-014, Tây Ninh / phường 1" in out
    assert "bus rs485-1: 2 devices, 24 points" in out
    assert "bus pump-plc: 1 device, 1 point" in out
    assert "at most the last 2s" in out
    assert "note:" in out
    assert "\x1b" not in out


def test_problems_go_to_stderr_with_line_advice_and_count(site_file, capsys):
    site_file.replaced("address = 2", "address = 1").replaced("baud = 9600", "bauds = 9600")
    assert main(["check", "--config", str(site_file.saved())]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{site_file.path}:{site_file.line('bauds')}: bus[0].serial.bauds: unknown key" in err
    assert 'did you mean "baud"?' in err
    assert err.endswith("2 problems\n")
    assert "\x1b" not in err


def test_problems_of_this_machine_are_told_apart(site_file, capsys):
    assert main(["check", "--config", str(site_file.saved())]) == 2
    err = capsys.readouterr().err
    assert "no port /dev/ttyGOOD" in err
    assert "The file itself is right" in err


def test_json_for_machines(site_file, capsys):
    assert main(["check", "--config", str(site_file.saved()), "--portable", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["problems"] == []
    assert {key: told["site"][key] for key in ("gateway", "buses", "devices", "points", "loss_window_s")} == {
        "gateway": "tn-p1-cab-014", "buses": 2, "devices": 3, "points": 25, "loss_window_s": 2.0,
    }  # fmt: skip
    site_file.replaced("address = 2", "address = 0")
    assert main(["check", "--config", str(site_file.saved()), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["site"]) == (False, None)
    [problem] = told["problems"]
    assert (problem["path"], problem["line"]) == ("bus[0].device[1].address", site_file.line("address = 0"))


def test_a_missing_file_is_no_traceback(tmp_path, capsys):
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == 2
    err = capsys.readouterr().err
    assert "there is no such file" in err
    assert "1 problem\n" in err


def test_vietnamese_passes_in_a_plain_c_locale(site_file):
    site_file.replaced('name = "meter-2"', 'name = "Đồng hồ"')
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--config", site_file.saved()],
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Đồng hồ" in done.stderr.decode()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_passes_the_check(example, capsys):
    assert main(["check", "--config", str(example), "--portable"]) == 0, capsys.readouterr().err


def test_the_example_shows_a_line_and_a_controller_on_tcp():
    line, plc = load(ROOT / "config" / "gateway.toml").buses
    kinds = [device.kind for device in line.devices]
    assert kinds == ["energy-3ph", "energy-1ph", "energy-1ph", "lighting-feeder-panel"]
    assert [(device.driver, device.profile) for device in plc.devices] == [("modbus", "")]
    assert any(point.writable for point in line.devices[3].points)


@pytest.mark.parametrize("name", ["site.schema.json", "profile.schema.json"])
def test_schemas_in_config_are_those_of_the_code(name, tmp_path):
    write_schemas(str(tmp_path))
    shipped = (ROOT / "config" / name).read_text(encoding="utf-8")
    assert shipped == (tmp_path / name).read_text(encoding="utf-8") == text(schemas()[name]), (
        "run: python -m gateway.settings.schema"
    )


def test_schemas_describe_every_key_and_know_no_null():
    for schema in schemas().values():
        assert "null" not in text(schema)
        for name, table in [*schema["$defs"].items(), ("top", schema)]:
            assert table["additionalProperties"] is False, name
            for key, field in table["properties"].items():
                assert field["description"], f"{name}.{key}"
