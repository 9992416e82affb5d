"""The OpenAPI document of the server: what its routes take and give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from contlearn.serving.http.schemas import schemas
from contlearn.serving.settings import MIN_DEADLINE_SECONDS, ServerSettings
from contlearn.version import __version__

__all__ = ["openapi_document"]


def openapi_document(models: Sequence[ServerSettings]) -> dict[str, Any]:
    """Write the document of a server; tokens and limits are those of the first model."""
    settings = models[0]
    limits, tokens = settings.limits, settings.tokens
    model = "/v2/models/{model}"
    named = [_path_parameter("model")]
    closed: dict[str, Any] = {}
    for prefix, parameters in (("", []), ("/models/{model}", named)):
        predict = _predict(limits.texts)
        closed[f"{prefix}/predict"] = {"parameters": parameters, "post": predict}
        if tokens.has("feedback"):
            closed[f"{prefix}/feedback"] = {"parameters": parameters, "post": _feedback()}
    if tokens.has("control"):
        closed["/models/{model}/roles"] = {
            "parameters": named,
            "get": _controlled("Say what is served beside the champion"),
            "post": {**_controlled("Change canary, shadow and further versions"), **_roles()},
        }
        for verb, summary in (
            ("load", "Look at the champion's pointer now"),
            ("unload", "Always refused: a champion is replaced, never taken away"),
        ):
            closed[f"/v2/repository/models/{{model}}/{verb}"] = {
                "parameters": named,
                "post": _controlled(summary),
            }
    paths: dict[str, Any] = {
        **closed,
        "/health/live": {"get": _get("Say whether the process runs", "Health")},
        "/health/ready": {"get": _get("Say whether a version can answer", "Health")},
        "/status": {"get": _get("Say what is served", "Status")},
        "/models/{model}/status": {
            "parameters": named,
            "get": _get("Say what is served of one model", "Status"),
        },
        "/metrics": {
            "get": {
                "summary": "Give metrics for Prometheus",
                "operationId": "metrics",
                "responses": {
                    "200": {
                        "description": "Metrics",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    }
                },
            }
        },
        "/v1/models": {"get": _get("List the models by KServe's V1 protocol", "Models")},
        "/v1/models/{model}": {
            "parameters": named,
            "get": _get("Say whether the model can answer", "Health"),
        },
        "/v1/models/{model}:predict": {"parameters": named, "post": _instances(limits.texts)},
        "/v2": {"get": _get("Give the server's metadata", "ServerMetadata")},
        "/v2/health/live": {"get": _get("Say whether the process runs", "Health")},
        "/v2/health/ready": {"get": _get("Say whether a version can answer", "Health")},
        "/v2/repository/index": {"post": _index()},
        "/v2/models/stats": {"get": _get("Give statistics of all models", "Statistics")},
    }
    for prefix, parameters in (
        (model, [_path_parameter("model")]),
        (f"{model}/versions/{{version}}", [_path_parameter("model"), _path_parameter("version")]),
    ):
        for suffix, summary, schema in (
            ("", "Give the model's metadata", "ModelMetadata"),
            ("/ready", "Say whether the model can answer", "Health"),
            ("/config", "Give the model's configuration", "ModelConfig"),
            ("/stats", "Give the model's statistics", "Statistics"),
        ):
            paths[prefix + suffix] = {"parameters": parameters, "get": _get(summary, schema)}
        paths[f"{prefix}/infer"] = {"parameters": parameters, "post": _infer()}
    if tokens.has("predict"):
        for path, item in paths.items():
            if path.endswith(("/predict", ":predict", "/infer")):
                item["post"]["security"] = [{"token": []}]
                item["post"]["responses"] |= _errors(401, 403)
    _name_operations(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"contlearn: {', '.join(each.name for each in models)}",
            "version": __version__,
            "description": " ".join(
                f"{each.name}: predictions of the task {each.task.name}." for each in models
            ),
        },
        **({"servers": [{"url": settings.root_path}]} if settings.root_path else {}),
        "paths": paths,
        "components": {
            "schemas": schemas(models),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _name_operations(paths: dict[str, Any]) -> None:
    for path, item in paths.items():
        for method in ("get", "post"):
            if method in item:
                words = re.findall(r"[^{}/:]+", path)
                item[method]["operationId"] = "_".join([method, *words]) or method


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[^/]+$"},
    }


def _json(schema: dict[str, Any] | str, description: str) -> dict[str, Any]:
    body = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": body}}}


def _errors(*codes: int) -> dict[str, Any]:
    return {str(code): _json("Error", "What happened, where, and what to do") for code in codes}


def _get(summary: str, schema: str) -> dict[str, Any]:
    answers = {"200": _json(schema, "The answer"), **_errors(404, 503)}
    if schema == "Health":
        answers["503"] = _json({"type": "object"}, "Not ready, or not alive")
    return {"summary": summary, "responses": answers}


def _predict(texts: int) -> dict[str, Any]:
    listed = {"type": "array", "description": f"At most {texts}"}
    return {
        "summary": "Predict one answer for each text",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "texts": {**listed, "items": {"type": "string"}},
                            "inputs": {
                                **listed,
                                "items": {
                                    "anyOf": [
                                        {"type": "string"},
                                        {"type": "object"},
                                    ]
                                },
                            },
                            "top": {
                                "type": ["integer", "null"],
                                "minimum": 0,
                                "description": "At most so many scores",
                            },
                            "deadline_seconds": {
                                "type": ["number", "null"],
                                "minimum": MIN_DEADLINE_SECONDS,
                            },
                        },
                        "oneOf": [{"required": ["texts"]}, {"required": ["inputs"]}],
                    },
                    "example": {"texts": ["where is my parcel?"]},
                }
            },
        },
        "responses": {
            "200": _json("Predictions", "One prediction for each text, in order"),
            **_errors(400, 404, 408, 413, 415, 503),
        },
    }


def _instances(texts: int) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["instances"],
        "additionalProperties": False,
        "properties": {
            "instances": {
                "type": "array",
                "description": f"At most {texts}",
                "items": {"anyOf": [{"type": "string"}, {"type": "object"}]},
            }
        },
    }
    return {
        "summary": "Predict by KServe's V1 protocol",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": _json("Instances", "One prediction for each instance, in order"),
            **_errors(400, 404, 408, 413, 415, 503),
        },
    }


def _feedback() -> dict[str, Any]:
    label = {
        "type": "object",
        "required": ["request_id", "label"],
        "properties": {
            "request_id": {"type": "string"},
            "index": {"type": "integer", "minimum": 0},
            "label": {
                "anyOf": [{"type": name} for name in ("string", "array", "number", "object")],
                "description": "A class; a tag for each word, or entities with start, end, type; "
                "or whatever else the task learns",
            },
            "text": {
                "type": "string",
                "description": "Where the request may be forgotten; the very text that was asked",
            },
        },
    }
    taken = {
        "type": "object",
        "required": ["accepted", "new", "new_labels"],
        "properties": {
            "accepted": {"type": "integer"},
            "new": {"type": "boolean"},
            "new_labels": {"type": "array", "items": {"type": "string"}},
        },
    }
    several = {
        "type": "object",
        "required": ["labels"],
        "properties": {"labels": {"type": "array", "minItems": 1, "items": label}},
    }
    return {
        "summary": "Give the right labels of earlier requests; they go to the inbox",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"anyOf": [label, several]}}},
        },
        "responses": {
            "202": _json(taken, "Taken"),
            **_errors(400, 401, 403, 404, 408, 409, 413, 415),
        },
    }


def _controlled(summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": [{"token": []}],
        "responses": {
            "200": _json({"type": "object"}, "Done"),
            **_errors(400, 401, 403, 404, 408, 413, 415, 503),
        },
    }


def _roles() -> dict[str, Any]:
    version = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 10**9},
            {"const": "challenger"},
        ]
    }
    share = {"type": "number", "minimum": 0, "maximum": 1}

    def role(**more: Any) -> dict[str, Any]:
        return {
            "type": ["object", "null"],
            "required": ["version"],
            "additionalProperties": False,
            "properties": {"version": version, "share": share, **more},
        }

    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "canary": role(max_latency_ratio={"type": "number", "minimum": 1, "maximum": 1000}),
            "shadow": role(),
            "also": {
                "type": "array",
                "maxItems": 4,
                "items": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10**9},
            },
        },
    }
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "202": _json({"type": "object"}, "Taken; versions are loaded in a moment"),
            **_errors(400, 401, 403, 404, 408, 413, 415, 503),
        },
    }


def _infer() -> dict[str, Any]:
    return {
        "summary": "Infer by the Open Inference Protocol V2",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Infer"}}},
        },
        "responses": {
            "200": {
                "description": "Tensors",
                "content": {
                    "application/json": {"schema": {"type": "object", "required": ["outputs"]}},
                    "application/octet-stream": {"schema": {"type": "string"}},
                },
            },
            **_errors(400, 404, 408, 413, 415, 503),
        },
    }


def _index() -> dict[str, Any]:
    return {
        "summary": "List the models",
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}
                }
            },
        },
        "responses": {
            "200": _json({"type": "array", "items": {"type": "object"}}, "The models"),
            **_errors(400, 408, 413, 415),
        },
    }
