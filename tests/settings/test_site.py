"""From a site file to the finished Site: what is merged, what wins, what the birth tells."""

import json
import subprocess
import sys

import pytest

from drivers.modbus.register import Register
from gateway.model import SerialPort, StoreSettings, TcpPort, Uplink
from gateway.settings import (
    check,
    device_from_profile,
    load,
    profile_names,
    raw_profile,
)

PROFILE = """\
[profile]
id = "acme-x1"
vendor = "Acme"
model = "X1"
class = "test"
confidence = "low"
sources = ["none"]

[limits]
max_registers = 20
bridge = 3
forbidden = [["holding", 100, 109]]

[[point]]
name = "level"
table = "holding"
at = 0
scale = 0.1
unit = "m"
low = 0
high = 10
sentinels = [18446744073709551615]

[[point]]
name = "mode"
table = "holding"
at = 1
every = "1m"
writable = true
kind = "state"
labels = { "0" = "tắt", "1" = "bật" }

[[point]]
name = "pulses"
table = "input"
at = 0
type = "u32"
kind = "counter"
"""

GOLDEN = "[[golden]]\nprovenance = 'built'\n"


@pytest.fixture
def acme(tmp_path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "acme-x1.toml").write_text(PROFILE, encoding="utf-8")
    return folder


def device_of(site_file, acme, body):
    """The only device of a site with this text for it."""
    site_file.text = (
        '[gateway]\nid = "g"\n[uplink]\nbrokers = ["mqtt://localhost"]\n'
        '[[bus]]\nname = "b"\nserial = { port = "/dev/x" }\n'
        f'[[bus.device]]\nname = "d"\nprofile = "acme-x1"\naddress = 5\n{body}'
    )
    [bus] = load(site_file.saved(), profile_dirs=[acme]).buses
    [device] = bus.devices
    return device


def point_of(device, name):
    return next(point for point in device.points if point.name == name)


def birth_of(device, name):
    return next(point for point in device.birth["points"] if point["name"] == name)


def test_everything_in_the_file_reaches_the_site(site_file):
    store = 'path = "/srv/x"\nmax_size = "64MB"\nlinger = "2s"\nkeep_acked = "8MB"'
    uplink = '[uplink]\nwindow = 5\nhealth_every = "30s"\nkeepalive = "20s"'
    site_file.replaced('path = "/var/lib/gateway"', store).replaced("[uplink]", f'[clock]\ntrust = "system"\n{uplink}')
    site_file.replaced('name = "pump-plc"', 'name = "pump-plc"\ntimeout = "3s"')
    site = load(site_file.saved())
    assert (site.gateway, site.site, site.clock) == ("tn-p1-cab-014", "Tây Ninh / phường 1", "system")
    assert site.uplink == Uplink(
        ("mqtts://ioc.example.vn:8883",),
        username="u",
        password_file="/etc/gateway/secret",
        window=5,
        health_every=30.0,
        keepalive=20.0,
    )
    assert site.store == StoreSettings("/srv/x", 64_000_000, "bounded", 2.0, 1.0, 8_000_000)
    line, plc = site.buses
    assert (line.name, line.port, line.framing, line.timeout) == ("rs485-1", SerialPort("/dev/ttyGOOD"), "rtu", 1.0)
    assert (plc.port, plc.framing, plc.timeout) == (TcpPort("192.168.10.20", 502), "tcp", 3.0)
    meter = line.devices[0]
    assert (meter.name, meter.kind, meter.profile, meter.address) == ("meter-1", "energy-3ph", "eastron-sdm630", 1)
    assert (meter.location, meter.confidence, len(meter.profile_sha256)) == ("tủ điện số 1", "high", 64)
    assert meter.options == {"unit": 1, "framing": "rtu"}
    assert point_of(meter, "voltage_l1").where == Register("input", 0, "f32")
    assert len(site.sha256) == 64


