"""What `make run` has resident once it has all reference data."""

from typing import Final, NamedTuple

from bench.report import Report
from tests.support.mesh import Mesh


class Size(NamedTuple):
    """It has but one."""


FULL: Final = Size()
SMALL: Final = Size()


async def measure(report: Report, size: Size, mesh: Mesh) -> None:
    figure = {
        "value": round(mesh.resident_bytes() / 1e6),
        "unit": "MB resident, all Python processes, shared pages once, reference data loaded",
        "peers": {},
        "sum_of_rss": round(mesh.resident_bytes(shared_once=False) / 1e6),
        "with_stores_and_envoy": round(mesh.resident_bytes(python_only=False) / 1e6),
    }
    report.add({"run_rss_mb": figure})
