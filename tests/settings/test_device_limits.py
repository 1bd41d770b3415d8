"""What a port and a device are told beside their points: TLS, direction, quiet times, limits, who is asked for what."""

import pytest

from gateway.errors import ConfigError
from gateway.model import SerialPort, TcpPort, Tls
from gateway.settings import check, device_from_profile, load

PROFILE = """\
[profile]
id = "acme-rain"
vendor = "Acme"
model = "Rain"
class = "test"
confidence = "low"
sources = ["none"]

[limits]
min_interval = "500ms"
identify = true
single = true
forbidden = [["input", 0, 4]]

[[point]]
name = "rain"
table = "input"
at = 10
type = "u32"
read_clears = true

[[point]]
name = "setpoint"
table = "holding"
at = 0
writable = true
"""

SIGNATURE = '[[signature]]\ntable = "input"\nat = 10\ntype = "u32"\n'


@pytest.fixture
def acme(tmp_path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "acme-rain.toml").write_text(PROFILE, encoding="utf-8")
    return folder


@pytest.fixture
def rain(site_file, acme):
    """Loads a site of one such device, with this text for it."""

    def build(body="", address=5):
        site_file.text = (
            '[gateway]\nid = "g"\n[uplink]\nbrokers = ["mqtt://localhost"]\n'
            '[[bus]]\nname = "b"\nserial = { port = "/dev/x" }\n'
            f'[[bus.device]]\nname = "d"\nprofile = "acme-rain"\naddress = {address}\n{body}'
        )
        [bus] = load(site_file.saved(), profile_dirs=[acme]).buses
        return bus.devices[0]

    return build


def test_the_kernel_switches_the_direction_where_it_is_said(site_file):
    assert load(site_file.saved()).buses[0].port == SerialPort("/dev/ttyGOOD")
    site_file.replaced('format = "8N1"', 'format = "8N1", rs485 = true')
    assert load(site_file.saved()).buses[0].port == SerialPort("/dev/ttyGOOD", rs485=True)


@pytest.mark.parametrize(("written", "port"), [("", 802), (", port = 8802", 8802)])
def test_tls_moves_the_usual_port(site_file, written, port):
    tls = 'tls = { ca = "/a", cert = "/c", key = "/k" }'
    site_file.replaced(", port = 502", f"{written}, {tls}")
    assert load(site_file.saved()).buses[1].port == TcpPort("192.168.10.20", port, Tls("/a", "/c", "/k"))


def test_without_tls_the_usual_port_is_that_of_modbus(site_file):
    site_file.replaced(", port = 502", "")
    assert load(site_file.saved()).buses[1].port == TcpPort("192.168.10.20", 502)


def test_one_host_may_have_a_port_with_tls_and_one_without(site_file):
    tls = 'tcp = { host = "192.168.10.20", tls = { ca = "/a", cert = "/c", key = "/k" } }'
    site_file.replaced("[store]\n", f'[[bus]]\nname = "safe"\n{tls}\n[store]\n')
    assert [bus.port.port for bus in load(site_file.saved()).buses if isinstance(bus.port, TcpPort)] == [802, 502]


def test_limits_that_the_poller_minds_are_none_of_the_drivers_options(rain):
    device = rain()
    assert (device.min_interval, device.identify) == (0.5, True)
    assert device.options == {"unit": 5, "framing": "rtu", "single": True, "forbidden": [("input", 0, 5)]}


def test_the_site_may_say_otherwise(rain):
    device = rain('options = { min_interval = "0s", identify = false }\n')
    assert (device.min_interval, device.identify) == (0.0, False)


def test_a_device_without_profile_has_limits_too(site_file):
    site_file.replaced('driver = "modbus"', 'driver = "modbus"\n  options = { min_interval = "1m", identify = true }')
    pump = load(site_file.saved()).buses[1].devices[0]
    assert (pump.min_interval, pump.identify, pump.options) == (60.0, True, {"unit": 1, "framing": "tcp"})


def test_a_device_straight_from_a_profile_needs_no_rest_and_is_not_asked():
    device = device_from_profile("eastron-sdm120", 1, "b")
    assert (device.min_interval, device.identify, device.quiet) == (0.0, False, ())


def test_quiet_times_are_seconds_of_the_day(rain):
    assert rain().quiet == ()
    assert rain("quiet = []\n").quiet == ()
    assert rain('quiet = ["21:30-05:00", "05:00-06:00"]\n').quiet == ((77_400, 18_000), (18_000, 21_600))
    assert rain('quiet = ["22:00-00:00"]\n').quiet == ((79_200, 0),)


