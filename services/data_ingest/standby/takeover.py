"""The question whether a sequencer that has taken the lease may go on with the numbers that readers know.

It may where it has every frame that was shown under the lease before: as the standby that the lease named, or in the
journal of its own earlier process. The number of the lease beside that journal says whether it is one of then.
"""

from typing import Final

from services.data_ingest.standby.candidate import TakenOver
from services.data_ingest.stream.epochs import read_last, write_last
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings

log = get_logger(__name__)

FILE: Final = "sequencer.lease"
# The number grows by one with each process that takes the lease, and one may have died before it could note that.
MAY_BE_BEHIND: Final = 2


def goes_on(settings: Settings, taken: TakenOver) -> bool:
    """True if nobody was shown a frame that this sequencer lacks; its journal then counts as one of this lease."""
    claimed = taken.claimed
    if taken.copied is not None:
        return taken.has_all and taken.copied.position.epoch >= claimed.epoch
    if claimed.is_first:
        return True
    noted = read_last(settings.market_dir / FILE)
    if not claimed.was_ours or claimed.fencing_number - noted > MAY_BE_BEHIND:
        return False
    note_lease(settings, claimed.fencing_number)
    return True


def note_lease(settings: Settings, fencing_number: int) -> None:
    """The journal here is that of the leader with this number."""
    path = settings.market_dir / FILE
    try:
        write_last(path, fencing_number)
    except OSError as error:
        log.warning("the lease's number cannot be kept: a restart begins a new epoch", error=reason_of(error))
