"""`tradeul time`: the market's time of a replay or of the simulator, shown, paused, sped up and moved ahead."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from services.cli.arguments import examples
from services.cli.lists.client import Client, client_options_of, refusal
from services.kit.runtime.clock import NS_PER_SECOND, new_york_time

if TYPE_CHECKING:
    from tradeul.v1 import replay_pb2, replay_pb2_grpc

ANSWER_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.25
MAX: Final = "max"
SPEEDS: Final = ("1", "2", "5", "10", "60", MAX)
# Times of a full day to jump to.
TIMES: Final = {"04:00": "the premarket begins", "09:30": "the market opens", "16:00": "the market closes"}
EXAMPLES = examples(
    "tradeul time",
    "tradeul time --pause",
    "tradeul time --resume --speed 10",
    "tradeul time --jump 10:00 && tradeul query 'chg_5m > 2' --csv > at-ten.csv",
    "tradeul time --json | jq -r .now",
)


class Speed(click.ParamType[float]):
    """A positive number, or `max`, which is 0 in a request. The market knows the limits."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == MAX:
            return 0.0
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"expected a number above 0, or {MAX}, was {value!r}", param, ctx)
        return speed

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(speed) for speed in SPEEDS if speed.startswith(incomplete)]


class TimeOfDay(click.ParamType[str]):
    """A time that the market checks; completion offers where its sessions begin."""

    name = "time"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(time, help=meaning) for time, meaning in TIMES.items() if time.startswith(incomplete)]


@click.command("time", epilog=EXAMPLES)
@click.option("--pause", "paused", flag_value=True, type=bool, default=None, help="Stop the market's time.")
@click.option("--resume", "paused", flag_value=False, type=bool, default=None, help="Let it run again.")
@click.option("--speed", type=Speed(), metavar="N|max", help="Market seconds per second.")
@click.option("--jump", type=TimeOfDay(), metavar="TIME", help="Move ahead to a later time of the day.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the jump has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print the state as JSON, as GET /api/v1/replay does.")
@client_options_of("polygon_ws")
def market_time(
    paused: bool | None, speed: float | None, jump: str | None, no_wait: bool, as_json: bool, client: Client
) -> None:
    """Show the market's time; in a replay or the simulator, also pause it, set its speed and move it ahead.

    TIME is a New York time like 09:45 or 09:45:30. The command waits until a jump has ended; Ctrl-C ends the wait, not
    the jump. No market's time goes back: for an earlier time, restart the mesh. The live market's time cannot be
    changed. Where the gateway requires keys, a change needs one with the right `admin`.
    """
    from tradeul.v1 import replay_pb2

    change = replay_pb2.UpdateReplayRequest(paused=paused, speed=speed, jump_to=jump)
    state = asyncio.run(change_or_show(client, change, not no_wait))
    click.echo(state_json(state) if as_json else state_line(state))


async def change_or_show(
    client: Client, change: "replay_pb2.UpdateReplayRequest", is_waited: bool
) -> "replay_pb2.Replay":
    """Sends the change if there is one, and returns the state, after a jump that is waited for.

    Raises click.ClickException when it is refused, or when the jump ends before its time.
    """
    import grpc.aio
    from tradeul.v1 import replay_pb2, replay_pb2_grpc

    async with client.open_channel() as channel:
        stub: replay_pb2_grpc.ReplayServiceAsyncStub = replay_pb2_grpc.ReplayServiceStub(channel)
        try:
            if not change.ListFields():
                return await get_state(client, stub)
            state: replay_pb2.Replay = await stub.UpdateReplay(change, metadata=client.metadata, timeout=ANSWER_SECONDS)
            return await arrival(client, stub, state) if is_waited and state.HasField("jumping_to") else state
        except grpc.aio.AioRpcError as error:
            raise refusal(error, client) from error


async def get_state(client: Client, stub: "replay_pb2_grpc.ReplayServiceAsyncStub") -> "replay_pb2.Replay":
    from tradeul.v1 import replay_pb2

    return await stub.GetReplay(replay_pb2.GetReplayRequest(), metadata=client.metadata, timeout=ANSWER_SECONDS)


async def arrival(
    client: Client, stub: "replay_pb2_grpc.ReplayServiceAsyncStub", state: "replay_pb2.Replay"
) -> "replay_pb2.Replay":
    """Returns the state once the jump under way has ended; raises click.ClickException when that is before its time."""
    from services.cli.progress import progress

    begin = (state.now if state.HasField("now") else getattr(state, "from")).ToNanoseconds()
    end, now = state.jumping_to.ToNanoseconds(), begin
    with progress("time") as report:
        while state.HasField("jumping_to") and state.jumping_to.ToNanoseconds() == end:
            seconds = (max(now - begin, 0) // NS_PER_SECOND, (end - begin) // NS_PER_SECOND)
            report.update(f"jumping to {clock_text(end)}", *seconds, f"now {clock_text(now)}")
            await asyncio.sleep(POLL_SECONDS)
            state = await get_state(client, stub)
            now = state.now.ToNanoseconds()
    if now < end:
        raise click.ClickException(f"the jump to {clock_text(end)} was ended at {clock_text(now)} by another change")
    return state


def state_line(state: "replay_pb2.Replay") -> str:
    """Returns the state for people, in a line."""
    from tradeul.v1 import replay_pb2

    if state.market == replay_pb2.Replay.VENDOR:
        return "the market is live: its time cannot be changed"
    now = f"{clock_text(state.now.ToNanoseconds())} New York" if state.HasField("now") else "before its first event"
    parts = [f"{state.date} {now}", replay_pb2.Replay.Market.Name(state.market).lower()]
    if state.HasField("jumping_to"):
        parts.append(f"jumping to {clock_text(state.jumping_to.ToNanoseconds())}")
    if state.paused:
        parts.append("paused")
    parts.append(f"speed {state.speed:g}" if state.speed else f"speed {MAX}")
    return ", ".join(parts)


def state_json(state: "replay_pb2.Replay") -> str:
    """Returns the state as REST does."""
    import msgspec
    from google.protobuf import json_format

    values = json_format.MessageToDict(
        state, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return msgspec.json.encode(values).decode()


def clock_text(time_ns: int) -> str:
    """A New York time to the second."""
    return f"{new_york_time(time_ns):%H:%M:%S}"
