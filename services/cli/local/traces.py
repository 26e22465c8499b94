"""The part of Envoy's configuration by which the gateway traces a sample of its requests."""

from typing import Any, Final

from services.cli.local.clusters import url_cluster
from services.kit.runtime.setting_groups import TraceSettings

OTLP: Final = "otlp"
SEND_SECONDS: Final = 2


def tracing(settings: TraceSettings) -> dict[str, Any]:
    """Returns the connection manager's `tracing`: which requests, and to whom their spans are sent."""
    return {
        "random_sampling": {"value": 100 / settings.requests if settings.requests else 0},
        # No client decides by headers of its own.
        "client_sampling": {"value": 0},
        # A span for the request, and one for each attempt of a service to answer it.
        "spawn_upstream_span": True,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "grpc_service": {"envoy_grpc": {"cluster_name": OTLP}, "timeout": f"{SEND_SECONDS}s"},
                "service_name": "gateway",
            },
        },
    }


def otlp_cluster(settings: TraceSettings) -> dict[str, Any]:
    """Returns the cluster of the receiver of spans."""
    return url_cluster(OTLP, settings.otlp_url, http2=True)
