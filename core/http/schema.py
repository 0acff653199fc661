"""The error responses that every operation of the OpenAPI schema shares."""

from __future__ import annotations

from typing import Any

ERROR = {
    "type": "object",
    "properties": {
        "detail": {"type": "string", "description": "One sentence that says what to do."},
        "errors": {
            "type": "array",
            "description": "Where the input is invalid; only with status 400.",
            "items": {
                "type": "object",
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                },
                "required": ["loc", "msg"],
            },
        },
    },
    "required": ["detail"],
}

RATE_LIMIT_EXCEEDED = {
    "type": "object",
    "properties": {
        "detail": {"type": "string", "const": "Rate limit exceeded"},
        "retry_after": {"type": "integer", "description": "Seconds to wait."},
    },
    "required": ["detail", "retry_after"],
}

HEADERS = {
    "X-RateLimit-Limit": "Requests allowed in the window.",
    "X-RateLimit-Remaining": "Requests left in the window after this one.",
    "X-RateLimit-Reset": "Seconds until the oldest counted request leaves the window.",
}


def add_error_responses(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add the error responses that a view does not declare itself (a drf-spectacular hook)."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = ERROR
    schemas["RateLimitExceeded"] = RATE_LIMIT_EXCEEDED
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            for response in responses.values():
                response["headers"] = _headers(HEADERS) | response.get("headers", {})
            if "requestBody" in operation or _has_query(operation):
                responses.setdefault("400", _response("Invalid input", "Error"))
                responses.setdefault("413", _response("Request body too large", "Error"))
            if method != "get":
                responses.setdefault("403", _response("Sent by a page of another site", "Error"))
            if "{" in path:
                responses.setdefault("404", _response("Not found", "Error"))
            responses["429"] = _response("Too many requests", "RateLimitExceeded") | {
                "headers": _headers(HEADERS | {"Retry-After": "Seconds to wait."})
            }
            responses.setdefault("503", _response("Trouble of the server's machine", "Error"))
            if method != "get":
                responses.setdefault("507", _response("The server's disk is full", "Error"))
            operation["responses"] = dict(sorted(responses.items()))
    return result


def _has_query(operation: dict[str, Any]) -> bool:
    return any(parameter["in"] == "query" for parameter in operation.get("parameters", []))


def _headers(descriptions: dict[str, str]) -> dict[str, Any]:
    return {
        name: {"description": text, "schema": {"type": "integer"}}
        for name, text in descriptions.items()
    }


def _response(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
