"""The JSON schema of config.toml, made from the table of settings: what editors complete and check by."""

from __future__ import annotations

from typing import Any, Literal

from daemon.config import parsers
from daemon.config.table import APP_NAME, SETTINGS, Setting

__all__ = ["ValueType", "config_schema", "value_type"]

ValueType = Literal["string", "boolean", "integer", "number", "array", "object"]
"""What a setting is in TOML, as JSON schema calls it."""

_TYPES: dict[parsers.Parser, ValueType] = {
    parsers.boolean: "boolean",
    parsers.enabled: "boolean",
    parsers.attribute_length: "integer",
    parsers.seconds: "number",
    parsers.json_object: "object",
    parsers.patterns: "array",
    parsers.folders: "array",
}


def value_type(setting: Setting) -> ValueType:
    """Return what *setting* is in TOML; text may stand for each of them."""
    return _TYPES.get(setting.parse, "string")


def config_schema() -> dict[str, Any]:
    """Return the schema, for JSON schema draft 2020-12."""
    table = {
        "type": "object",
        "description": "Settings for the sessions begun in some folders.",
        "required": ["path"],
        "additionalProperties": False,
        "properties": {
            "path": {
                "description": "Folders it holds for, as patterns: ~, * and ** as in .gitignore.",
                "anyOf": [
                    {"type": "string", "minLength": 1},
                    {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                ],
            },
            **_properties(in_project=True),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"config.toml of {APP_NAME}",
        "type": "object",
        "additionalProperties": False,
        "properties": {**_properties(in_project=False), "project": {"type": "array", "items": table}},
    }


def _properties(*, in_project: bool) -> dict[str, Any]:
    return {
        key: _property(setting, in_project=in_project)
        for setting in SETTINGS
        if setting.in_project or not in_project
        for key in (setting.key, *setting.aliases)
    }


def _property(setting: Setting, *, in_project: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"description": setting.help}
    kind = value_type(setting)
    if isinstance(setting.parse, parsers.Choice):
        said |= {"type": "string", "enum": [*setting.parse.words]}
    elif setting.parse is parsers.enabled and not in_project:
        said["enum"] = [True, False, "projects"]
    elif kind == "array":
        said["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    else:
        said["type"] = kind
    if setting.default is not None and setting.compute is None and not in_project:
        said["default"] = _default(setting, kind)
    return said


def _default(setting: Setting, kind: ValueType) -> Any:
    assert setting.default is not None
    match kind:
        case "boolean":
            return setting.default == "true"
        case "integer" | "number":
            return int(setting.default)
        case "object":
            return {}
    return setting.default
