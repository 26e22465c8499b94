"""Follows several sequencers, of which one leads: who does, and how far the others are behind."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tradeul.v1 import standby_pb2, standby_pb2_grpc

from services.health.core import NOT_SERVING, SERVING, UNREACHABLE
from services.health.watcher import process_warnings
from services.kit.rpc.channel import open_channel
from services.kit.runtime.settings import Address

POLL_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
# So many questions without an answer: a hung one is UNREACHABLE within 15 s.
UNANSWERED: Final = 3
Role = standby_pb2.SequencerRole


class Sequencer(NamedTuple):
    """The answer of one of them: its grpc.health.v1 state, or UNREACHABLE, and its role, None without an answer.

    `warnings`: what is degraded in its process.
    """

    state: str
    role: Role | None
    warnings: tuple[str, ...] = ()


async def follow_sequencers(addresses: Sequence[Address], on_change: Callable[[Mapping[str, Sequencer]], None]) -> None:
    """Calls `on_change` with what each address answers, again and again, until cancelled."""
    found = dict.fromkeys(map(str, addresses), Sequencer(UNREACHABLE, None))

    async def follow(address: Address) -> None:
        unanswered = 0
        async with open_channel(address) as channel:
            while True:
                try:
                    found[str(address)] = await _ask(channel)
                    unanswered = 0
                except grpc.aio.AioRpcError as error:
                    unanswered += 1
                    if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or unanswered >= UNANSWERED:
                        found[str(address)] = Sequencer(UNREACHABLE, None)
                on_change(found)
                await asyncio.sleep(POLL_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        for address in addresses:
            tasks.create_task(follow(address), name=f"health.sequencer.{address}")


async def _ask(channel: grpc.aio.Channel) -> Sequencer:
    stub: Any = standby_pb2_grpc.StandbyServiceStub(channel)
    request = health_pb2.HealthCheckRequest()
    check: Any = health_pb2_grpc.HealthStub(channel).Check(request, timeout=ANSWER_SECONDS)
    answer = await check
    warnings = await process_warnings(check)
    role = await stub.GetSequencerRole(standby_pb2.GetSequencerRoleRequest(), timeout=ANSWER_SECONDS)
    return Sequencer(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), role, tuple(warnings))


def state_of(sequencers: Mapping[str, Sequencer]) -> str:
    """Returns the state of the one that leads; NOT_SERVING while none does, UNREACHABLE when nobody answers."""
    states = [each.state for each in sequencers.values() if each.role is not None and each.role.role == Role.LEADER]
    if states:
        return SERVING if SERVING in states else states[0]
    return NOT_SERVING if any(each.role is not None for each in sequencers.values()) else UNREACHABLE


def warnings_of(sequencers: Mapping[str, Sequencer]) -> list[str]:
    """Returns a sentence for each sequencer that is degraded, could not take over, or would be noticed if it did."""
    found = []
    for address, (state, role, warnings) in sequencers.items():
        found += [f"data_ingest: the sequencer at {address}: {text}" for text in warnings]
        if role is None:
            found.append(f"data_ingest: the sequencer at {address} is {state}")
        elif role.role != Role.LEADER and not role.HasField("lag_seconds"):
            found.append(f"data_ingest: the sequencer at {address} neither leads nor has a copy of the leader's market")
        elif role.is_synchronous and not role.is_in_sync:
            found.append(f"data_ingest: no standby has what {address} shows: a takeover would begin a new epoch")
    return found