def test_defaults_are_those_of_the_model(site_file):
    site_file.replaced('username = "u"\npassword_file = "/etc/gateway/secret"\n', "").replaced(
        '[store]\npath = "/var/lib/gateway"\n', ""
    )
    site = load(site_file.saved())
    assert site.store == StoreSettings()
    assert site.uplink == Uplink(("mqtts://ioc.example.vn:8883",))
    assert site.clock == "kernel"


@pytest.mark.parametrize("where", ["in the table", "on the bus"])
def test_framing_may_stand_in_the_port_or_on_the_bus(site_file, where):
    if where == "in the table":
        site_file.replaced("port = 502 }", 'port = 502, framing = "rtu" }')
    else:
        site_file.replaced("port = 502 }", 'port = 502 }\nframing = "rtu"')
    plc = load(site_file.saved()).buses[1]
    assert plc.framing == "rtu"
    assert plc.devices[0].options["framing"] == "rtu"


def test_ascii_on_seven_bits(site_file):
    site_file.replaced('format = "8N1"', 'format = "7E1", framing = "ascii"')
    assert load(site_file.saved()).buses[0].framing == "ascii"


@pytest.mark.parametrize("address", [0, 255])
def test_tcp_takes_the_addresses_of_the_device_itself(site_file, address):
    site_file.replaced('driver = "modbus"\n  address = 1', f'driver = "modbus"\n  address = {address}')
    assert load(site_file.saved()).buses[1].devices[0].address == address


def test_the_nearest_period_wins(site_file, acme):
    device = device_of(site_file, acme, 'every = "5s"\npoints.pulses = { every = "asap" }\n')
    assert [(point.name, point.every) for point in device.points] == [("level", 5.0), ("mode", 60.0), ("pulses", None)]
    device = device_of(site_file, acme, "")
    assert point_of(device, "level").every == 10.0
    device = device_of(site_file, acme, 'every = "asap"\npoints.mode = { every = "2s" }\n')
    assert [(point.name, point.every) for point in device.points] == [("level", None), ("mode", 2.0), ("pulses", None)]


def test_overrides_change_only_what_they_name(site_file, acme):
    device = device_of(
        site_file,
        acme,
        "points.level = { high = 5, deadband = 0.2 }\npoints.mode = { enabled = false }\n"
        'points.pulses = { scale = 0.01, unit = "m3", decimals = 2 }\n',
    )
    level, pulses = device.points
    assert (level.low, level.high, level.deadband, level.scale, level.unit) == (0.0, 5.0, 0.2, 0.1, "m")
    assert (pulses.unit, pulses.scale, pulses.decimals) == ("m3", 0.01, 2)
    assert pulses.wraps_at == pytest.approx(2**32 * 0.01)
    assert level.sentinels == {2**64 - 1}


def test_writing_needs_the_profile_and_the_site(site_file, acme):
    assert not point_of(device_of(site_file, acme, ""), "mode").writable
    device = device_of(site_file, acme, "points.mode = { writable = true }\n")
    assert point_of(device, "mode").writable
    assert birth_of(device, "mode")["writable"]


def test_points_may_be_added_to_a_profile(site_file, acme):
    extra = '[[bus.device.point]]\nname = "door"\ntable = "discrete"\nat = 3\nkind = "alarm"\n'
    device = device_of(site_file, acme, extra)
    assert point_of(device, "door").where == Register("discrete", 3, "bit")


def test_limits_of_the_site_win_over_those_of_the_profile(site_file, acme):
    device = device_of(site_file, acme, "options = { max_registers = 10, single = true }\n")
    assert device.options == {
        "unit": 5,
        "framing": "rtu",
        "max_registers": 10,
        "bridge": 3,
        "single": True,
        "forbidden": [("holding", 100, 10)],
    }


