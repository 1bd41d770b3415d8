"""The contract of the topics as an AsyncAPI 3 document: `python -m gateway.uplink.asyncapi > config/asyncapi.yaml`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.uplink.down import MAX_BYTES, MAX_RANGES

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
VALUE: Schema = {"type": ["number", "integer", "boolean", "string", "null"]}
VERSION: Schema = {"type": "integer", "const": 1}
EPOCH: Schema = {"type": "string", "pattern": "^[0-9]+-[0-9a-f]{16}$", "description": "One run of the agent."}
SEQ: Schema = {"type": "integer", "minimum": 1, "description": "Gapless within epoch and stream."}
STREAM: Schema = {"type": "string", "enum": ["t", "e", "c"], "description": "Telemetry, events, command results."}
CFG: Schema = {"type": "string", "pattern": "^[0-9a-f]{8}$", "description": "Names the birth of the points."}
CLK: Schema = {"type": "string", "enum": ["synced", "holdover", "corrected", "unsynced"]}
WALL: Schema = {"type": "integer", "description": "ms since 1970 UTC"}
MONOTONIC: Schema = {"type": "integer", "description": "ms of this boot"}
RANGE: Schema = {"type": "array", "items": SEQ, "minItems": 2, "maxItems": 2, "description": "Closed range [a, b]."}
QUALITY: Schema = {
    "type": "string",
    "pattern": "^(good|uncertain:[a-z-]+|bad:[a-z]+(-[0-9]+)?)$",
    "description": "good; uncertain: stale, clock, range, rate, substituted, restarted; bad: timeout, crc, "
    "exception-<n>, sentinel, decode, device, disabled, maintenance",
}


_TIMES: dict[str, Schema] = {"ts": WALL, "boot": TEXT, "m0": MONOTONIC, "clk": CLK}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items} | more


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, text: str = "") -> Schema:
    """A map with these keys; readers must ignore keys that they do not know."""
    schema = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return {"description": text} | schema if text else schema


_HEAD = {"v": VERSION, "gw": TEXT}
_HIST = {"hist": {"type": "boolean", "const": True, "description": "Late: never overwrites live values."}}

COLUMN: Schema = {
    "type": "array",
    "minItems": 2,
    "maxItems": 2,
    "description": "[exp, ints]: delta-coded integers, value = n x 10^exp (divide by 10^-exp, do not multiply); null "
    "is no value and running sums skip it; in JSON, integers beyond 2^53 are text. [null, values]: values as they are.",
    "items": {"type": ["integer", "null", "array"], "items": VALUE},
}
SEVERITY: Schema = {"type": "string", "enum": ["info", "warning", "error", "critical"]}
EVENT_DATA: Schema = {
    "type": "object",
    "description": "What else belongs to the event. Two codes name batches by their exact ranges.",
    "properties": {
        "dropped": array(ref("Ranges"), description="Given up, or a dead letter: these count as settled."),
        "missing": array(ref("Ranges"), description="Asked for by dn/resend, and not stored."),
    },
}
BLOCK: Schema = {
    "type": "array",
    "minItems": 6,
    "maxItems": 6,
    "description": "[device, cfg, points, dt, columns, quality]: points are names; dt are row times in ms, each "
    "relative to the one before, the first to t0; columns one per point; quality is [[point index, row, code]...] of "
    "what is not good.",
}
SCHEMAS: dict[str, Schema] = {
    "Block": BLOCK,
    "Column": COLUMN,
    "Quality": QUALITY,
    "Telemetry": record(
        _HEAD
        | {"epoch": EPOCH, "seq": SEQ, "boot": TEXT, "t0": WALL, "m0": MONOTONIC, "clk": CLK}
        | {
            "d": {
                "description": "Bytes: MessagePack of the blocks. In the JSON form the list of blocks itself.",
                "oneOf": [{"type": "string", "format": "binary"}, array(ref("Block"))],
            }
        },
        {
            "part": array(SEQ, minItems=2, maxItems=2, description="[i, n]; then it is part of the key."),
            "z": {"type": "string", "const": "zlib", "description": "d is compressed."},
        }
        | _HIST,
        "A batch of readings. Key: (gw, epoch, stream t, seq[, part]). For one key, corrected beats unsynced.",
    ),
    "Event": record(
        _HEAD
        | {"epoch": EPOCH, "stream": {"type": "string", "const": "e"}, "seq": SEQ}
        | _TIMES
        | {"id": TEXT}
        | {"state": {"type": "string", "enum": ["raised", "cleared"]}, "severity": SEVERITY, "code": TEXT}
        | {"bus": TEXT, "device": TEXT, "text": TEXT, "cause": TEXT, "advice": TEXT, "data": EVENT_DATA},
        _HIST,
        "Something began or ended. Raised and cleared have the same id.",
    ),
    "Command": record(
        _HEAD | {"epoch": EPOCH, "stream": {"type": "string", "const": "c"}, "seq": SEQ} | _TIMES,
        _HIST,
        "State of a command.",
    ),
    "Status": record(
        _HEAD
        | {"online": BOOLEAN, "conn": array(VALUE, minItems=2, maxItems=2, description="[epoch, connection counter]")}
        | {"ts": WALL, "boot": TEXT, "version": TEXT}
        | {
            "config": record({"version": INTEGER, "sha256": TEXT, "state": TEXT}),
            "clock": record({"trust": TEXT, "state": CLK}),
            "mqtt": record(
                {"version": TEXT, "refusals_visible": {"type": ["boolean", "null"]}, "window": INTEGER, "confirm": TEXT}
            ),
            "window": {"type": "number", "description": "Seconds of unconfirmed readings that a power cut can cost."},
        },
        {"site": TEXT},
        "Also the will, with online false. A death whose conn is not the latest is ignored.",
    ),
    "Point": record(
        {"name": TEXT, "unit": {"type": "string", "description": "UCUM"}},
        {
            "kind": TEXT,
            "type": TEXT,
            "resolution": NUMBER,
            "labels": {"type": "object"},
            "every": VALUE,
            "deadband": VALUE,
            "range": array(VALUE),
            "writable": BOOLEAN,
        },
    ),
    "Birth": record(
        _HEAD | {"device": TEXT, "cfg": CFG, "points": array(ref("Point"))},
        {"profile": {"type": "object"}, "class": TEXT, "driver": TEXT, "bus": TEXT, "address": VALUE, "location": TEXT},
        "Explains the points of one device. Retained until no unsettled batch needs it and it is not current; then "
        "cleared by an empty message.",
    ),
    "Epochs": record(
        _HEAD
        | {
            "epoch": EPOCH,
            "epochs": array(
                record(
                    {
                        "epoch": EPOCH,
                        "ended": {"type": "string", "enum": ["clean", "unclean"]},
                        "pending": array(RANGE),
                        "highest_on_disk": INTEGER,
                    },
                    {"streams": {"type": "object", "description": "pending and highest_on_disk of each stream"}},
                )
            ),
        },
        text="Earlier epochs that are not settled. After an unclean end, what is above the highest number is unknown.",
    ),
    "Clock": record(
        _HEAD | {"boot": TEXT, "anchor": {"type": "integer", "description": "wall minus monotonic, ms"}},
        {"earlier": {"type": "object", "additionalProperties": INTEGER, "description": "anchors of earlier boots"}},
    ),
    "Health": record(
        _HEAD | {"ts": WALL, "uplink": {"type": "object"}, "store": {"type": "object"}},
        {"buses": {"type": "object"}, "machine": {"type": "object"}},
        "Counters of every hop.",
    ),
    "Ranges": record(
        {"epoch": EPOCH, "stream": STREAM, "ranges": array(RANGE, maxItems=MAX_RANGES)},
        text=f"Batches, by number. At most {MAX_BYTES} bytes.",
    ),
    "Rebirth": record({}, {"device": TEXT, "cfg": CFG}, "Empty: all births."),
}


class Topic(NamedTuple):
    """One line of the contract's table of topics."""

    name: str
    address: str
    schema: str
    qos: int
    retained: bool
    summary: str

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", _ROOT + self.address)


