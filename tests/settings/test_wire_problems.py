"""Every mistake of ports, framings and addresses by name, as in test_problems."""

import pytest

BUS = "bus[0]"
METER_2, PUMP = "bus[0].device[1]", "bus[1].device[0]"
TLS = '{ ca = "/a", cert = "/c", key = "/k" }'

# name: (old text, new text, path, a part of the line it is reported at, a part of the sentence, a part of the advice)
MISTAKES = {
    "address 0 on a line": (
        "address = 2", "address = 0", f"{METER_2}.address", "address = 0", 'so "voltage" cannot be read',
        "own address, 1 to 247",
    ),
    "address 0 for points that are not all writable": (
        "address = 2", "address = 0\npoints.voltage = { enabled = false }", f"{METER_2}.address", "address = 0",
        'so "current" cannot be read', "writable = true",
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
        f"{PUMP}.address", "address = 0", 'so "starts" cannot be read', "1 to 247",
    ),
    "two devices with one address": (
        "address = 2", "address = 1 # second", f"{METER_2}.address", "# second",
        "two devices on bus rs485-1 have address 1: meter-1 (line 18) and meter-2 (line 26)", "another address",
    ),
    "two buses on one port": (
        'tcp = { host = "192.168.10.20", port = 502 }', 'serial = { port = "/dev/../dev/ttyGOOD" }',
        "bus[1].serial.port", "/dev/../dev/ttyGOOD",
        "two buses use one port: rs485-1 (line 14) and pump-plc (line 31)",
        "one line: put its devices under one [[bus]]",
    ),
    "two buses on one TCP endpoint": (
        '[[bus]]\nname = "pump-plc"',
        '[[bus]]\nname = "first"\ntcp = { host = "192.168.10.20" }\n[[bus]]\nname = "pump-plc"', "bus[2].tcp.host",
        "port = 502", "two buses use one TCP endpoint: first (line 31) and pump-plc (line 34)",
        "one connection per endpoint: put its devices under one [[bus]]",
    ),
    "two buses on one TLS endpoint": (
        'tcp = { host = "192.168.10.20", port = 502 }',
        f'tcp = {{ host = "PLC", tls = {TLS} }}\n[[bus]]\nname = "x"\ntcp = {{ host = "plc", port = 802 }}',
        "bus[2].tcp.host", "port = 802", "two buses use one TCP endpoint", "one connection",
    ),
    "TLS without key": (
        "port = 502", 'tls = { ca = "/a", cert = "/c" }', "bus[1].tcp.tls.key", "tcp =", 'the key "key" is missing',
        'key = "/etc',
    ),
    "TLS without certificate": (
        "port = 502", 'tls = { ca = "/a", key = "/k" }', "bus[1].tcp.tls.cert", "tcp =", 'the key "cert" is missing',
        'cert = "/etc',
    ),
    "TLS without authority": (
        "port = 502", 'tls = { cert = "/c", key = "/k" }', "bus[1].tcp.tls.ca", "tcp =", 'the key "ca" is missing',
        'ca = "/etc',
    ),
    "TLS with an empty path": (
        "port = 502", 'tls = { ca = "", cert = "/c", key = "/k" }', "bus[1].tcp.tls.ca", "tcp =", "not a full path",
        '"/"',
    ),
    "TLS that is no table": (
        "port = 502", "tls = true", "bus[1].tcp.tls", "tcp =", "must be a table, not true", "tls = { key = value }",
    ),
    "TLS around RTU": (
        "port = 502", f'framing = "rtu", tls = {TLS}', "bus[1].tcp.framing", "tcp =", "not the framing of Modbus with",
        'framing = "tcp"',
    ),
    "TLS around a bus of RTU": (
        "port = 502 }", f'tls = {TLS} }}\nframing = "rtu"', "bus[1].framing", "framing =", "not the framing of Modbus",
        "remove tls",
    ),
    "TLS on a serial port": (
        "baud = 9600", f"tls = {TLS}", f"{BUS}.serial.tls", "tls", "unknown key", "allowed here: port, baud",
    ),
    "rs485 as text": (
        "baud = 9600", 'rs485 = "on"', f"{BUS}.serial.rs485", "rs485 =", 'true or false, not "on"', "without quotes",
    ),
    "rs485 on TCP": ("port = 502", "rs485 = true", "bus[1].tcp.rs485", "rs485 = ", "unknown key", "host, port"),
    "bus without port": (
        'tcp = { host = "192.168.10.20", port = 502 }\n', "", "bus[1]", "[[bus]]@2", "neither serial nor tcp",
        "serial = {",
    ),
    "bus with two ports": (
        'tcp = { host = "192.168.10.20", port = 502 }',
        'tcp = { host = "192.168.10.20", port = 502 }\nserial = { port = "/dev/a" }', "bus[1]", "[[bus]]@2",
        "both serial and tcp", "",
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
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_one_mistake_is_one_problem_at_its_place(site_file, mistake):
    site_file.is_told(*mistake)