@pytest.mark.parametrize(
    ("written", "decimals", "resolution"),
    [
        ("scale = 0.1", 1, 0.1),
        ("scale = 0.001", 3, 0.001),
        ("scale = 1.52588e-07", 12, 1.52588e-07),
        ("", None, 1),
        ("scale = 0.5", 1, 0.5),
        ("scale = 10", 0, 10),
        ("scale = 1.0", None, 1),
        ("offset = 0.25", 2, 1),
        ("scale = 0.1\ndecimals = 0", 0, 1),
        ("scale = 0.3333333333333333", None, 0.3333333333333333),
        ('type = "f32"', None, None),
        ('type = "f32"\ndecimals = 2', 2, 0.01),
        ('type = "f32"\nscale = 0.1', None, None),
        ("scale = -0.5", 1, 0.5),
        ("scale = 1e-20", None, 1e-20),
    ],
)
def test_decimals_follow_scale_and_offset(site_file, acme, written, decimals, resolution):
    device = device_of(site_file, acme, f'[[bus.device.point]]\nname = "x"\ntable = "input"\nat = 9\n{written}\n')
    assert point_of(device, "x").decimals == decimals
    assert birth_of(device, "x")["resolution"] == resolution


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('table = "coil"', "bool"),
        ('table = "input"\nbit = 5', "bool"),
        ('table = "input"\nbit = [1, 3]', "int"),
        ('table = "input"', "int"),
        ('table = "input"\nscale = 0.1', "float"),
        ('table = "input"\ntype = "f64"', "float"),
        ('table = "input"\ntype = "string"\nlength = 4', "text"),
        ('table = "input"\nlabels = { "0" = "off" }', "text"),
        ('table = "input"\ntype = "bcd"\nlength = 2', "int"),
        ('table = "coil"\nlabels = { "0" = "off", "1" = "on" }', "text"),
    ],
)
def test_the_birth_tells_the_type_that_the_reader_gets(site_file, acme, written, told):
    device = device_of(site_file, acme, f'[[bus.device.point]]\nname = "x"\nat = 9\n{written}\n')
    assert birth_of(device, "x")["type"] == told


@pytest.mark.parametrize(
    ("written", "wraps_at"),
    [
        ('type = "u16"', 65536),
        ('type = "u32"\nscale = 0.5', 2**31),
        ('type = "s32"', None),
        ('type = "f32"', None),
        ('type = "bcd"\nlength = 2', 10**8),
        ('type = "u16"\nwraps_at = 1000', 1000),
        ("scale = -1", None),
    ],
)
def test_a_counter_wraps_where_its_type_ends(site_file, acme, written, wraps_at):
    body = f'[[bus.device.point]]\nname = "x"\ntable = "input"\nat = 9\nkind = "counter"\n{written}\n'
    assert point_of(device_of(site_file, acme, body), "x").wraps_at == wraps_at


def test_the_birth_is_the_contract(site_file, acme):
    device = device_of(site_file, acme, 'location = "cổng số 2"\n')
    assert set(device.birth) == {"device", "profile", "class", "driver", "bus", "address", "location", "points"}
    assert device.birth["profile"] == {"id": "acme-x1", "sha256": device.profile_sha256, "confidence": "low"}
    assert (device.birth["location"], device.birth["bus"], device.birth["class"]) == ("cổng số 2", "b", "test")
    level, mode, pulses, total, generation = device.birth["points"]
    assert level == {
        "name": "level",
        "unit": "m",
        "kind": "gauge",
        "type": "float",
        "resolution": 0.1,
        "labels": {},
        "every": 10,
        "deadband": None,
        "range": [0, 10],
        "writable": False,
    }
    assert (mode["type"], mode["labels"], mode["resolution"]) == ("text", {"0": "tắt", "1": "bật"}, None)
    assert (pulses["name"], pulses["kind"], pulses["type"]) == ("pulses", "counter", "int")
    assert total == {**pulses, "name": "pulses.total"}
    assert (generation["name"], generation["kind"]) == ("pulses.gen", "state")
    assert (generation["type"], generation["unit"]) == ("int", "1")
    assert json.loads(json.dumps(device.birth)) == device.birth


def test_cfg_changes_with_the_points_and_with_nothing_else(site_file, acme):
    cfg = device_of(site_file, acme, "").cfg
    assert len(bytes.fromhex(cfg)) == 4
    assert device_of(site_file, acme, "# a remark\n").cfg == cfg
    assert device_of(site_file, acme, "options = { max_registers = 9 }\n").cfg == cfg
    assert device_of(site_file, acme, 'location = "x"\n').cfg == cfg
    changed = {
        device_of(site_file, acme, body).cfg
        for body in ('every = "9s"', "points.level = { high = 9 }", 'points.level = { unit = "cm" }')
    }
    assert len(changed | {cfg}) == 4


