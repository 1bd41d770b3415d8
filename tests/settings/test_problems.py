"""Every mistake by name: the place, the line, what is said and what is advised."""

import pytest

from gateway.errors import ConfigError
from gateway.settings import check, load

BUS = "bus[0]"
METER_1, METER_2, PUMP = "bus[0].device[0]", "bus[0].device[1]", "bus[1].device[0]"

# name: (old text, new text, path, a part of the line it is reported at, a part of the sentence, a part of the advice)
MISTAKES = {
    "unknown key": (
        "baud = 9600", "bauds = 9600", f"{BUS}.serial.bauds", "bauds", "unknown key", 'did you mean "baud"?',
    ),
    "a word of another program": (
        "address = 2", "address = 2\nslave_id = 2", f"{METER_2}.slave_id", "slave_id", "unknown key",
        'mean "address"?',
    ),
    "unknown key, nothing near": (
        "address = 2", "address = 2\nxyzzy = 2", f"{METER_2}.xyzzy", "xyzzy", "unknown key",
        "allowed here: name, profile",
    ),
    "unknown table": ("[store]", "[stroe]", "stroe", "[stroe]", "unknown key", 'did you mean "store"?'),
    "unknown key of an override": (
        "deadband = 0.5", "deadbnd = 0.5", f"{METER_1}.points.voltage_l1.deadbnd", "deadbnd", "unknown key",
        '"deadband"',
    ),
    "password in the file": (
        'username = "u"', 'username = "u"\npassword = "geheim"', "uplink.password", "geheim", "unknown key",
        "password_file",
    ),
    "no address": (
        "  address = 2\n", "", f"{METER_2}.address", "[[bus.device]]@2", '"address" is missing', "address = 1",
    ),
    "no table": ("[gateway]", "[clock]", "gateway", "[clock]", "the table [gateway] is missing", "[gateway]"),
    "address in quotes": (
        "address = 2", 'address = "2"', f"{METER_2}.address", 'address = "2"', 'whole number, not "2"',
        "without quotes",
    ),
    "address is a fraction": ("address = 2", "address = 2.5", f"{METER_2}.address", "2.5", "whole number", ""),
    "address is true": ("address = 2", "address = true", f"{METER_2}.address", "= true", "whole number, not true", ""),
    "address 0 on a line": (
        "address = 2", "address = 0", f"{METER_2}.address", "address = 0", "outside 1 to 247", "all devices",
    ),
    "address 248 on a line": (
        "address = 2", "address = 248", f"{METER_2}.address", "address = 248", "outside 1 to 247", "display",
    ),
    "address 256 on TCP": (
        'driver = "modbus"\n  address = 1', 'driver = "modbus"\n  address = 256', f"{PUMP}.address", "= 256",
        "0 to 255", "",
    ),
    "address 0 on RTU over TCP": (
        'port = 502 }\n\n  [[bus.device]]\n  name = "pump"\n  driver = "modbus"\n  address = 1',
        (
            'port = 502, framing = "rtu" }\n' "\n" "  [[bus.device]]\n" '  name = "pump"\n' '  driver = "modbus"\n'
            "  address = 0"
        ),
        f"{PUMP}.address", "address = 0", "1 to 247", "",
    ),
    "two devices with one address": (
        "address = 2", "address = 1 # second", f"{METER_2}.address", "# second",
        "two devices on bus rs485-1 have address 1: meter-1 (line 18) and meter-2 (line 26)", "another address",
    ),
    "two devices with one name": (
        'name = "pump"', 'name = "meter-1" # second', f"{PUMP}.name", "# second",
        'two devices are called "meter-1": line 18 and line 35', "topics",
    ),
    "two buses with one name": (
        'name = "pump-plc"', 'name = "rs485-1" # second', "bus[1].name", "# second", "two buses are called", "own",
    ),
    "two points with one name": (
        '    kind = "counter"',
        '    kind = "counter"\n[[bus.device.point]]\nname = "starts" # second\ntable = "coil"\nat = 0',
        f"{PUMP}.point[1].name", "# second", 'a second point is called "starts" (the first: line 41)', "rename",
    ),
    "a point that a counter makes": (
        '    kind = "counter"',
        '    kind = "counter"\n[[bus.device.point]]\nname = "starts.total"\ntable = "coil"\nat = 0',
        f"{PUMP}.point[1].name", '"starts.total"', 'the counter "starts" makes a point of this name', "rename",
    ),
    "two buses on one port": (
        'tcp = { host = "192.168.10.20", port = 502 }', 'serial = { port = "/dev/../dev/ttyGOOD" }',
        "bus[1].serial.port", "/dev/../dev/ttyGOOD",
        "two buses use one port: rs485-1 (line 14) and pump-plc (line 31)", "one [[bus]]",
    ),
    "bus without port": (
        'tcp = { host = "192.168.10.20", port = 502 }\n', "", "bus[1]", "[[bus]]@2", "neither serial nor tcp",
        "serial = {",
    ),
    "bus with two ports": (
        'tcp = { host = "192.168.10.20", port = 502 }',
        'tcp = { host = "192.168.10.20", port = 502 }\nserial = { port = "/dev/a" }', "bus[1]", "[[bus]]@2",
        "both serial and tcp", "",
    ),
    "single brackets": (
        (
            "[[bus]]\n" 'name = "rs485-1"\n' 'serial = { port = "/dev/ttyGOOD", baud = 9600, format = "8N1" }\n' "\n"
            "  [[bus.device]]\n" '  name = "meter-1"\n' '  profile = "eastron-sdm630"'
        ),
        (
            "[[bus]]\n" 'name = "rs485-1"\n' 'serial = { port = "/dev/ttyGOOD", baud = 9600, format = "8N1" }\n' "\n"
            "  [bus.device]\n" '  name = "meter-1"\n' '  profile = "eastron-sdm630"'
        ),
        "", "[[bus.device]]@1", "a second time", "[[",
    ),
    "a list in place of a table": (
        '[store]\npath = "/var/lib/gateway"', "[[store]]", "store", "[[store]]", "must be a table", "",
    ),
    "a table in place of a list": (
        '[[bus]]\nname = "pump-plc"', '[[bus2]]\nname = "pump-plc"', "bus2", "[[bus2]]", "unknown", "bus",
    ),
    "host empty": ('"192.168.10.20"', '""', "bus[1].tcp.host", "tcp =", "is empty", "between the quotes"),
    "host with a space": (
        '"192.168.10.20"', '"192 168"', "bus[1].tcp.host", "tcp =", "not written as it must be", "spaces",
    ),
    "TCP port 0": ("port = 502", "port = 0", "bus[1].tcp.port", "tcp =", "at least 1", ""),
    "TCP port too big": ("port = 502", "port = 65536", "bus[1].tcp.port", "tcp =", "at most 65535", ""),
    "serial port without /dev": (
        '"/dev/ttyGOOD"', '"ttyGOOD"', f"{BUS}.serial.port", "ttyGOOD", "not a full path", '"/"',
    ),
    "baud too slow": ("baud = 9600", "baud = 96", f"{BUS}.serial.baud", "baud", "outside 300", "did you mean 9600?"),
    "baud too fast": ("baud = 9600", "baud = 9600000", f"{BUS}.serial.baud", "baud", "outside", "did you mean 9600?"),
    "baud in quotes": ("baud = 9600", 'baud = "9600"', f"{BUS}.serial.baud", "baud", "whole number", "without quotes"),
    "line format": ('"8N1"', '"8N3"', f"{BUS}.serial.format", "8N3", "is not a line format", '"8N1"'),
    "line format in small letters": ('"8N1"', '"8n1"', f"{BUS}.serial.format", "8n1", "is not a line", 'mean "8N1"?'),
    "seven bits on RTU": (
        '"8N1"', '"7E1"', f"{BUS}.serial.format", "7E1", "7 data bits, but Modbus RTU needs 8", '"8N1"',
    ),
    "framing": (
        "port = 502", 'port = 502, framing = "rtuu"', "bus[1].tcp.framing", "rtuu", "is not known",
        'did you mean "rtu"?',
    ),
    "TCP framing on a serial port": (
        'name = "rs485-1"', 'name = "rs485-1"\nframing = "tcp"', f"{BUS}.framing", "framing", "on a serial port",
        '"rtu"',
    ),
    "framing twice": (
        "port = 502 }", 'port = 502, framing = "rtu" }\nframing = "rtu" # again', "bus[1].framing", "# again",
        "stands here and in tcp", "remove",
    ),
    "time-out": (
        'name = "rs485-1"', 'name = "rs485-1"\ntimeout = "2m"', f"{BUS}.timeout", "timeout", "outside 10ms to 1m", "",
    ),
    "period without unit": ('every = "10s"', "every = 10", f"{METER_1}.every", "every = 10", "without a unit", '"10s"'),
    "period zero": ('every = "10s"', 'every = "0s"', f"{METER_1}.every", '"0s"', "outside 10ms to 24h", "asap"),
    "period under 10 ms": ('every = "10s"', 'every = "9ms"', f"{METER_1}.every", '"9ms"', "outside 10ms", "asap"),
    "period over a day": ('every = "10s"', 'every = "25h"', f"{METER_1}.every", '"25h"', "outside", "asap"),
    "period of an override": (
        'every = "1s", deadband', 'every = "soon", deadband', f"{METER_1}.points.voltage_l1.every", "soon",
        "not a dur", '"10s"',
    ),
    "unknown profile": (
        "eastron-sdm630", "eastron-sdm63O", f"{METER_1}.profile", "sdm63O", "there is no profile",
        'mean "eastron-sdm630"?',
    ),
    "profile that climbs": (
        '"eastron-sdm630"', '"../../etc/passwd"', f"{METER_1}.profile", "etc/passwd", "there is no profile",
        "known: acrel",
    ),
    "neither profile nor driver": (
        '  driver = "modbus"\n', "", PUMP, "[[bus.device]]@3", "neither profile nor driver", 'driver = "modbus"',
    ),
    "profile and driver": (
        'driver = "modbus"', 'driver = "modbus"\nprofile = "eastron-sdm630"', PUMP, "[[bus.device]]@3",
        "both profile and", "",
    ),
    "unknown driver": (
        'driver = "modbus"', 'driver = "modbuss"', f"{PUMP}.driver", "modbuss", "is not known", '"modbus"?',
    ),
    "override of no point": (
        "points.voltage_l1", "points.voltage_L1", f"{METER_1}.points.voltage_L1", "voltage_L1", "has no point",
        '"voltage_l1"?',
    ),
    "override of a point that is written here": (
        '"modbus"', '"modbus"\npoints.starts = { every = "1s" }', f"{PUMP}.points.starts", "points.starts",
        "written here", "",
    ),
    "point that the profile has": (
        "address = 2", 'address = 2\n[[bus.device.point]]\nname = "voltage"\ntable = "input"\nat = 9',
        f"{METER_2}.point[0].name", 'name = "voltage"', 'has a point "voltage" already', "points.voltage",
    ),
    "writing against the profile": (
        "deadband = 0.5", "deadband = 0.5, writable = true", f"{METER_1}.points.voltage_l1.writable", "writable",
        "does not allow writing", "remove",
    ),
    "limits crossed by an override": (
        "deadband = 0.5", "low = 700", f"{METER_1}.points.voltage_l1.low", "low = 700",
        "low (700) is above high (600)", "swap",
    ),
    "negative deadband": (
        "deadband = 0.5", "deadband = -1", f"{METER_1}.points.voltage_l1.deadband", "deadband", "at least 0, not -1",
        "",
    ),
    "infinite deadband": (
        "deadband = 0.5", "deadband = inf", f"{METER_1}.points.voltage_l1.deadband", "deadband", "a real number", "",
    ),
    "all points off": (
        'profile = "eastron-sdm630"', 'profile = "generic-anemometer-cs"', METER_1 + ".points.voltage_l1",
        "points.voltage", "has no point", "known: wind_speed, wind_direction",
    ),
    "device without points": (
        (
            "    [[bus.device.point]]\n" '    name = "starts"\n' '    table = "holding"\n' "    at = 0\n"
            '    type = "u32"\n' '    kind = "counter"\n'
        ),
        "", PUMP, "[[bus.device]]@3", "has no point to read", "[[bus.device.point]]",
    ),
    "points in single brackets": (
        "    [[bus.device.point]]", "    [bus.device.point]", f"{PUMP}.point", "[bus.device.point]", "must be a list",
        "[[bus.device.point]]",
    ),
    "points and point mixed up": (
        "points.voltage_l1 = {", "point.voltage_l1 = {", f"{METER_1}.point", "point.voltage", "must be a list",
        "[[bus.device.point]]",
    ),
    "unknown table of a point": (
        '"holding"', '"holdings"', f"{PUMP}.point[0].table", "holdings", "is not known", '"holding"?',
    ),
    "unknown type": ('"u32"', '"uint32"', f"{PUMP}.point[0].type", "uint32", "is not known", "did you mean"),
    "unknown kind": ('"counter"', '"count"', f"{PUMP}.point[0].kind", '"count"', "is not known", '"counter"?'),
    "at counted like a manual": ("at = 0", "at = 400001", f"{PUMP}.point[0].at", "400001", "at most 65535", ""),
    "last address": ("at = 0", "at = 65535", f"{PUMP}.point[0]", "[[bus.device.point]]", "outside 0..65535", ""),
    "byte order of another width": (
        '"u32"', '"u32"\norder = "AB"', f"{PUMP}.point[0]", "[[bus.device.point]]", "does not fit", "",
    ),
    "byte order misspelt": (
        '"u32"', '"u32"\norder = "big"', f"{PUMP}.point[0].order", "big", "as it must be", '"CDAB"',
    ),
    "bit that is no bit": ('"u32"', '"bit"\nbit = "5"', f"{PUMP}.point[0].bit", 'bit = "5"', "is not a bit", "[1, 3]"),
    "bit 16": ('kind = "counter"', "bit = 16", f"{PUMP}.point[0]", "[[bus.device.point]]", "type u32 takes no bit", ""),
    "scale zero": ('"u32"', '"u32"\nscale = 0', f"{PUMP}.point[0].scale", "scale", "every value would become 0", "0.1"),
    "scale as text": ('"u32"', '"u32"\nscale = "0.1"', f"{PUMP}.point[0].scale", "scale", "must be a number", "quotes"),
    "labels without texts": (
        '"u32"', '"u32"\nlabels = { "0" = 1 }', f"{PUMP}.point[0].labels", "labels", "texts", '"off"',
    ),
    "labels of words": (
        '"u32"', '"u32"\nlabels = { off = "0" }', f"{PUMP}.point[0].labels", "labels", "whole number", "",
    ),
    "labels of a float": (
        '"u32"\n    kind = "counter"', '"f32"\nlabels = { "0" = "off" }', f"{PUMP}.point[0].labels", "labels",
        "needs a whole", "",
    ),
    "labels of a counter": (
        '"u32"', '"u32"\nlabels = { "0" = "off" }', f"{PUMP}.point[0].kind", "counter", "must be a number", "state",
    ),
    "wraps_at of a gauge": (
        'kind = "counter"', "wraps_at = 100", f"{PUMP}.point[0].wraps_at", "wraps_at", "only a counter wraps",
        "counter",
    ),
    "sentinels": (
        '"u32"', '"u32"\nsentinels = 65535', f"{PUMP}.point[0].sentinels", "sentinels", "list of numbers", "[65535]",
    ),
    "low above high": ('"u32"', '"u32"\nlow = 2\nhigh = 1', f"{PUMP}.point[0].low", "low = 2", "is above high", "swap"),
    "unit with a space": ('"u32"', '"u32"\nunit = "kW h"', f"{PUMP}.point[0].unit", "unit", "as it must be", "spaces"),
    "decimals": ('"u32"', '"u32"\ndecimals = 16', f"{PUMP}.point[0].decimals", "decimals", "at most 15", ""),
    "options": (
        '"modbus"', '"modbus"\noptions = { max_registers = 126 }', f"{PUMP}.options.max_registers", "options",
        "at most 125", "",
    ),
    "forbidden": (
        '"modbus"', '"modbus"\noptions = { forbidden = [["holding", 9, 1]] }', f"{PUMP}.options.forbidden", "options",
        "not a range of addresses", "first and last",
    ),
    "forbidden is no list": (
        '"modbus"', '"modbus"\noptions = { forbidden = "all" }', f"{PUMP}.options.forbidden", "options",
        "must be a list", "",
    ),
    "forbidden holds something else": (
        '"modbus"', '"modbus"\noptions = { forbidden = [9] }', f"{PUMP}.options.forbidden", "options", "has an entry",
        "",
    ),
    "name of a device": (
        'name = "meter-2"', 'name = "Đồng hồ 2"', f"{METER_2}.name", "Đồng hồ 2", "cannot be a name", '"dong-ho-2"',
    ),
    "name of a bus": ('"pump-plc"', '"pump/plc"', "bus[1].name", "pump/plc", "cannot be a name", '"pump-plc"'),
    "name is a number": (
        'name = "meter-2"', "name = 2", f"{METER_2}.name", "name = 2", "a text in quotes, not 2", "quotes",
    ),
    "location of two lines": (
        "tủ điện số 1", "tủ\\nđiện", f"{METER_1}.location", "điện", "control character", "one line",
    ),
    "location too long": ("tủ điện số 1", "đ" * 201, f"{METER_1}.location", "đđ", "longer than 200", "shorter"),
    "id of the gateway": ('"tn-p1-cab-014"', '"tn/p1"', "gateway.id", "tn/p1", "cannot be the id", 'no "/"'),
    "prefix": (
        "[uplink]", '[uplink]\nprefix = "a/#"', "uplink.prefix", "prefix", "cannot begin an MQTT topic", '"city"',
    ),
    "no broker": ('["mqtts://ioc.example.vn:8883"]', "[]", "uplink.brokers", "brokers", "needs at least 1", ""),
    "broker without scheme": (
        "mqtts://ioc.example.vn:8883", "ioc.example.vn:8883", "uplink.brokers[0]", "brokers", "no mqtts://",
        "mqtts://ioc",
    ),
    "broker with tcp://": (
        "mqtts://ioc.example.vn:8883", "tcp://ioc", "uplink.brokers[0]", "brokers", 'unknown scheme "tcp',
        '"mqtt://ioc"?',
    ),
    "broker without encryption": (
        "mqtts://ioc.example.vn:8883", "mqtt://ioc", "uplink.brokers[0]", "brokers", "without encryption",
        "insecure = true",
    ),
    "broker is no list": (
        '["mqtts://ioc.example.vn:8883"]', '"mqtts://ioc"', "uplink.brokers", "brokers", "must be a list",
        "between [ and ]",
    ),
    "insecure is a text": (
        "[uplink]", '[uplink]\ninsecure = "yes"', "uplink.insecure", "insecure", "true or false", "",
    ),
    "user without password": (
        'password_file = "/etc/gateway/secret"\n', "", "uplink.username", "username", "needs a password file",
        "password_file",
    ),
    "password without user": (
        'username = "u"\n', "", "uplink.password_file", "password_file", "needs a user name", "username",
    ),
    "certificate without key": (
        "[uplink]", '[uplink]\ncert = "/c"', "uplink.cert", "cert =", "needs its private key", "key",
    ),
    "key without certificate": (
        "[uplink]", '[uplink]\nkey = "/k"', "uplink.key", "key =", "needs its certificate", "cert",
    ),
    "relative path": ("[uplink]", '[uplink]\nca = "ca.pem"', "uplink.ca", "ca =", "not a full path", '"/"'),
    "path too long": ("[uplink]", f'[uplink]\nca = "/{"x" * 1100}"', "uplink.ca", "ca =", "is not a path", "1024"),
    "format of the uplink": (
        "[uplink]", '[uplink]\nformat = "json"', "uplink.format", "format =", "is not known", "native-json",
    ),
    "confirm": ("[uplink]", '[uplink]\nconfirm = "ack"', "uplink.confirm", "confirm", "is not known", '"puback"?'),
    "window": ("[uplink]", "[uplink]\nwindow = 0", "uplink.window", "window", "at least 1", ""),
    "window too wide": ("[uplink]", "[uplink]\nwindow = 101", "uplink.window", "window", "at most 100", ""),
    "keepalive": ("[uplink]", '[uplink]\nkeepalive = "500ms"', "uplink.keepalive", "keepalive", "outside 1s to 1h", ""),
    "health_every": (
        "[uplink]", "[uplink]\nhealth_every = 60", "uplink.health_every", "health", "without a unit", '"60s"',
    ),
    "linger too long": ("[store]", '[store]\nlinger = "6m"', "store.linger", "linger", "outside 0ms to 5m", "between"),
    "commit_every": (
        "[store]", '[store]\ncommit_every = "1h"', "store.commit_every", "commit", "outside 0ms to 5m", "",
    ),
    "max_size without unit": (
        "[store]", "[store]\nmax_size = 512", "store.max_size", "max_size", "without a unit", '"512MB"',
    ),
    "max_size too small": (
        "[store]", '[store]\nmax_size = "1MB"', "store.max_size", "max_size", "outside 8 MB", "between",
    ),
    "keep_acked over max_size": (
        "[store]", '[store]\nkeep_acked = "1GB"', "store.keep_acked", "keep", "more than max_size", "",
    ),
    "durability": (
        "[store]", '[store]\ndurability = "full"', "store.durability", "durability", "is not known", "strict",
    ),
    "trust": ("[store]", '[clock]\ntrust = "ntp"\n[store]', "clock.trust", "ntp", "is not known", "kernel, system"),
}  # fmt: skip


