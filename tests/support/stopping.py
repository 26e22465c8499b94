"""A stop at every await of a coroutine, one after the other.

    for number in range(1, total + 1):
        for moment in Moment:
            task = asyncio.create_task(Stopped(writer.run(), number, moment).run())

The coroutine's awaits are counted where it hands something to the event loop. At the wanted one the task is
cancelled: while it waits there, or when the answer has come and it is about to go on.
"""

import asyncio
import enum
from collections.abc import Coroutine, Generator
from typing import Any


class Moment(enum.Enum):
    """When at an await the stop comes."""

    WAITING = "waiting"
    ANSWERED = "answered"


class Stopped:
    """Runs `work`, and cancels the task that awaits it at its await `number`, counted from 1; 0 for never."""

    def __init__(self, work: Coroutine[Any, Any, None], number: int = 0, moment: Moment = Moment.WAITING) -> None:
        self.awaits = 0
        self._work = work
        self._number = number
        self._moment = moment

    async def run(self) -> None:
        """For asyncio.create_task()."""
        await self

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        try:
            waited = steps.send(None)
            while True:
                self.awaits += 1
                is_wanted = self.awaits == self._number
                if is_wanted and self._moment is Moment.WAITING:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                try:
                    answer = yield waited
                except BaseException as error:  # noqa: BLE001  # it is the work's to handle
                    waited = steps.throw(error)
                else:
                    if is_wanted and self._moment is Moment.ANSWERED:
                        waited = steps.throw(asyncio.CancelledError())
                    else:
                        waited = steps.send(answer)
        except StopIteration:
            return
