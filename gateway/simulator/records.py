"""File records and a FIFO queue: functions 20, 21 and 24. Pure.

Spans are those of the Modbus Application Protocol Specification V1.1b3, sections 6.14, 6.15 and 6.18.
"""

from __future__ import annotations

from gateway.simulator.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, Answer, Memory, refusal, word

FILES = range(1, 5)
"""The files that a device has."""
RECORDS = range(256)
"""The records of a file, one register each. Unwritten ones hold their file's number and their own."""
QUEUES = {1246: (440, 4740)}
"""FIFO pointer address -> what its queue holds: the specification's example."""

_REFERENCE = 6


def _has(reference: int, file: int, record: int, count: int) -> bool:
    """Whether a device has these records."""
    last = record + count - 1
    return reference == _REFERENCE and file in FILES and record in RECORDS and record <= last and last in RECORDS


def read_records(pdu: bytes, memory: Memory) -> Answer:
    """Function 20: groups of records."""
    groups = pdu[2:]
    if len(pdu) < 2 or pdu[1] != len(groups) or len(groups) % 7 or not 7 <= len(groups) <= 0xF5:
        return refusal(pdu[0], ILLEGAL_VALUE)
    told = b""
    for k in range(0, len(groups), 7):
        file, record, count = word(groups, k + 1), word(groups, k + 3), word(groups, k + 5)
        if not _has(groups[k], file, record, count) or len(told) + 2 + 2 * count > 0xF5:
            return refusal(pdu[0], ILLEGAL_ADDRESS)
        data = b"".join(memory.records.get((file, at), bytes((file, at))) for at in range(record, record + count))
        told += bytes((len(data) + 1, _REFERENCE)) + data
    return Answer(bytes((pdu[0], len(told))) + told)


def write_records(pdu: bytes, memory: Memory) -> Answer:  # noqa: ARG001 - one signature for all functions
    """Function 21: groups of records; all of them or none."""
    groups, k = pdu[2:], 0
    written: dict[tuple[int, int], bytes] = {}
    if len(pdu) < 2 or pdu[1] != len(groups) or not 9 <= len(groups) <= 0xFB:
        return refusal(pdu[0], ILLEGAL_VALUE)
    while k < len(groups):
        file, record, count = word(groups, k + 1), word(groups, k + 3), word(groups, k + 5)
        data = groups[k + 7 : k + 7 + 2 * count]
        if not _has(groups[k], file, record, count):
            return refusal(pdu[0], ILLEGAL_ADDRESS)
        if len(data) != 2 * count:
            return refusal(pdu[0], ILLEGAL_VALUE)
        written |= {(file, record + i): data[2 * i : 2 * i + 2] for i in range(count)}
        k += 7 + len(data)
    return Answer(pdu, records=written)


def read_queue(pdu: bytes, memory: Memory) -> Answer:  # noqa: ARG001 - one signature for all functions
    """Function 24: reading takes nothing out of the queue."""
    if len(pdu) != 3:
        return refusal(pdu[0], ILLEGAL_VALUE)
    queue = QUEUES.get(word(pdu, 1))
    if queue is None:
        return refusal(pdu[0], ILLEGAL_ADDRESS)
    data = b"".join(value.to_bytes(2, "big") for value in queue)
    return Answer(pdu[:1] + (len(data) + 2).to_bytes(2, "big") + len(queue).to_bytes(2, "big") + data)
