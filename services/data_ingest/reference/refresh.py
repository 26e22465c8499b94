"""Loads again what has changed in PostgreSQL since the day was loaded: nothing that only the vendor has is lost."""

from collections.abc import Collection

from services.data_ingest.reference.baseline_load import BaselineLoad
from services.data_ingest.reference.daily_load import DailyLoad
from services.data_ingest.reference.day_source import day_source
from services.data_ingest.reference.load import Load
from services.data_ingest.reference.metadata_load import MetadataLoad
from services.kit.runtime.logging import get_logger
from services.kit.stores.notifications import Kind

log = get_logger(__name__)


async def refresh(load: Load, kinds: Collection[Kind], has_splits: bool) -> None:
    """Emits what PostgreSQL has of `kinds`; without the splits only what they do not adjust."""
    if "metadata" in kinds:
        await MetadataLoad(load).refresh()
    if not has_splits:
        load.failed["splits"] += 1
        log.error("splits not had: what was loaded before stays")
        return
    if "daily" in kinds or "atr" in kinds:
        source = day_source(load)
        await source.look_up()
        await DailyLoad(load, source).refresh()
    if "baselines" in kinds:
        await BaselineLoad(load).refresh()
