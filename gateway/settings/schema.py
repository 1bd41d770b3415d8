"""JSON Schemas of the site file and of a profile, for editors that complete and check while one types."""

from __future__ import annotations

import ast
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.settings.profile import ProfileTable
from gateway.settings.quantities import seconds
from gateway.settings.tables import SiteTable


def schemas() -> dict[str, dict[str, Any]]:
    """Return file name -> schema."""
    return {
        "site.schema.json": _schema(SiteTable, "Site file of a gateway (gateway.toml)"),
        "profile.schema.json": _schema(ProfileTable, "Profile of a device type"),
    }


def text(schema: dict[str, Any]) -> str:
    """Write a schema as it stands in its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    schema = model.model_json_schema()
    texts = _texts()
    for name, table in [*schema.get("$defs", {}).items(), (model.__name__, schema)]:
        for key, field in table.get("properties", {}).items():
            field.pop("title", None)
            if field.get("type") == "string" and not isinstance(field.get("default", ""), str):
                field["default"] = _written(field["default"])
            if description := texts.get((name, key)):
                field["description"] = description
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_null(schema), "title": title}


def _written(default: float) -> str | None:
    """Write seconds or bytes as they stand in the file."""
    if isinstance(default, float):
        return seconds(default)
    return f"{default // 10**6}MB" if default else None if default is None else "0"


def _without_null(schema: Any) -> Any:
    """TOML has no null: a key that may be left out is just left out."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_null(value)
        for key, value in schema.items()
        if key != "default" or (value not in (None, "") and not isinstance(value, dict))
    }
    choices = [choice for choice in kept.pop("anyOf", []) if choice != {"type": "null"}]
    return {**kept, **choices[0]} if len(choices) == 1 else {**kept, **({"anyOf": choices} if choices else {})}


def _texts() -> dict[tuple[str, str], str]:
    """Return (table, key) -> the text below the field in the source: the same words for readers of code and file."""
    found = {}
    for model in (SiteTable, ProfileTable):
        for table in ast.parse(inspect.getsource(sys.modules[model.__module__])).body:
            if isinstance(table, ast.ClassDef):
                for field, below in zip(table.body, table.body[1:], strict=False):
                    if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                        key = ast.unparse(field.target).rstrip("_")
                        found[table.name, key] = str(ast.literal_eval(below.value))
    return found


def main(directory: str = "config") -> None:
    """Write the schemas into a directory."""
    for name, schema in schemas().items():
        Path(directory, name).write_text(text(schema), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