def test_what_reading_clears_is_marked(rain):
    assert {point.name: point.read_clears for point in rain().points} == {"rain": True, "setpoint": False}


def test_what_reading_clears_is_never_read_along_when_it_is_switched_off(rain):
    device = rain("points.rain = { enabled = false }\n")
    assert [point.name for point in device.points] == ["setpoint"]
    assert device.options["forbidden"] == [("input", 0, 5), ("input", 10, 2)]
    assert rain("points.setpoint = { enabled = false }\n").options["forbidden"] == [("input", 0, 5)]


@pytest.mark.parametrize(
    ("body", "path", "text"),
    [
        ('points.rain = { every = "asap" }\n', "bus[0].device[0].points.rain.every", "that reading clears"),
        ('every = "asap"\n', "bus[0].device[0].every", 'is "asap" also for "rain"'),
    ],
)
def test_what_reading_clears_needs_a_period(rain, body, path, text):
    with pytest.raises(ConfigError) as raised:
        rain(body)
    [problem] = raised.value.problems
    assert problem.path == path
    assert text in problem.text
    assert 'every = "1m"' in problem.advice


@pytest.mark.parametrize("override", ['{ every = "1m" }', "{ enabled = false }"])
def test_a_period_of_its_own_is_enough(rain, override):
    assert rain(f'every = "asap"\npoints.rain = {override}\n').points[-1].every is None


def test_a_device_that_is_only_written_may_have_the_address_of_all(rain):
    device = rain("points.rain = { enabled = false }\npoints.setpoint = { writable = true }\n", address=0)
    assert [(point.name, point.writable) for point in device.points] == [("setpoint", True)]
    with pytest.raises(ConfigError, match='"setpoint" cannot be read'):
        rain("points.rain = { enabled = false }\n", address=0)


@pytest.mark.parametrize(
    ("old", "new", "path", "text"),
    [
        ('"500ms"', '"2m"', "limits.min_interval", "outside 0ms to 1m"),
        ("identify = true", "identify = 1", "limits.identify", "true or false"),
        ("[limits]", '[limits]\nquiet = ["22:00-05:00"]', "limits.quiet", "unknown key"),
        ("writable = true", "writable = true\nread_clears = true", "point[1].writable", "reading clears"),
        ("read_clears = true", 'read_clears = true\nevery = "asap"', "point[0].every", "reading clears"),
        ("read_clears = true", "read_clears = 1", "point[0].read_clears", "true or false"),
        ("[limits]", f"{SIGNATURE}[limits]", "signature[0]", "says nothing of the value"),
        ("[limits]", f"{SIGNATURE}equals = [1]\nhigh = 2\n[limits]", "signature[0].equals", "stands beside high"),
        ("[limits]", f"{SIGNATURE}low = 3\nhigh = 2\n[limits]", "signature[0].low", "low (3) is above high (2)"),
        ("[limits]", f"{SIGNATURE}equals = []\n[limits]", "signature[0].equals", "needs at least 1"),
        ("[limits]", f"{SIGNATURE}equals = [0.5]\n[limits]", "signature[0].equals[0]", "whole number"),
        ("[limits]", f'{SIGNATURE}low = 1\norder = "AB"\n[limits]', "signature[0]", "does not fit type u32"),
        ("[limits]", f"{SIGNATURE}low = 1\nscale = 1\n[limits]", "signature[0].scale", "unknown key"),
        ("[limits]", 9 * f"{SIGNATURE}low = 1\n" + "[limits]", "signature", "has more than 8"),
        ("[limits]", '[[signature]]\ntable = "coil"\nat = 0\nequals = [1]\n[limits]', "signature[0].table", "coil"),
        ("[limits]", "[signature]\nlow = 1\n[limits]", "signature", "must be a list"),
    ],
)
def test_mistakes_in_a_profile_are_told(site_file, acme, old, new, path, text):
    (acme / "acme-rain.toml").write_text(PROFILE.replace(old, new, 1), encoding="utf-8")
    site_file.replaced("peacefair-pzem-016", "acme-rain").replaced("eastron-sdm630", "acme-rain")
    _, problems = check(site_file.saved(), profile_dirs=[acme])
    [problem] = [problem for problem in problems if problem.path == path]
    assert text in problem.text
