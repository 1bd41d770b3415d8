"""Modbus: RTU, TCP and ASCII framing, the read planner and the driver. Only `pdu` imports pymodbus."""