def test_cfg_is_the_same_in_every_process(site_file):
    code = (
        "import sys; from pathlib import Path; from gateway.settings import load;"
        "print(load(Path(sys.argv[1])).buses[0].devices[0].cfg)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code, site_file.saved()],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_a_profile_of_the_state_directory_is_found_behind_the_shipped_ones(site_file, tmp_path):
    folder = tmp_path / "state" / "profiles"
    folder.mkdir(parents=True)
    (folder / "acme-x1.toml").write_text(PROFILE, encoding="utf-8")
    (folder / "eastron-sdm630.toml").write_text("broken", encoding="utf-8")
    site_file.replaced("/var/lib/gateway", f"{tmp_path}/state").replaced("peacefair-pzem-016", "acme-x1")
    meter, other = load(site_file.saved()).buses[0].devices
    assert (meter.profile, other.profile) == ("eastron-sdm630", "acme-x1")


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ('id = "acme-x1"', 'id = "acme-x2"', "profile.id", "the file is called acme-x1.toml"),
        ('confidence = "low"', 'confidence = "lo"', "profile.confidence", "not known"),
        ('class = "test"', 'klass = "test"', "profile.klass", "unknown key"),
        ('class = "test"', "", "profile.class", "is missing"),
        ('class = "test"', 'class = "test"\ndriver = "mbus"', "profile.driver", "unknown driver"),
        ('name = "mode"', 'name = "level"', "point[1].name", "second point"),
        ("at = 1", "at = 1\nbit = 77", "point[1]", "bit"),
        (
            "[limits]",
            f"{GOLDEN}request = '01'\nexpect = {{ mod = 1 }}\n[limits]",
            "golden[0].expect.mod",
            "not a point",
        ),
        ("[limits]", f"{GOLDEN}request = '1'\n[limits]", "golden[0].request", "as it must be"),
    ],
)
def test_mistakes_in_a_profile_are_told_with_its_own_file_and_line(site_file, acme, old, new, path, text):
    file = acme / "acme-x1.toml"
    file.write_text(PROFILE.replace(old, new, 1), encoding="utf-8")
    site_file.replaced("peacefair-pzem-016", "acme-x1").replaced("eastron-sdm630", "acme-x1")
    _, problems = check(site_file.saved(), profile_dirs=[acme])
    assert [problem.path for problem in problems if problem.file == str(site_file.path)] == [
        "bus[0].device[0].profile",
        "bus[0].device[1].profile",
    ]
    [problem] = [problem for problem in problems if problem.path == path]
    assert problem.file == str(file)
    assert text in problem.text
    assert problem.line == 1 if "missing" in text else problem.line > 1


def test_names_and_raw_facts_of_profiles(acme):
    assert "eastron-sdm630" in profile_names()
    assert profile_names([acme]) == ["acme-x1"]
    assert raw_profile("acme-x1", [acme])["point"][0]["scale"] == 0.1
    with pytest.raises(KeyError):
        raw_profile("../gateway", [acme])


def test_a_device_straight_from_a_profile():
    device = device_from_profile("ge-a-series-lighting-panel", 9, "line")
    assert (device.address, device.birth["bus"], device.options["unit"]) == (9, "line", 9)
    assert point_of(device, "output_1_value").writable
    with pytest.raises(KeyError):
        device_from_profile("none", 1, "line")


def test_settings_load_neither_pymodbus_nor_asyncio(site_file):
    code = (
        "import sys; from pathlib import Path; from gateway.settings import load; load(Path(sys.argv[1]));"
        "print([name for name in ('pymodbus', 'asyncio', 'sqlite3', 'rich') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, site_file.saved()]  # with an empty environment: coverage loads sqlite3
    done = subprocess.run(command, capture_output=True, check=True, text=True, env={})
    assert done.stdout.strip() == "[]"
