"""`tradeul record`: a live day in the vendor's flat-file format."""

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from services.cli.arguments import examples
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.settings import Settings

if TYPE_CHECKING:
    from services.record.core import Recording

log = get_logger(__name__)

FLUSH_SECONDS: Final = 2.0
LOG_SECONDS: Final = 30.0


@click.command(epilog=examples("tradeul record", "tradeul record --out /data/recorded"))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to record; default: flat in the market's data directory.",
)
@click.option("--stream", "keeps_stream", is_flag=True,
              help="Also keep the stream itself, for exact dry runs of alert rules.")  # fmt: skip
def record(out: Path | None, keeps_stream: bool) -> None:
    """Record the running mesh's trades and minute bars as flat files for `tradeul replay`, until Ctrl-C.

    A recording continues where it stopped, even after a crash.
    """
    settings = Settings.load()
    configure(settings, "record")
    import uvloop

    from services.cli.data_directory import market_directory
    from services.market.flat_files import RECORDINGS

    folder = out or market_directory(settings) / RECORDINGS
    try:
        check_folder(folder)
        uvloop.run(run(settings, folder, keeps_stream))
    except OSError as error:
        raise StartError(
            f"cannot record to {folder.absolute()}: {error.strerror or error}; --out names another folder"
        ) from error


def check_folder(folder: Path) -> None:
    """Makes the folder; raises OSError when nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


async def run(settings: Settings, folder: Path, keeps_stream: bool) -> None:
    """Records until a signal; raises StartError when there is a file in the way, OSError when writing fails."""
    from services.cli.signals import stop_event
    from services.kit.rpc.frame_reader import PATIENT_SECONDS, FrameReader
    from services.record.core import Recording

    stop_requested = stop_event()
    recording = Recording(folder, keeps_stream)
    reader = FrameReader(
        settings.sequencer_addresses, recording, "record", wants_newest_state=True, patience_seconds=PATIENT_SECONDS
    )
    reading = asyncio.create_task(reader.run(), name="record.reading")
    flushing = asyncio.create_task(keep_flushing(recording), name="record.flushing")
    stop = asyncio.create_task(stop_requested.wait(), name="record.stop")
    try:
        done, _ = await asyncio.wait({reading, flushing, stop}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (reading, flushing, stop):
            task.cancel()
        await asyncio.gather(reading, flushing, stop, return_exceptions=True)
        recording.flush()
        if recording.day is not None:
            log.info("recorded", date=str(recording.day.date), gaps=recording.gaps, **recording.day.rows)


async def keep_flushing(recording: "Recording") -> None:
    """Writes what is queued every few seconds, and logs progress now and then."""
    seconds = 0.0
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        recording.flush()
        seconds += FLUSH_SECONDS
        if seconds >= LOG_SECONDS and recording.day is not None:
            seconds = 0.0
            log.info("recording", date=str(recording.day.date), gaps=recording.gaps, **recording.day.rows)
