"""The OpenAPI document of the REST routes, generated from the protos by `tools.protogen`.

Routes are the google.api.http options, and texts the comments of the protos.
JSON is as Envoy's transcoder writes it (gateway/envoy.yaml): names as in the
protos, plain fields always included, `optional` ones and messages left out while
absent. gateway/openapi.toml adds the limits of requests.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2
from tradeul.v1 import rights_pb2

from services.kit.lists.definitions import load_lists
from services.kit.lists.scan_filters import ScanFilterParameters
from services.kit.runtime.packaged import OPENAPI_EXTRAS
from tools.openapi_schemas import Schemas, Source, described, nullable, summary_of

Json = dict[str, Any]
FieldProto = descriptor_pb2.FieldDescriptorProto

STATUS: Final = ".google.rpc.Status"
# Any request, in the table of fields.
ANY: Final = "*"
# Security schemes of gateway/openapi.toml: of any request, and of those that a page opens without headers.
KEYS: Final = ("key", "bearer")
TICKET: Final = "ticket"
# In the table: the body has an object with the fields of the message.
INPUT: Final = "input"
# The format of a text that is comma-separated names of fields.
FIELD_NAMES: Final = "field-names"
HTTP_BODY: Final = ".google.api.HttpBody"
ERROR_DESCRIPTION: Final = (
    "An error: 400 for an invalid request, 404 for something that does not exist, 409 for something that already "
    "exists, 429 for a limit that is reached, 503 if a service is unavailable, 504 if one did not answer in time."
)
_VARIABLE: Final = re.compile(r"\{(\w+)(?:=[^}]*)?\}")


class OpenApiError(ValueError):
    """Protos or a gateway/openapi.toml from which no document can be generated."""


def document(descriptors: descriptor_pb2.FileDescriptorSet, extras_file: Path | None = None) -> bytes:
    """The document as JSON, for descriptors with source info.

    Raises OpenApiError for a name in the extras that the protos do not have.
    """
    extras = tomllib.loads((extras_file or OPENAPI_EXTRAS.path()).read_text(encoding="utf-8"))
    source = Source(descriptors)
    made = _Document(source, _field_extras(source, extras["fields"]), extras["json_of"], extras["bodies"])
    for file in descriptors.file:
        for service in file.service:
            made.add_service(f".{file.package}.{service.name}", service)
    made.schemas.add(STATUS)
    content = {
        "openapi": "3.1.0",
        "info": {"title": extras["title"], "version": extras["version"], "description": extras["description"].strip()},
        "servers": [{"url": "/"}],
        "tags": made.tags,
        "paths": made.paths,
        "components": {"schemas": made.schemas.components(), "securitySchemes": extras["security_schemes"]},
        # None of them is needed where keys are not required.
        "security": [{}, *({name: []} for name in KEYS)],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _field_extras(source: Source, extras: Mapping[str, Json]) -> dict[tuple[str, str], Json]:
    """By message and field, the names in the extras resolved."""
    known = {name.rpartition(".")[2]: name for name in source.messages}
    found: dict[tuple[str, str], Json] = {}
    for key, keywords in extras.items():
        message, _, field = key.partition(".")
        if message == ANY:
            found[ANY, field] = keywords
            continue
        if message not in known or field not in {each.name for each in source.messages[known[message]].field}:
            raise OpenApiError(f"gateway/openapi.toml: expected a field of a request, was {key!r}")
        resolved = dict(keywords)
        if resolved.get("enum") == "lists":
            resolved["enum"] = [spec.name for spec in load_lists()]
        found[known[message], field] = resolved
    return found


class _Document:
    """Paths, tags and schemas as services are added."""

    def __init__(
        self,
        source: Source,
        extras: Mapping[tuple[str, str], Json],
        json_of: Mapping[str, str],
        bodies: Mapping[str, Json],
    ) -> None:
        self.paths: dict[str, Json] = {}
        self.tags: list[Json] = []
        self.schemas = Schemas(source)
        self._source = source
        self._extras = extras
        self._json_of = json_of
        self._bodies = bodies

    def add_service(self, name: str, service: descriptor_pb2.ServiceDescriptorProto) -> None:
        """The routes of a service; nothing when it has none."""
        tag = service.name.removesuffix("Service")
        methods = {method.name: method for method in service.method}
        has_routes = False
        for routed in service.method:
            if not routed.options.HasExtension(annotations_pb2.http):
                continue
            has_routes = True
            rule = routed.options.Extensions[annotations_pb2.http]
            method = methods[self._json_of.get(routed.name, routed.name)]
            if method.output_type == HTTP_BODY:
                raise OpenApiError(f"{name}.{method.name}: expected to find in [json_of] whose JSON it is")
            for number, each in enumerate((rule, *rule.additional_bindings)):
                verb, path = _route(each)
                operation = self._operation(f"{name}.{method.name}", method, each, path)
                operation["operationId"] = f"{tag}_{method.name}" + (f"_{number + 1}" if number else "")
                operation["tags"] = [tag]
                self.paths.setdefault(_VARIABLE.sub(r"{\1}", path), {})[verb] = operation
        if has_routes:
            self.tags.append(described({"name": tag}, self._source.comment(name)))

    def _operation(
        self, name: str, method: descriptor_pb2.MethodDescriptorProto, rule: http_pb2.HttpRule, path: str
    ) -> Json:
        comment = self._source.comment(name)
        operation: Json = {"operationId": "", "tags": [], "summary": summary_of(comment) or method.name}
        if comment:
            operation["description"] = comment
        in_path = _VARIABLE.findall(path)
        fields = list(self._source.messages[method.input_type].field)
        rest = [field for field in fields if field.name not in in_path]
        if rule.body not in ("", "*", "body"):
            raise OpenApiError(f'{name}: expected body "*", "body" or none, was {rule.body!r}')
        parameters = [self._parameter(method.input_type, field, "path") for field in fields if field.name in in_path]
        if rule.body:
            operation["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": self._body(method.input_type, rest)}},
            }
        else:
            parameters += [self._parameter(method.input_type, field, "query") for field in rest]
        if parameters:
            operation["parameters"] = parameters
        operation["responses"] = self._responses(method)
        if method.options.Extensions[rights_pb2.right] == rights_pb2.RIGHT_PUBLIC:
            operation["security"] = []
        elif method.server_streaming and not rule.body:
            # A ticket is for EventSource, which sends no body.
            operation["security"] = [{}, *({name: []} for name in (*KEYS, TICKET))]
        return operation

    def _parameter(self, message: str, field: FieldProto, location: str) -> Json:
        schema, required, example = self._input(message, field)
        if field.type == FieldProto.TYPE_MESSAGE:
            raise OpenApiError(f"{message}.{field.name}: expected a plain field as a parameter")
        parameter: Json = {
            "name": field.name,
            "in": location,
            "required": location == "path" or required,
            "schema": schema,
        }
        if schema.get("format") == FIELD_NAMES:
            # In a query, what commas separate is an array.
            parameter |= {"schema": self.schemas.add_field_names(), "style": "form", "explode": False}
        if example is not None:
            parameter["example"] = example
        return described(parameter, self._source.comment(f"{message}.{field.name}"))

    def _body(self, message: str, fields: Sequence[FieldProto]) -> Json:
        extras = dict(self._bodies.get(message.rpartition(".")[2], {}))
        takes_null = extras.pop("null", True)
        properties: dict[str, Json] = {}
        required = []
        for field in fields:
            schema, is_required, _ = self._input(message, field)
            if is_required:
                required.append(field.name)
            elif takes_null:
                schema = nullable(schema)
            properties[field.name] = described(schema, self._source.comment(f"{message}.{field.name}"))
        body: Json = {"type": "object", "properties": properties, **extras, "additionalProperties": False}
        return {**body, "required": required} if required else body

    def _input(self, message: str, field: FieldProto) -> tuple[Json, bool, Any]:
        """A request field's schema, whether it has to be given, and an example."""
        extras = dict(self._extras.get((message, field.name)) or self._extras.get((ANY, field.name), {}))
        required = bool(extras.pop("required", False))
        example = extras.pop("example", None)
        model = extras.pop("schema", "")
        if model == ScanFilterParameters.__name__:
            schema = self.schemas.add_model(ScanFilterParameters)
        elif model == INPUT:
            schema = self._body(field.type_name, list(self._source.messages[field.type_name].field))
        else:
            schema = self.schemas.of_field(field)
        return {**schema, **extras}, required, example

    def _responses(self, method: descriptor_pb2.MethodDescriptorProto) -> Json:
        answer = self.schemas.add(method.output_type)
        comment = self._source.comment(method.output_type)
        if method.server_streaming:
            # What OpenAPI 3.2 calls itemSchema.
            content = {"text/event-stream": {"schema": {"type": "string"}, "x-item-schema": answer}}
        else:
            content = {"application/json": {"schema": answer}}
        return {
            "200": {"description": comment or "The response.", "content": content},
            "default": {
                "description": ERROR_DESCRIPTION,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}},
            },
        }


def _route(rule: http_pb2.HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern")
    if verb is None or verb == "custom":
        raise OpenApiError(f"expected a verb and a path, was {verb}")
    return verb, getattr(rule, verb)


def routes(content: bytes) -> Iterator[tuple[str, str, Json]]:
    """Verb, path and operation of every route of a document."""
    for path, operations in json.loads(content)["paths"].items():
        for verb, operation in operations.items():
            yield verb, path, operation
