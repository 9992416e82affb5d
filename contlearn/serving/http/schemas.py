"""The shapes of what the server takes and gives, as JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contlearn.serving.settings import ServerSettings

__all__ = ["schemas"]

_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error", "where", "hint", "request_id"],
    "properties": {
        "error": {"type": "string"},
        "where": {"type": ["string", "null"]},
        "hint": {"type": ["string", "null"]},
        "request_id": {"type": ["string", "null"]},
    },
}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "required": ["name", "datatype", "shape", "data"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
        "datatype": {"const": "BYTES"},
        "shape": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {"type": "integer", "minimum": 0},
        },
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {"type": "string"}},
    },
}

_IDS: dict[str, Any] = {
    **_TENSOR,
    "properties": {
        **_TENSOR["properties"],
        "name": {"enum": ["input_ids", "attention_mask", "token_type_ids"]},
        "datatype": {"enum": ["INT64", "INT32"]},
        "data": {"type": "array", "description": "Numbers, flat or in rows"},
    },
}


def schemas(models: Sequence[ServerSettings]) -> dict[str, Any]:
    """Give the named schemas of a server that serves these models."""
    kinds = list({each.task.name: each.task.schema() for each in models}.values())
    predictions = {
        "type": "array",
        "items": {"anyOf": [*kinds, {"$ref": "#/components/schemas/NoAnswer"}]},
    }
    return {
        "Error": _ERROR,
        "Health": {"type": "object"},
        "Status": {"type": "object", "required": ["model", "ready", "version"]},
        "ServerMetadata": {"type": "object", "required": ["name", "version", "extensions"]},
        "ModelMetadata": {
            "type": "object",
            "required": ["name", "versions", "platform", "inputs", "outputs"],
        },
        "ModelConfig": {"type": "object", "required": ["name", "input", "output"]},
        "Statistics": {"type": "object", "required": ["model_stats"]},
        "Infer": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {
                    "anyOf": [
                        {"type": "array", "minItems": 1, "maxItems": 1, "items": _TENSOR},
                        {"type": "array", "minItems": 1, "maxItems": 3, "items": _IDS},
                    ]
                },
                "outputs": {
                    "type": "array",
                    "maxItems": 16,
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "parameters": {"type": "object"},
                        },
                    },
                },
            },
        },
        "NoAnswer": {
            "type": "object",
            "description": "In the place of a text that alone could not be used",
            "required": ["error", "where", "hint"],
            "properties": {
                name: value for name, value in _ERROR["properties"].items() if name != "request_id"
            },
        },
        "Models": {
            "type": "object",
            "required": ["models"],
            "properties": {"models": {"type": "array", "items": {"type": "string"}}},
        },
        "Instances": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": predictions},
        },
        "Predictions": {
            "type": "object",
            "required": ["predictions", "model", "version", "request_id"],
            "properties": {
                "predictions": predictions,
                "model": {"type": "string"},
                "version": {"type": "integer"},
                "request_id": {"type": "string"},
            },
        },
    }
