"""The JSON schema of config.toml, built from the table of settings. Editors use it to complete and check the file."""

from __future__ import annotations

from typing import Any, Literal

from daemon.config import parsers
from daemon.config.table import APP_NAME, SETTINGS, Setting

__all__ = ["ValueType", "config_schema", "value_type"]

ValueType = Literal["string", "boolean", "integer", "number", "array", "object"]
"""The type of a setting in TOML, with the names of JSON schema."""

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
    """Return the type of *setting* in TOML. A string is also valid for each type."""
    return _TYPES.get(setting.parse, "string")


def config_schema() -> dict[str, Any]:
    """Return the schema, in JSON schema draft 2020-12."""
    table = {
        "type": "object",
        "description": "Settings for the sessions that begin in certain folders.",
        "required": ["path"],
        "additionalProperties": False,
        "properties": {
            "path": {
                "description": "Patterns of the folders it applies to. *, ? and ** work as in .gitignore.",
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
    declared: dict[str, Any] = {"description": setting.help}
    kind = value_type(setting)
    if isinstance(setting.parse, parsers.Choice):
        declared |= {"type": "string", "enum": [*setting.parse.words]}
    elif setting.parse is parsers.enabled and not in_project:
        declared["enum"] = [True, False, "projects"]
    elif kind == "array":
        declared["anyOf"] = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    else:
        declared["type"] = kind
    if setting.default is not None and setting.compute is None and not in_project:
        declared["default"] = _default(setting, kind)
    return declared


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
