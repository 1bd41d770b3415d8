"""Every mistake by name: the place, the line, what is said and what is advised."""

import pytest

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
    "quiet as text": (
        "address = 2", 'address = 2\nquiet = "22:00-05:00"', f"{METER_2}.quiet", "quiet", "must be a list",
        "between [ and ]",
    ),
    "quiet with one digit": (
        "address = 2", 'address = 2\nquiet = ["22:00-05:00", "9:00-10:00"]', f"{METER_2}.quiet[1]", "quiet",
        "is not a part of the day", '"22:00-05:00"',
    ),
    "quiet until 24:00": (
        "address = 2", 'address = 2\nquiet = ["22:00-24:00"]', f"{METER_2}.quiet[0]", "quiet", "not a part of the day",
        "midnight is 00:00",
    ),
    "quiet as a number": (
        "address = 2", "address = 2\nquiet = [22]", f"{METER_2}.quiet[0]", "quiet", "not a part of the day: 22", "",
    ),
    "quiet for no time": (
        "address = 2", 'address = 2\nquiet = ["05:00-05:00"]', f"{METER_2}.quiet[0]", "quiet",
        "begins and ends at the same time", "two times",
    ),
    "quiet twice at a time": (
        "address = 2", 'address = 2\nquiet = ["22:00-05:00", "04:30-06:00"]', f"{METER_2}.quiet", "quiet",
        "two entries for 04:30", "join",
    ),
    "quiet twice around midnight": (
        "address = 2", 'address = 2\nquiet = ["22:00-05:00", "23:00-01:00"]', f"{METER_2}.quiet", "quiet",
        "two entries for 00:00", "join",
    ),
    "quiet all day": (
        "address = 2", 'address = 2\nquiet = ["12:00-00:00", "00:00-12:00"]', f"{METER_2}.quiet", "quiet",
        "covers the whole day", "leave some time",
    ),
    "quiet too often": (
        "address = 2", f'address = 2\nquiet = {[f"{n:02}:00-{n:02}:30" for n in range(9)]}', f"{METER_2}.quiet",
        "quiet", "more than 8", "",
    ),
    "time between requests without unit": (
        "address = 2", "address = 2\noptions.min_interval = 1", f"{METER_2}.options.min_interval", "min_interval",
        "without a unit", '"1s"',
    ),
    "time between requests over a minute": (
        "address = 2", 'address = 2\noptions.min_interval = "61s"', f"{METER_2}.options.min_interval", "min_interval",
        "outside 0ms to 1m", "between",
    ),
    "identify as text": (
        "address = 2", 'address = 2\noptions.identify = "yes"', f"{METER_2}.options.identify", "identify",
        "true or false", "",
    ),
    "read_clears as often as possible": (
        'kind = "counter"', 'read_clears = true\nevery = "asap"', f"{PUMP}.point[0].every", '"asap"',
        "for a value that reading clears", "what came since the reading before",
    ),
    "read_clears on a device as fast as possible": (
        '  every = "1s"\n\n    [[bus.device.point]]\n',
        '  every = "asap"\n\n    [[bus.device.point]]\nread_clears = true\n', f"{PUMP}.every", '"asap"',
        'is "asap" also for "starts"', 'give "starts" a period of its own',
    ),
    "read_clears and writable": (
        'kind = "counter"', "read_clears = true\nwritable = true", f"{PUMP}.point[0].writable", "writable",
        "reading clears cannot be written", "remove writable, or read_clears",
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


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_one_mistake_is_one_problem_at_its_place(site_file, mistake):
    site_file.is_told(*mistake)


def test_the_good_file_has_no_problem(site_file):
    assert load(site_file.saved()).gateway == "tn-p1-cab-014"


def test_an_empty_file_names_what_is_missing(site_file):
    site_file.text = ""
    site, problems = check(site_file.saved())
    assert site is None
    assert [(problem.path, problem.line) for problem in problems] == [("gateway", 1), ("uplink", 1)]
