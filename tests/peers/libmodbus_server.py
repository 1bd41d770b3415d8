"""A Modbus server by libmodbus (C), for a child process: `python libmodbus_server.py rtu PORT BAUD | tcp PORT`.

Unit 5: holding register n holds 1000 + n, input register n holds 2000 + n, coil n is n % 3 == 0, for n in 0..199.
"""

from __future__ import annotations

import ctypes
import sys


class Mapping(ctypes.Structure):
    """modbus_mapping_t (modbus.h)."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("nb_bits", "start_bits", "nb_input_bits", "start_input_bits")),
        *((name, ctypes.c_int) for name in ("nb_input", "start_input", "nb_registers", "start_registers")),
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    )


def main() -> None:
    lib = ctypes.CDLL("libmodbus.so.5", use_errno=True)
    lib.modbus_new_rtu.restype = lib.modbus_new_tcp.restype = ctypes.c_void_p
    lib.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
    kind = sys.argv[1]
    if kind == "rtu":
        line = lib.modbus_new_rtu(sys.argv[2].encode(), int(sys.argv[3]), ctypes.c_char(b"N"), 8, 1)
    else:
        line = lib.modbus_new_tcp(b"127.0.0.1", int(sys.argv[2]))
    context = ctypes.c_void_p(line)
    lib.modbus_set_slave(context, 5)
    table = lib.modbus_mapping_new(200, 200, 200, 200)
    for n in range(200):
        table.contents.tab_registers[n] = 1000 + n
        table.contents.tab_input[n] = 2000 + n
        table.contents.tab_bits[n] = n % 3 == 0
    if kind == "tcp":
        listening = ctypes.c_int(lib.modbus_tcp_listen(context, 1))
        print("ready", flush=True)
        lib.modbus_tcp_accept(context, ctypes.byref(listening))
    elif lib.modbus_connect(context):
        sys.exit("libmodbus cannot open the line")
    else:
        print("ready", flush=True)
    request = (ctypes.c_uint8 * 260)()
    while True:
        length = lib.modbus_receive(context, request)
        if length > 0:
            lib.modbus_reply(context, request, length, table)
        elif length < 0 and kind == "tcp":
            break


if __name__ == "__main__":
    main()