_ROOT = "{prefix}/v1/{gateway}/"

TOPICS = (
    Topic("status", "up/status", "Status", 1, True, "Is the gateway there, and which one is it?"),
    Topic("birth", "up/birth/{device}/{cfg}", "Birth", 1, True, "What the points of a device mean."),
    Topic("epochs", "up/epochs", "Epochs", 1, True, "What earlier runs have left unsettled."),
    Topic("clock", "up/clock", "Clock", 1, True, "The anchors of this boot's times, and of earlier ones."),
    Topic("telemetry", "up/telemetry", "Telemetry", 1, False, "Readings, durable."),
    Topic("event", "up/event", "Event", 1, False, "Events, durable, sent before all telemetry."),
    Topic("command", "up/cmd/{id}", "Command", 1, False, "Results of commands, durable."),
    Topic("health", "up/health", "Health", 0, False, "How the gateway fares."),
    Topic("ack", "dn/ack", "Ranges", 1, False, "The IOC has committed these batches."),
    Topic("resend", "dn/resend", "Ranges", 1, False, "Send these stored batches again, marked historical."),
    Topic("rebirth", "dn/rebirth", "Rebirth", 1, False, "Publish births again."),
)

_PARAMETERS = {
    "prefix": "uplink.prefix of the site file, city unless configured.",
    "gateway": "gateway.id of the site file.",
    "device": "A device's name.",
    "cfg": "8 hex digits: hash of a device's point metadata.",
    "id": "A command's id.",
}


