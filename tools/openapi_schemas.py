"""Messages as JSON schemas, in the form that Envoy's transcoder gives them."""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2
from pydantic import BaseModel

Json = dict[str, Any]
FieldProto = descriptor_pb2.FieldDescriptorProto
DescriptorProto = descriptor_pb2.DescriptorProto

_REFERENCE: Final = "#/components/schemas/{model}"
_INT32: Final = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_UINT32: Final = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**32 - 1}
# JSON has them as texts, since its numbers are doubles.
_INT64: Final = {"type": "string", "pattern": "^-?[0-9]{1,20}$"}
_UINT64: Final = {"type": "string", "pattern": "^[0-9]{1,20}$"}
_SCALARS: Final[dict[int, Json]] = {
    FieldProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldProto.TYPE_INT32: _INT32,
    FieldProto.TYPE_SINT32: _INT32,
    FieldProto.TYPE_SFIXED32: _INT32,
    FieldProto.TYPE_UINT32: _UINT32,
    FieldProto.TYPE_FIXED32: _UINT32,
    FieldProto.TYPE_INT64: _INT64,
    FieldProto.TYPE_SINT64: _INT64,
    FieldProto.TYPE_SFIXED64: _INT64,
    FieldProto.TYPE_UINT64: _UINT64,
    FieldProto.TYPE_FIXED64: _UINT64,
    FieldProto.TYPE_BOOL: {"type": "boolean"},
    FieldProto.TYPE_STRING: {"type": "string"},
    FieldProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_ANY: Final = {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]}
_WELL_KNOWN: Final[dict[str, Json]] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.ListValue": {"type": "array"},
    ".google.protobuf.Value": {},
    ".google.protobuf.Any": _ANY,
    ".google.protobuf.FieldMask": {"type": "string"},
}
_ROW: Final = ".tradeul.v1.TickerRow"
# Field numbers of descriptor.proto, of which the paths of source info are made.
_MESSAGE, _ENUM, _SERVICE, _METHOD = 4, 5, 6, 2
_FIELD, _NESTED, _NESTED_ENUM, _VALUE = 2, 3, 4, 2


def described(schema: Json, comment: str) -> Json:
    """`schema` with the comment as its description."""
    return {**schema, "description": comment} if comment else schema


