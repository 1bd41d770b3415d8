"""Modbus PDUs: requests are encoded and refusals decoded by pymodbus. Nothing else imports it.

Replies to reads are taken as the byte string they are. Values are decoded from bytes, so the list of words that
pymodbus 3.16 makes of a reply (measured: 5 us for 20 registers, 8 us for 40) would have to be packed again. Function
code and byte count have been checked when the frame was found, more strictly than pymodbus does.
"""

from __future__ import annotations

from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsRequest,
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.diag_message import DiagnosticBase
from pymodbus.pdu.file_message import FileRecord, ReadFifoQueueRequest, ReadFileRecordRequest, WriteFileRecordRequest
from pymodbus.pdu.mei_message import ReadDeviceInformationRequest
from pymodbus.pdu.other_message import (
    GetCommEventCounterRequest,
    GetCommEventLogRequest,
    ReadExceptionStatusRequest,
    ReportDeviceIdRequest,
)
from pymodbus.pdu.register_message import (
    MaskWriteRegisterRequest,
    ReadHoldingRegistersRequest,
    ReadInputRegistersRequest,
    ReadWriteMultipleRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from drivers.base import BadFrame, Refused
from drivers.modbus.reply import MAX_PDU, REFUSED

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
PATH_UNAVAILABLE, TARGET_SILENT = 10, 11

EXCEPTIONS = {
    1: "illegal function: the device does not know this request; check the table",
    2: "illegal data address: the device has no such register; check table, address and profile",
    3: "illegal data value: the device does not take this value or this many registers at once",
    4: "device failure: the device could not do it; look at its own fault display",
    5: "acknowledge: the device needs longer; ask again later",
    6: "device busy: ask again later",
    7: "negative acknowledge: the device will not do it",
    8: "memory parity error inside the device",
    10: "gateway path unavailable: the Modbus gateway is overloaded or set up wrongly",
    11: "gateway target did not respond: the Modbus gateway works, the device behind it is silent",
}
"""Exception code -> what it means to a technician. Source: Modbus Application Protocol 1.1b3, section 7."""

MAX_WRITE_WORDS = 123

_READ: dict[str, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_DECODER = DecodePDU(is_server=False)


def read(table: str, first: int, count: int) -> bytes:
    """Request for `count` bits or registers (FC 1-4)."""
    return _encode(_READ[table](address=first, count=count))


def write_coil(at: int, on: bool) -> bytes:
    """Request that sets one coil (FC 5)."""
    return _encode(WriteSingleCoilRequest(address=at, bits=[on]))


def write_coils(at: int, bits: list[bool]) -> bytes:
    """Request that sets coils (FC 15)."""
    return _encode(WriteMultipleCoilsRequest(address=at, bits=bits))


def write_register(at: int, data: bytes) -> bytes:
    """Request that sets one register (FC 6) to the two bytes of `data`."""
    return _encode(WriteSingleRegisterRequest(address=at, registers=_words(data)))


def write_registers(at: int, data: bytes) -> bytes:
    """Request that sets registers (FC 16) to `data`, two bytes each; ValueError beyond the 123 of one request."""
    if len(data) > 2 * MAX_WRITE_WORDS:
        raise ValueError(f"{len(data) // 2} registers cannot be written at once: the most is {MAX_WRITE_WORDS}")
    return _encode(WriteMultipleRegistersRequest(address=at, registers=_words(data)))


def exception_status() -> bytes:
    """Request for the eight exception status bits (FC 7)."""
    return _encode(ReadExceptionStatusRequest())


def diagnostics(sub: int, data: bytes) -> bytes:
    """Request for a diagnostic (FC 8). ValueError unless `sub` is 0..65535 and `data` is of whole words."""
    if not 0 <= sub <= 0xFFFF or not data or len(data) % 2 or len(data) > MAX_PDU - 3:
        raise ValueError(f"diagnostic {sub} with {len(data)} bytes: use 0..65535 and 2, 4 ... {MAX_PDU - 3} bytes")
    request = DiagnosticBase(message=data)
    request.sub_function_code = sub
    return _encode(request)


def comm_event_counter() -> bytes:
    """Request for the communication event counter (FC 11)."""
    return _encode(GetCommEventCounterRequest())


def comm_event_log() -> bytes:
    """Request for the communication event log (FC 12)."""
    return _encode(GetCommEventLogRequest())


def server_id() -> bytes:
    """Request for the server's identity, in the vendor's own form (FC 17)."""
    return _encode(ReportDeviceIdRequest())


def read_file(file: int, record: int, count: int) -> bytes:
    """Request for `count` registers of a file (FC 20)."""
    return _encode(ReadFileRecordRequest(records=[FileRecord(file, record, record_length=2 * count)]))


def write_file(file: int, record: int, data: bytes) -> bytes:
    """Request that sets registers of a file (FC 21)."""
    return _encode(WriteFileRecordRequest(records=[FileRecord(file, record, data)]))


def mask_write(at: int, and_mask: int, or_mask: int) -> bytes:
    """Request that makes a register (old AND and_mask) OR (or_mask AND NOT and_mask) (FC 22)."""
    return _encode(MaskWriteRegisterRequest(at, and_mask, or_mask))


def read_write(first: int, count: int, at: int, data: bytes) -> bytes:
    """Request that sets registers from `at` on, and then reads `count` of them from `first` on (FC 23)."""
    return _encode(ReadWriteMultipleRegistersRequest(first, count, at, _words(data)))


def fifo(at: int) -> bytes:
    """Request for a queue of registers (FC 24)."""
    return _encode(ReadFifoQueueRequest(at))


def identification(category: int, first: int) -> bytes:
    """Request for the objects of a category (1 basic, 2 regular), from object `first` on (FC 43/14)."""
    return _encode(ReadDeviceInformationRequest(category, first))


def exception(reply: bytes) -> int | None:
    """The exception code of a reply, None when it is a good one. BadFrame when the exception carries no code."""
    if not reply[0] & REFUSED:
        return None
    answer = _DECODER.decode(reply)
    if not isinstance(answer, ExceptionResponse):
        raise BadFrame(f"an exception reply without a code: {reply.hex(' ')}")
    return answer.exception_code


def refused(label: str, code: int) -> Refused:
    """The error for a request that the device declined."""
    text = EXCEPTIONS.get(code, "not a code of the Modbus specification; see the device's manual")
    return Refused(code, f"{label}: refused with exception {code}, {text}")


def _encode(request: ModbusPDU) -> bytes:
    return bytes((request.function_code,)) + request.encode()


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
