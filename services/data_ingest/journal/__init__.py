"""The journal: what enters the stream is written down before anybody reads it, and found again by the next process.

Files of the data directory's `journal`, named by the position after which they begin:

    EPOCH-SEQUENCE.state       the market at that position, without its baselines
    EPOCH-SEQUENCE.frames      the frames that follow
    EPOCH-SEQUENCE.baselines   the day's baseline frames, three quarters of a market, written once

They survive the process, whatever ended it, because the system has the bytes as
soon as they are written; they are not forced onto the disk, so after the
machine's own end only the rows are believed, under a new epoch.
"""

from services.data_ingest.journal.files import JournalDirectory, begin_with
from services.data_ingest.journal.recovery import Recovered, recover
from services.data_ingest.journal.writer import Journal, MarketAt

__all__ = ["Journal", "JournalDirectory", "MarketAt", "Recovered", "begin_with", "recover"]