def nullable(schema: Json) -> Json:
    """`schema`, or null."""
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def summary_of(comment: str) -> str:
    """The first sentence, without its full stop."""
    first = " ".join(comment.split("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".")


class Source:
    """Messages, enums and comments of a FileDescriptorSet, by full name with a leading dot."""

    def __init__(self, descriptors: descriptor_pb2.FileDescriptorSet) -> None:
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, descriptor_pb2.EnumDescriptorProto] = {}
        self._comments: dict[str, str] = {}
        for file in descriptors.file:
            names = dict(self._names(file))
            for location in file.source_code_info.location:
                name = names.get(tuple(location.path))
                text = location.leading_comments or location.trailing_comments
                if name is not None and text:
                    self._comments[name] = "\n".join(line.removeprefix(" ") for line in text.splitlines()).strip()

    def comment(self, name: str) -> str:
        """Returns the comment of a message, field, enum, value, service or method; "" without one."""
        return self._comments.get(name, "")

    def _names(self, file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
        prefix = f".{file.package}"
        for number, message in enumerate(file.message_type):
            yield from self._of_message((_MESSAGE, number), f"{prefix}.{message.name}", message)
        for number, enum in enumerate(file.enum_type):
            yield from self._of_enum((_ENUM, number), f"{prefix}.{enum.name}", enum)
        for number, service in enumerate(file.service):
            name = f"{prefix}.{service.name}"
            yield (_SERVICE, number), name
            for index, method in enumerate(service.method):
                yield (_SERVICE, number, _METHOD, index), f"{name}.{method.name}"

    def _of_message(
        self, path: tuple[int, ...], name: str, message: DescriptorProto
    ) -> Iterator[tuple[tuple[int, ...], str]]:
        self.messages[name] = message
        yield path, name
        for index, field in enumerate(message.field):
            yield (*path, _FIELD, index), f"{name}.{field.name}"
        for index, nested in enumerate(message.nested_type):
            yield from self._of_message((*path, _NESTED, index), f"{name}.{nested.name}", nested)
        for index, enum in enumerate(message.enum_type):
            yield from self._of_enum((*path, _NESTED_ENUM, index), f"{name}.{enum.name}", enum)

    def _of_enum(
        self, path: tuple[int, ...], name: str, enum: descriptor_pb2.EnumDescriptorProto
    ) -> Iterator[tuple[tuple[int, ...], str]]:
        self.enums[name] = enum
        yield path, name
        for index, value in enumerate(enum.value):
            yield (*path, _VALUE, index), f"{name}.{value.name}"


class Schemas:
    """The schemas of the messages added, and of those that they contain."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made: dict[str, Json] = {}

    def components(self) -> dict[str, Json]:
        """By name, in the order of the names."""
        return dict(sorted(self._made.items()))

    def add(self, name: str) -> Json:
        """A reference to the schema of a message or an enum."""
        if (well_known := _WELL_KNOWN.get(name)) is not None:
            return dict(well_known)
        short = ".".join(part for part in name.split(".") if part[:1].isupper())
        if short not in self._made:
            # Before its fields: a message may hold itself.
            self._made[short] = {}
            self._made[short] = self._enum(name) if name in self._source.enums else self._message(name)
        return {"$ref": _REFERENCE.format(model=short)}

    def add_model(self, model: type[BaseModel]) -> Json:
        """Returns a reference to the schema of the contents of a google.protobuf.Struct, in which null means absent."""
        schema = model.model_json_schema(ref_template=_REFERENCE)
        schema["properties"] = {
            name: each if {"type": "null"} in each.get("anyOf", ()) else nullable(each)
            for name, each in schema["properties"].items()
        }
        self._made[model.__name__] = schema
        return {"$ref": _REFERENCE.format(model=model.__name__)}

    def add_field_names(self) -> Json:
        """Returns the schema of an array of names of a row's fields."""
        values = [field.name for field in self._source.messages[_ROW].field]
        self._made["FieldName"] = {"type": "string", "enum": values, "description": "The name of a field of TickerRow."}
        return {"type": "array", "minItems": 1, "items": {"$ref": _REFERENCE.format(model="FieldName")}}

    def of_field(self, field: FieldProto) -> Json:
        """Returns the JSON schema of a field, without its comment."""
        if field.type in (FieldProto.TYPE_MESSAGE, FieldProto.TYPE_ENUM):
            message = self._source.messages.get(field.type_name)
            if message is not None and message.options.map_entry:
                return {"type": "object", "additionalProperties": self.of_field(message.field[1])}
            schema = self.add(field.type_name)
        else:
            schema = dict(_SCALARS[field.type])
        return {"type": "array", "items": schema} if field.label == FieldProto.LABEL_REPEATED else schema

    def _enum(self, name: str) -> Json:
        enum = self._source.enums[name]
        # 0 stands for "not known", which is left out.
        values = [value.name for value in enum.value if value.number]
        said = [f"{value}: {comment}" for value in values if (comment := self._source.comment(f"{name}.{value}"))]
        text = "\n\n".join(part for part in (self._source.comment(name), *said) if part)
        return described({"type": "string", "enum": values}, text)

    def _message(self, name: str) -> Json:
        message = self._source.messages[name]
        properties = {
            field.name: described(self.of_field(field), self._source.comment(f"{name}.{field.name}"))
            for field in message.field
        }
        schema: Json = {"type": "object", "properties": properties}
        if required := [field.name for field in message.field if _is_always_shown(field)]:
            schema["required"] = required
        if message.field and all(_in_oneof(field) for field in message.field):
            schema |= {"minProperties": 1, "maxProperties": 1}
        if name.startswith(".tradeul."):
            schema["additionalProperties"] = False
        return described(schema, self._source.comment(name))


def _in_oneof(field: FieldProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional


def _is_always_shown(field: FieldProto) -> bool:
    if field.label == FieldProto.LABEL_REPEATED:
        return True
    return field.type != FieldProto.TYPE_MESSAGE and not field.HasField("oneof_index")
