"""`tradeul up --standby`: a second sequencer of the mesh, on this machine."""

import os
from dataclasses import replace
from typing import Final

from services.cli.local.process import ProcessSpec, Ready
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Address, Settings

NAME: Final = "standby"
# Its port is so much greater than the first one's.
PORT_STEP: Final = 10


def name_standby(settings: Settings) -> Settings:
    """Names two sequencers to every process from now on, and returns these settings.

    Raises StartError for a replay, and where the environment names the sequencers.
    """
    if settings.is_replay:
        raise StartError("--standby: expected a live market, was a replay")
    if settings.sequencers:
        named = ",".join(map(str, settings.sequencers))
        raise StartError(f"--standby: expected TRADEUL_SEQUENCERS to be unset, was {named}")
    first = settings.address("data_ingest")
    os.environ["TRADEUL_SEQUENCERS"] = f"{first},{Address(first.host, first.port + PORT_STEP)}"
    return Settings.load()


def standby_ports(settings: Settings) -> dict[str, Address]:
    """Everything that the second sequencer will listen on."""
    address = settings.sequencers[1]
    ports = {NAME: address}
    if settings.metrics_port_offset:
        ports[f"{NAME}'s metrics"] = Address(address.host, address.port + settings.metrics_port_offset)
    return ports


def standby_spec(first: ProcessSpec, settings: Settings, ready: Ready) -> ProcessSpec:
    """Returns the process of the second sequencer, by that of the first one."""
    own = {
        "TRADEUL_DATA_INGEST_ADDRESS": str(settings.sequencers[1]),
        "TRADEUL_DATA_DIR": str(settings.data_dir.resolve() / NAME),
    }
    environment = {**first.environment, **own}
    # The first one leads a mesh that begins.
    return replace(first, name=NAME, needs=(*first.needs, first.name), environment=environment, ready=ready)
