from collections.abc import Iterable

def conflated(steps: Iterable[tuple[bytes | memoryview, bytes]]) -> tuple[bytes, bytes]:
    """Returns one step with the effect of these consecutive ones, oldest first.

    A step is an encoded ListDelta and the records of its updates (fastcore.changed_fields), b"" where all fields of
    each count as changed. The records returned have every field that changed on the way, also one that has its first
    value again. ValueError when a step does not follow the one before it, or its bytes are none.
    """