def document() -> dict[str, Any]:
    """The whole document; the gateway's view: it sends up/, receives dn/."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Smart-city gateway: uplink",
            "version": "1",
            "description": "MQTT 5, or 3.1.1 where the broker knows nothing newer. Durable messages (telemetry, event, "
            "cmd) are MessagePack maps, or the same as JSON with uplink.format = native-json; all others are JSON. The "
            "first byte tells: { is JSON. Bodies may gain keys; readers ignore keys that they do not know.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {topic.name: _operation(topic) for topic in TOPICS},
        "components": {"schemas": SCHEMAS},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    durable = topic.schema in ("Telemetry", "Event", "Command")
    message = {"contentType": "application/msgpack" if durable else "application/json", "payload": ref(topic.schema)}
    return {
        "address": _ROOT + topic.address,
        "summary": topic.summary,
        "parameters": {name: {"description": _PARAMETERS[name]} for name in topic.parameters},
        "messages": {topic.schema.lower(): message},
    }


def _operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send" if topic.address.startswith("up/") else "receive",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "bindings": {"mqtt": {"qos": topic.qos, "retain": topic.retained, "bindingVersion": "0.2.0"}},
    }


def as_yaml(value: Any) -> str:
    """A JSON-like value as YAML 1.2: block style, texts quoted as in JSON."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in pairs:
        head = "-" if key is None else f"{_key(key)}:"
        if isinstance(item, (dict, list)) and item and not _is_flat(item):
            yield head
            yield from (f"  {line}" for line in _lines(item))
        else:
            yield f"{head} {json.dumps(item, ensure_ascii=False)}"


def _is_flat(item: dict[str, Any] | list[Any]) -> bool:
    """Whether it reads best on one line."""
    values = item.values() if isinstance(item, dict) else item
    return not any(isinstance(value, (dict, list)) for value in values) and len(json.dumps(item)) <= 100


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_]\w*", key) else json.dumps(key)


if __name__ == "__main__":
    sys.stdout.write(as_yaml(document()))
