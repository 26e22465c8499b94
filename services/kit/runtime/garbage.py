"""Python's collector of cyclic garbage, in services that must not stand still."""

import gc
from typing import Final

# So many objects more than at the last time, and the youngest are looked at: more than a list's rows, which come and go
# within a message. Python's own limit of 700 has every second message of a long list start a collection, for
# milliseconds, and of all objects now and then.
YOUNGEST: Final = 10_000
# After so many collections of the youngest those that have outlived one are looked at, too, and after so many of these
# all, if they are a quarter more: some 500,000 objects in cycles that nobody can reach any more may wait.
OLDER: Final = 10
OLDEST: Final = 5


def collect_rarely() -> None:
    """Looks for garbage less often from now on, and never among the objects that are there now.

    To be called when a service has started: what it has made by then stays.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, OLDER, OLDEST)
