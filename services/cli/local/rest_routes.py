"""The REST routes as Envoy has to know them beside transcoding them, from the OpenAPI document.

The methods that each path has, for 405 and OPTIONS; and each route's query parameters and their types, for messages
that do not speak of protobuf (gateway/rest.lua).
"""

import json
import re
from typing import Any, Final

from services.cli.local.site import TRANSCODER
from services.kit.runtime.packaged import OPENAPI, REST_FILTER

# A path beside those of the document, and its methods.
WEBSOCKET: Final = {"/ws/scanner": ("GET",)}
HTTP_METHODS: Final = ("get", "put", "post", "delete", "patch")


def methods_by_path() -> dict[str, tuple[str, ...]]:
    """The HTTP methods of each REST path, as the OpenAPI document names them."""
    return {path: tuple(name.upper() for name in HTTP_METHODS if name in item) for path, item in _paths().items()}


def _gateway_methods() -> dict[str, tuple[str, ...]]:
    return {**methods_by_path(), **WEBSOCKET}


def method_routes() -> list[dict[str, Any]]:
    """Envoy routes that answer a known path's other methods, with Allow.

    OPTIONS gets 204, the rest 405.
    """
    routes = []
    for path, methods in _gateway_methods().items():
        pattern, allowed = _regex(path), _allowed(methods)
        # A preflight is answered by the CORS filter.
        preflight = {"name": "access-control-request-method", "present_match": True, "invert_match": True}
        options = [{"name": ":method", "string_match": {"exact": "OPTIONS"}}, preflight]
        known = {"safe_regex": {"regex": "|".join(allowed)}}
        others = [{"name": ":method", "string_match": known, "invert_match": True}]
        for status, headers in ((204, options), (405, others)):
            routes.append(
                {
                    "match": {"safe_regex": {"regex": pattern}, "headers": headers},
                    "direct_response": {"status": status},
                    "response_headers_to_add": _added(", ".join(allowed)),
                    "typed_per_filter_config": {
                        TRANSCODER: {
                            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                            "disabled": True,
                        }
                    },
                }
            )
    return routes


def query_replies() -> list[dict[str, Any]]:
    """Mappers of Envoy's own replies that make a 405 with Allow of its 400 for a QUERY without a content type."""
    details = {
        "name": "envoy.access_loggers.extension_filters.cel",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": "response.code_details == 'query_missing_content_type'",
        },
    }
    error = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "METHOD_NOT_ALLOWED", "domain": "tradeul"}
    content = {"code": 12, "message": "QUERY is not a method of %REQ(:PATH)%", "details": [error]}
    replies = []
    for path, methods in _gateway_methods().items():
        header = {"name": ":path", "string_match": {"safe_regex": {"regex": _regex(path) + "([?].*)?"}}}
        filters = [{"header_filter": {"header": header}}, {"extension_filter": details}]
        replies.append(
            {
                "filter": {"and_filter": {"filters": filters}},
                "status_code": 405,
                "headers_to_add": _added(", ".join(_allowed(methods))),
                "body_format_override": {"json_format": content},
            }
        )
    return replies


def document_with_keys() -> str:
    """Returns the OpenAPI document of a gateway that requires keys: no route but a public one is open without any."""
    document = json.loads(OPENAPI.path().read_text(encoding="utf-8"))
    operations = (each for item in document["paths"].values() for name, each in item.items() if name in HTTP_METHODS)
    for secured in (document, *operations):
        if secured.get("security"):
            secured["security"] = [each for each in secured["security"] if each]
    return json.dumps(document, ensure_ascii=False)


def rest_filter() -> str:
    """Returns the Lua text of the REST filter: gateway/rest.lua below the table that it reads."""
    routes = [
        f"  {{ method = {_lua(verb.upper())}, pattern = {_lua(_pattern(path))}, "
        f"parameters = {_table(_parameter_kinds(operation))} }},"
        for path, item in _paths().items()
        for verb, operation in item.items()
        if verb in HTTP_METHODS
    ]
    code = REST_FILTER.path().read_text(encoding="utf-8")
    return "\n".join(("local routes = {", *routes, "}", code))


def _allowed(methods: tuple[str, ...]) -> tuple[str, ...]:
    """Returns what a path's Allow names; a HEAD becomes a GET (gateway/rest.lua)."""
    return (*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS")


def _regex(path: str) -> str:
    return re.sub(r"\\{\w+\\}", "[^/:]+", re.escape(path))


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = json.loads(OPENAPI.path().read_text(encoding="utf-8"))["paths"]
    return paths


def _parameter_kinds(operation: dict[str, Any]) -> dict[str, str]:
    """The type of each query parameter: whole, number, boolean, text, given (not empty), or list of texts."""
    return {each["name"]: _kind(each) for each in operation.get("parameters", ()) if each["in"] == "query"}


def _kind(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    if schema["type"] == "array":
        # Where they are not exploded, several values are one, separated by commas.
        return "list" if parameter.get("explode", True) else "given"
    if schema["type"] == "string":
        is_limited = "enum" in schema or schema.get("minLength", 0) > 0 or not re.search(schema.get("pattern", ""), "")
        return "given" if is_limited else "text"
    return {"integer": "whole", "number": "number", "boolean": "boolean"}[schema["type"]]


def _pattern(path: str) -> str:
    """A Lua pattern of the path; the transcoder lets a slash follow, too."""
    escaped = re.sub(r"[^\w/{}]", r"%\g<0>", path)
    return "^" + re.sub(r"\{\w+\}", "[^/:]+", escaped) + "/?$"


def _table(values: dict[str, str]) -> str:
    entries = (f"[{_lua(name)}] = {_lua(value)}" for name, value in values.items())
    return "{ " + ", ".join(entries) + " }"


def _lua(text: str) -> str:
    """A text of printable ASCII as a Lua literal, which JSON's are."""
    return json.dumps(text)


def _added(allow: str) -> list[dict[str, Any]]:
    return [_header("allow", allow), _header("access-control-allow-origin", "*")]


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
