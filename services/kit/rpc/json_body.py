"""Bodies of REST requests: JSON that the gateway passes on as it came, read into the message of the method.

The gateway's own transcoder drops fields that it does not know, and describes values in protobuf's terms.
"""

import json
from typing import Any, Final, TypeVar

import msgspec
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.kit.runtime.errors import INVALID_REQUEST
from services.kit.runtime.nearest import nearest_hint, nearest_name

M = TypeVar("M", bound=Message)

_SHOWN: Final = 80
_EXPECTED: Final = {
    FieldDescriptor.TYPE_BOOL: "true or false",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_INT32: "a whole number of -2147483648 to 2147483647",
    FieldDescriptor.TYPE_UINT32: "a whole number of 0 to 4294967295",
    FieldDescriptor.TYPE_STRING: "a text",
    FieldDescriptor.TYPE_MESSAGE: "an object",
}
# Protobuf takes true and false for 1 and 0.
_OF_TRUTH: Final = (FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_MESSAGE)
_TRUTH: Final = {"true": True, "false": False}


def read_json(body: httpbody_pb2.HttpBody, message: M, *, takes_null: bool = True) -> M:
    """Fills `message` from an object with its fields; returns it. An empty body and absent fields set nothing.

    null sets nothing, or with `takes_null` False is refused; inside a field that is an object, it sets nothing.
    Raises INVALID_REQUEST, which names the field; an unknown one comes with the nearest name.
    """
    _fill(message, _object(body.data), "", takes_null)
    return message


def read_change(path_name: str, body: httpbody_pb2.HttpBody, message: M, field: str = "name") -> M:
    """Fills `message` as read_json() does, and its name with that of the path, which the body may repeat.

    `field`: of the name. null is refused: in a change it might as well mean "back to the default". Raises
    INVALID_REQUEST.
    """
    read_json(body, message, takes_null=False)
    given = getattr(message, field)
    if given and given != path_name:
        raise INVALID_REQUEST.error(
            f"expected the {field} {path_name[:80]!r} of the path, was {given[:80]!r}", field=field
        )
    setattr(message, field, path_name)
    return message


def _fill(message: Message, values: dict[str, Any], path: str, takes_null: bool) -> None:
    """Fills a message, which the body has at `path`."""
    for name, value in values.items():
        field = _field(name, message, path)
        where = path + field.name
        if value is None and takes_null:
            continue
        if field.type == FieldDescriptor.TYPE_BOOL and isinstance(value, str):
            value = _TRUTH.get(value, value)
        if isinstance(value, dict) and _is_ours(field):
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), value, f"{where}.", takes_null=True)
            continue
        try:
            if value is None:
                raise ValueError("null")
            if field.enum_type is not None:
                _check_names(field.enum_type, value)
            elif isinstance(value, bool) and field.type not in _OF_TRUTH:
                raise ValueError("not a number")
            json_format.ParseDict({field.name: value}, message)
        except (json_format.ParseError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise INVALID_REQUEST.error(
                f"{where}: expected {_expected(field)}, was {_shown(value)}", field=where
            ) from error


def _check_names(enum: Any, value: Any) -> None:
    """Raises ValueError for anything but names: protobuf also takes numbers, and false for the one that is not set."""
    for name in value if isinstance(value, list) else [value]:
        known = enum.values_by_name.get(name) if isinstance(name, str) else None
        if known is None or not known.number:
            raise ValueError("not a name")


def _object(data: bytes) -> dict[str, Any]:
    if not data.strip():
        return {}
    try:
        content = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise INVALID_REQUEST.error(f"expected JSON in the body: {error}") from error
    if not isinstance(content, dict):
        raise INVALID_REQUEST.error(f"expected a JSON object in the body, was {_shown(content)}")
    return content


def _is_ours(field: Any) -> bool:
    """True for one message whose fields can be named; false for protobuf's own, such as Struct."""
    message = field.message_type
    return message is not None and not field.is_repeated and not message.full_name.startswith("google.")


def _expected(field: Any) -> str:
    if field.enum_type is not None:
        names = ", ".join(value.name for value in field.enum_type.values if value.number)
        return f"a list with any of {names}" if field.is_repeated else f"one of {names}"
    return _EXPECTED.get(field.type, "another value")


def _field(name: str, message: Message, path: str) -> Any:
    """Returns the descriptor of the field; raises INVALID_REQUEST when there is none."""
    fields = message.DESCRIPTOR.fields_by_name
    # Both spellings are protobuf's.
    field = fields.get(name) or message.DESCRIPTOR.fields_by_camelcase_name.get(name)
    if field is not None:
        return field
    shown = name[:_SHOWN]
    nearest = nearest_name(shown, fields) if shown else ""
    raise INVALID_REQUEST.error(
        f"the body has no field {path + shown!r}{nearest_hint(nearest)}", field=path + shown, nearest=nearest
    )


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
