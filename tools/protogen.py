"""Everything that is generated from protos/, in one step: `python -m tools.protogen`.

Writes the message and service modules with their type stubs beside the .proto
files, gateway/tradeul.binpb, the descriptor set Envoy transcodes by, and
gateway/openapi.json, the OpenAPI document of the REST routes.
`--check` writes nothing and fails when a generated file is not current.

By the protoc of grpcio-tools, since gRPC's Python plug-in is part of that program: `buf generate` cannot run it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from services.kit.runtime.packaged import checkout

ROOT = checkout()
PROTOS = ROOT / "protos"
PACKAGE = Path("tradeul/v1")
DESCRIPTOR_SET = Path("gateway/tradeul.binpb")
OPENAPI = Path("gateway/openapi.json")
OTHERS = (DESCRIPTOR_SET, OPENAPI)
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")
# No proto of ours imports them, but Envoy has to know the details to show an error as JSON.
ERRORS = ("google/rpc/error_details.proto", "google/rpc/status.proto")
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


class GenerationError(RuntimeError):
    """protoc refused the protos; its messages are on stderr."""


def include_directories() -> list[Path]:
    """The folders of our protos, of google/protobuf (grpcio-tools) and of google/api (googleapis-common-protos)."""
    import grpc_tools
    from google.api import annotations_pb2

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    google_api = Path(annotations_pb2.__file__).parents[2]
    return [PROTOS, well_known, google_api]


def sources() -> list[str]:
    """The .proto files, relative to protos/, in a fixed order."""
    return sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))


def run_protoc(arguments: list[str], files: list[str]) -> None:
    """Runs protoc on these files; raises GenerationError when it fails."""
    from grpc_tools import protoc

    # The plug-ins of this interpreter's environment, whatever PATH is.
    plugins = [f"--plugin={name}={Path(sys.executable).parent / name}" for name in PLUGINS]
    includes = [f"-I{directory}" for directory in include_directories()]
    if status := protoc.main(["protoc", *includes, *plugins, *arguments, *files]):
        raise GenerationError(f"expected protoc to succeed, its status was {status}")


def openapi_document() -> bytes:
    """The OpenAPI document of the protos as they are."""
    # What it reads of lists and filters is in modules that need generated ones to be there.
    from google.protobuf import descriptor_pb2

    from tools import openapi

    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image.binpb"
        run_protoc(
            [f"--descriptor_set_out={image}", "--include_imports", "--include_source_info"], [*sources(), *ERRORS]
        )
        return openapi.document(descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()))


def generate(python_root: Path, descriptor_set: Path) -> None:
    """Writes the Python modules under `python_root` and the descriptor set to `descriptor_set`."""
    out = str(python_root)
    descriptor_set.parent.mkdir(parents=True, exist_ok=True)
    run_protoc(
        [
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
        ],
        sources(),
    )
    run_protoc([f"--descriptor_set_out={descriptor_set}", "--include_imports"], [*sources(), *ERRORS])


def write_image(path: Path) -> None:
    """Writes the image that `buf lint` reads: with imports, and with source info for its line numbers."""
    run_protoc([f"--descriptor_set_out={path}", "--include_imports", "--include_source_info"], sources())


def _generated(python_root: Path, others: Path) -> dict[str, bytes]:
    """By name, what is generated: the modules below `python_root`, the other files below `others`."""
    files = {
        str(PACKAGE / path.name): path.read_bytes()
        for pattern in GENERATED
        for path in (python_root / PACKAGE).glob(pattern)
    }
    files |= {str(path): (others / path).read_bytes() for path in OTHERS if (others / path).exists()}
    return files


def _target(name: str) -> Path:
    return ROOT / name if Path(name) in OTHERS else PROTOS / name


def differences() -> dict[str, bytes | None]:
    """The generated files that are not current: name -> what they should hold, None for one that should not be."""
    with tempfile.TemporaryDirectory() as directory:
        fresh_root = Path(directory)
        generate(fresh_root, fresh_root / DESCRIPTOR_SET)
        (fresh_root / OPENAPI).write_bytes(openapi_document())
        fresh = _generated(fresh_root, fresh_root)
    present = _generated(PROTOS, ROOT)
    return {name: fresh.get(name) for name in sorted(fresh | present) if fresh.get(name) != present.get(name)}


def write_differences() -> None:
    """Brings the generated files up to date, each by one rename, so that a running build never reads half a file."""
    for name, content in differences().items():
        target = _target(name)
        if content is None:
            target.unlink()
            continue
        partial = target.with_name(f".{target.name}.new")
        partial.write_bytes(content)
        partial.replace(target)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.protogen", description=__doc__)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="write nothing; fail when a generated file is not current")
    group.add_argument("--image", type=Path, help="write only the image that buf lint reads")
    arguments = parser.parse_args()
    if arguments.image is not None:
        arguments.image.parent.mkdir(parents=True, exist_ok=True)
        write_image(arguments.image)
        return 0
    if arguments.check:
        if stale := differences():
            sys.stderr.write(f"expected generated files to be current, stale: {', '.join(stale)}; run `make protos`\n")
            return 1
        return 0
    write_differences()
    return 0


if __name__ == "__main__":
    sys.exit(main())
