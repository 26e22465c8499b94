"""The protos: clean, generated from as they are, and such that REST has plain numbers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from tools import protogen

FieldProto = descriptor_pb2.FieldDescriptorProto
SIXTY_FOUR_BITS = {
    FieldProto.TYPE_INT64,
    FieldProto.TYPE_UINT64,
    FieldProto.TYPE_SINT64,
    FieldProto.TYPE_FIXED64,
    FieldProto.TYPE_SFIXED64,
}


def test_buf_finds_nothing(tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    protogen.write_image(image)
    buf = Path(sys.executable).parent / "buf"
    result = subprocess.run(
        [buf, "lint", image, "--config", protogen.PROTOS / "buf.yaml"], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_generated_files_are_current() -> None:
    assert protogen.differences() == {}


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    return descriptor_pb2.FileDescriptorSet.FromString((protogen.ROOT / protogen.DESCRIPTOR_SET).read_bytes())


def messages(
    prefix: str, found: list[descriptor_pb2.DescriptorProto]
) -> Iterator[tuple[str, descriptor_pb2.DescriptorProto]]:
    for message in found:
        name = f"{prefix}.{message.name}"
        yield name, message
        yield from messages(name, list(message.nested_type))


def test_numbers_of_rest_answers_are_json_numbers() -> None:
    """JSON shows 64-bit integers as texts: no answer of a REST route may hold one."""
    files = descriptors().file
    known = {name: message for file in files for name, message in messages(f".{file.package}", list(file.message_type))}
    waiting = [
        method.output_type
        for file in files
        for service in file.service
        for method in service.method
        if method.options.HasExtension(annotations_pb2.http)
    ]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith(".google.protobuf."):
            continue
        seen.add(name)
        for field in known[name].field:
            assert field.type not in SIXTY_FOUR_BITS, f"{name}.{field.name}"
            if field.type == FieldProto.TYPE_MESSAGE:
                waiting.append(field.type_name)
    assert ".tradeul.v1.TickerRow" in seen
