"""What the health service shows beside the metrics that all services share."""

from prometheus_client import Gauge

SERVING = Gauge("tradeul_mesh_serving", "1 while the service says that it serves, as seen over the network.", ["peer"])
