"""The gateway's configuration: accepted by the real Envoy, and saying what it must."""

import subprocess
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from services.kit.embedded import envoy_program, render_gateway
from services.kit.settings import Settings

GATEWAY = Path(__file__).parents[2] / "gateway"


@pytest.fixture
def rendered() -> str:
    return render_gateway(Settings.load({}), (GATEWAY / "envoy.yaml").read_text())


def test_envoy_accepts_it(rendered: str, tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    config.write_text(rendered)
    result = subprocess.run(
        [envoy_program(), "--mode", "validate", "-c", str(config)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "OK" in result.stdout + result.stderr


def test_nothing_is_left_to_fill_in(rendered: str) -> None:
    assert "${" not in rendered


def test_the_admin_page_is_for_this_machine_only(rendered: str) -> None:
    admin = rendered[rendered.index("admin:") : rendered.index("static_resources:")]
    assert "address: 127.0.0.1" in admin


def test_every_service_with_rest_routes_is_transcoded(rendered: str) -> None:
    """A service that gets a google.api.http route must be named in the transcoder, or its routes are 404."""
    descriptors = descriptor_pb2.FileDescriptorSet.FromString((GATEWAY / "tradeul.binpb").read_bytes())
    with_routes = {
        f"{file.package}.{service.name}"
        for file in descriptors.file
        for service in file.service
        if any(method.options.HasExtension(annotations_pb2.http) for method in service.method)
    }
    assert with_routes
    for name in with_routes:
        assert name in rendered
