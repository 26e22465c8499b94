"""Where the sequencer's reference columns come from: Redis, PostgreSQL and the vendor's REST.

`source.ReferenceSource` is the interface, `batch.ReferenceBatch` what comes out.
"""

from services.data_ingest.reference.batch import Baselines, ReferenceBatch
from services.data_ingest.reference.load import HistoryDays, ReferenceSource

__all__ = ["Baselines", "HistoryDays", "ReferenceBatch", "ReferenceSource"]