def line_of(site_file, part):
    """`part@2`: the second line that contains it."""
    part, _, count = part.partition("@")
    numbers = [number for number, line in enumerate(site_file.text.splitlines(), 1) if part in line]
    return numbers[int(count or 1) - 1]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_one_mistake_is_one_problem_at_its_place(site_file, mistake):
    old, new, path, line, text, advice = mistake
    site_file.text = site_file.text.replace(old, new, 1)
    assert new in site_file.text
    with pytest.raises(ConfigError) as raised:
        load(site_file.saved())
    problems = [problem for problem in raised.value.problems if problem.path == path]
    assert problems, raised.value
    [problem] = problems
    assert text in problem.text
    assert advice in problem.advice
    assert problem.file == str(site_file.path)
    assert problem.line == line_of(site_file, line)
    said = str(raised.value)
    assert not any(
        word in said.lower() for word in ("pydantic", "http", "validation", "input should", "type=", "geheim")
    )
    assert f"{site_file.path}:{problem.line}: {path}".rstrip(": ") in said


def test_the_good_file_has_no_problem(site_file):
    assert load(site_file.saved()).gateway == "tn-p1-cab-014"


def test_an_empty_file_names_what_is_missing(site_file):
    site_file.text = ""
    site, problems = check(site_file.saved())
    assert site is None
    assert [(problem.path, problem.line) for problem in problems] == [("gateway", 1), ("uplink", 1)]
