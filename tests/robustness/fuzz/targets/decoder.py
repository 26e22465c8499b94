"""The vendor's JSON messages: the compiled decoder answers as its twin does, whatever they are."""

from collections.abc import Iterator

from tradeul.v1 import polygon_ws_pb2

from fastcore.feed_decoder import FeedDecoder
from fastcore.reference.feed_decoder import ReferenceFeedDecoder
from tests.robustness.fuzz.target import Target

MAX_SYMBOLS = 5
# Between messages: no JSON has it.
END = b"\0"


def run(data: bytes) -> None:
    fast, slow = FeedDecoder(max_symbols=MAX_SYMBOLS), ReferenceFeedDecoder(max_symbols=MAX_SYMBOLS)
    for message in data.split(END):
        assert fast.decode(message) == slow.decode(message)
        assert fast.rejected == dict(slow.rejected)
    assert fast.rows == slow.rows
    assert fast.symbols == slow.symbols
    assert fast.totals == dict(slow.totals)
    if fast.rows:
        batch = polygon_ws_pb2.MarketBatch.FromString(fast.take())
        expected = polygon_ws_pb2.MarketBatch.FromString(slow.take())
        # Not by ==, for which NaN and the sign of zero are something else than for the bytes.
        assert batch.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def alone(data: bytes) -> None:
    decoder = FeedDecoder(max_symbols=MAX_SYMBOLS)
    for message in data.split(END):
        decoder.decode(message)
    if decoder.rows:
        decoder.take()


def seeds() -> Iterator[bytes]:
    time = 1763900000000
    yield (
        b'[{"ev":"T","sym":"AAPL","x":4,"i":"12345","z":3,"p":114.125,"s":100,"ds":"100.5","c":[0,12],"t":%d,"q":1,"trfi":1,"trft":1}]'
        % time
    )
    bar = b'"sym":"BRK.B","v":4110,"dv":"4110.25","av":9470157,"dav":"9470157.0","op":0.4372,"vw":0.4488,"o":0.4488,"c":0.4486,"h":0.4489,"l":0.4486,"a":0.4352,"z":685'  # noqa: E501
    yield b'[{"ev":"A",%b,"s":%d,"e":%d}]' % (bar, time, time + 1000)
    yield b'[{"ev":"AM",%b,"s":%d,"e":%d}]' % (bar, time, time + 60000)
    yield (
        b'[{"ev":"Q","sym":"MSFT","bx":4,"bp":114.125,"bs":100,"ax":7,"ap":114.128,"as":160,"c":0,"i":[604],"t":%d,"q":5,"z":3}]'
        % time
    )
    yield b'[{"ev":"LULD","T":"NEW","h":218.94,"l":-0.0,"i":[17],"z":3,"t":%d,"q":3}]' % (time * 1_000_000)
    yield b'[{"ev":"status","status":"auth_success","message":"authenticated \\u00e9"}] \0 [ ] \0{}'


TARGET = Target(
    run,
    seeds,
    longest=1500,
    alone=alone,
    words=(b'"ev"', b'"sym"', b'"T"', b'"LULD"', b'"status"', b"e-308", b"\\u0073", b"1763900000000", b'"ds":"1.5"'),
)
