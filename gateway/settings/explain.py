"""What the models refuse, said in plain sentences, with the line and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import Problem
from gateway.settings.document import Document
from gateway.settings.lines import Place
from gateway.settings.quantities import Wrong, show

_SYNONYMS = {
    "slave": "address", "slave_id": "address", "unit_id": "address", "id": "address",
    "interval": "every", "period": "every", "poll": "every", "polling": "every", "rate": "every",
    "register": "at", "offset_address": "at", "reg": "at", "device": "port", "path": "port", "tty": "port",
    "ip": "host", "hostname": "host", "server": "brokers", "broker": "brokers", "url": "brokers", "user": "username",
    "parity": "format", "stopbits": "format", "bytesize": "format", "speed": "baud", "factor": "scale",
    "word_order": "order", "byte_order": "order", "min": "low", "max": "high", "size": "max_size", "title": "location",
}  # fmt: skip
"""What other programs call it."""

_SENTENCES = {
    "int_type": "must be a whole number, not {value}",
    "int_from_float": "must be a whole number, not {value}",
    "float_type": "must be a number, not {value}",
    "string_type": "must be a text in quotes, not {value}",
    "bool_type": "must be true or false, not {value}",
    "list_type": "must be a list, not {value}",
    "dict_type": "must be a table, not {value}",
    "model_type": "must be a table, not {value}",
    "model_attributes_type": "must be a table, not {value}",
    "finite_number": "must be a real number, not {value}",
    "greater_than": "must be greater than {gt:g}, not {value}",
    "greater_than_equal": "must be at least {ge:g}, not {value}",
    "less_than": "must be less than {lt:g}, not {value}",
    "less_than_equal": "must be at most {le:g}, not {value}",
    "too_short": "needs at least {min_length} in the list",
    "too_long": "has more than {max_length} in the list",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "string_pattern_mismatch": "is not written as it must be: {value}",
    "literal_error": "is not known: {value}",
}
_ADVICE = {
    "string_type": 'put it in quotes: "..."',
    "bool_type": "write true or false, without quotes",
    "int_type": "write the number without quotes and without a point",
    "int_from_float": "write the number without a point",
    "float_type": "write the number without quotes",
    "list_type": "write it between [ and ], with commas",
    "string_too_short": "write the value between the quotes",
    "string_pattern_mismatch": "spaces are not allowed",
}
_ARRAYS = {"bus": "[[bus]]", "device": "[[bus.device]]", "point": "[[bus.device.point]]", "signature": "[[signature]]"}


def explain(document: Document, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Turn every error of a validation into a problem."""
    details = error.errors(include_url=False)
    return [_problem(document, model, detail) for detail in details]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean ...?", empty when nothing is near."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    place: Place = detail["loc"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        return document.problem(place, f"unknown key {show(place[-1])}", _allowed(_keys(model, place[:-1]), place))
    if kind == "missing":
        return _missing(document, place)
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "value_error" and isinstance(wrong := context.get("error"), Wrong):
        return document.problem(place, str(wrong), wrong.advice)
    text = _SENTENCES.get(kind, "has a value that does not fit: {value}").format(value=show(detail["input"]), **context)
    return document.problem(place, text, _advice(kind, place, detail))


def _advice(kind: str, place: Place, detail: ErrorDetails) -> str:
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"{nearest(str(detail['input']), known)} allowed: {', '.join(known)}".strip()
    last = place[-1]
    if kind in {"list_type", "dict_type", "model_type"} and isinstance(last, str) and last in _ARRAYS:
        return f"write {_ARRAYS[last]} with double brackets, once for each {last}"
    if kind in {"dict_type", "model_type"}:
        return f"write {last} = {{ key = value }}" if isinstance(last, str) else "write it as a table"
    if kind == "string_pattern_mismatch" and last == "order":
        return 'write the bytes in the order on the wire: "ABCD", "CDAB", "BADC" or "DCBA"'
    return _ADVICE.get(kind, "")


def _missing(document: Document, place: Place) -> Problem:
    key = place[-1]
    if len(place) == 1:
        header = f"[[{key}]]" if key in _ARRAYS else f"[{key}]"
        return document.problem(place, f"the table {header} is missing", f"add a line {header} and its keys")
    examples = {
        "address": "address = 1", "id": 'id = "tn-p1-cab-014"', "name": 'name = "meter-1"', "at": "at = 0",
        "brokers": 'brokers = ["mqtts://ioc.example.vn:8883"]', "table": 'table = "holding"',
        "port": 'port = "/dev/serial/by-path/..."', "host": 'host = "192.168.10.20"',
        "ca": 'ca = "/etc/gateway/tls/plant-ca.pem"', "cert": 'cert = "/etc/gateway/tls/gateway.pem"',
        "key": 'key = "/etc/gateway/tls/gateway.key"',
    }  # fmt: skip
    example = examples.get(str(key), f"{key} = ...")
    return document.problem(place, f'the key "{key}" is missing', f"add {example}")


def _allowed(known: list[str], place: Place) -> str:
    word = str(place[-1])
    if re.search(r"pass|secret|token", word.lower()):
        return "a password never stands in this file: put it into a file of its own and name that with password_file"
    if synonym := _SYNONYMS.get(word.lower()) if _SYNONYMS.get(word.lower()) in known else None:
        return f'did you mean "{synonym}"?'
    return nearest(word, known) or f"allowed here: {', '.join(known)}"


def _keys(model: type[BaseModel], place: Place) -> list[str]:
    """Return the keys that the table at `place` may have."""
    annotation: Any = model
    for step in place:
        if get_origin(annotation) in {list, dict}:
            annotation = get_args(annotation)[-1]
            continue
        table = _model(annotation)
        fields = table.model_fields.items() if table else ()
        annotation = next((field.annotation for name, field in fields if (field.alias or name) == step), None)
    table = _model(annotation)
    return [field.alias or name for name, field in table.model_fields.items()] if table else []


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the table of `Table` or `Table | None`."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None
