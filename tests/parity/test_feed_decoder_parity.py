"""The compiled feed decoder against its plain twin: whole, odd and mutated messages."""

import json
import random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tradeul.v1 import polygon_ws_pb2

from fastcore.feed_decoder import FeedDecoder
from fastcore.reference.feed_decoder import ReferenceFeedDecoder

MESSAGES = 3_000

NUMBERS = st.one_of(
    st.integers(0, 10**6),
    st.integers(0, 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(0, 10**6, allow_nan=False, places=4).map(float),
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    NUMBERS,
    st.integers(-5, 5),
    st.just([1, "x"]),
    st.just([]),
    st.just({"p": [1, {}]}),
)
SYMBOLS = st.one_of(st.sampled_from(["AAPL", "BRK.B", "BACpL", "A", "ABCDEFGHIJKL", "X/Y-1"]), st.text(max_size=13))
TIMES = st.one_of(
    st.integers(1, 2 * 10**10),
    st.integers(10**12, 2 * 10**12),
    st.integers(10**15, 2 * 10**15),
    st.integers(10**18, 10**20),
    st.sampled_from([0, 10**11 - 1, 10**11, 10**14 - 1, 10**14, 10**17 - 1, 10**17, 2**63 - 1, 2**63]),
    st.sampled_from([9_223_372_036, 9_223_372_037, 9_223_372_036_854, 9_223_372_036_855]),
)
DECIMALS = st.one_of(
    st.decimals(0, 10**9, allow_nan=False, places=6).map(lambda value: f"{value:f}"),
    st.sampled_from(["1", "007", ".5", "5.", "", "-1.5", "1e5", " 1", "1_0", "0." + "1" * 30, "9" * 64, "9" * 65]),
)
IDS = st.lists(st.integers(-1, 70) | st.integers(0, 10**12), max_size=4)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("p", "o", "h", "l", "a", "op", "vw", "z", "bp", "ap", "bs", "as", "v", "av", "q"), NUMBERS),
    **dict.fromkeys(("ds", "dv", "dav"), DECIMALS),
    **dict.fromkeys(("t", "e", "trft"), TIMES),
    **dict.fromkeys(("x", "trfi"), st.integers(0, 300) | st.integers(0, 2**32)),
    "otc": st.booleans(),
    "sym": SYMBOLS,
}
KINDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "T": {"s": NUMBERS, "c": IDS, "i": st.text(max_size=16), "t": TIMES, "sym": SYMBOLS, "p": NUMBERS},
    "A": {"s": TIMES, "e": TIMES, "c": NUMBERS, **{k: FIELDS[k] for k in ("sym", "o", "h", "l", "v")}},
    "AM": {"s": TIMES, "e": TIMES, "c": NUMBERS, **{k: FIELDS[k] for k in ("sym", "o", "h", "l", "dv")}},
    "Q": {"sym": SYMBOLS, "t": TIMES, "i": IDS, "c": st.integers(0, 90)},
    "LULD": {"T": SYMBOLS, "t": TIMES, "i": IDS, "h": NUMBERS, "l": NUMBERS},
    "status": {"status": st.text(max_size=12), "message": st.text(max_size=12)},
    "FMV": {"fmv": NUMBERS, "sym": SYMBOLS, "t": TIMES},
}


@st.composite
def elements(draw: st.DrawFn) -> Any:
    if draw(st.integers(0, 19)) == 0:
        return draw(ODD)
    kind = draw(st.sampled_from(sorted(KINDS)))
    element = {"ev": kind, **{name: draw(values) for name, values in KINDS[kind].items()}}
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=6, unique=True)):
        element.setdefault(name, draw(FIELDS[name]))
    if draw(st.integers(0, 4)) == 0:
        element[draw(st.sampled_from([*element, "k"]))] = draw(ODD)
    if draw(st.integers(0, 9)) == 0:
        del element[draw(st.sampled_from(list(element)))]
    return dict(draw(st.permutations(list(element.items()))))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]))
    text = json.dumps(draw(st.lists(elements(), max_size=4)), separators=separators, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    message = bytearray(draw(messages()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(message)))
        action = draw(st.integers(0, 2))
        if action == 0:
            message[at:at] = draw(
                st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"e1", b"-", b"0", b"\xff"])
            )
        elif action == 1:
            del message[at : at + draw(st.integers(1, 8))]
        elif at < len(message):
            message[at] = draw(st.integers(0, 255))
    return bytes(message)


def compare(fast: FeedDecoder, slow: ReferenceFeedDecoder, message: bytes) -> None:
    assert fast.decode(message) == slow.decode(message), message
    assert fast.rejected == dict(slow.rejected), message
    assert fast.rows == slow.rows, message
    assert fast.symbols == slow.symbols, message


def compare_batches(fast: FeedDecoder, slow: ReferenceFeedDecoder) -> None:
    # Whole numbers and sign of zero included: the bytes of one deterministic encoder.
    mine = polygon_ws_pb2.MarketBatch.FromString(fast.take())
    other = polygon_ws_pb2.MarketBatch.FromString(slow.take())
    assert mine.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
    assert fast.totals == dict(slow.totals)


@settings(max_examples=400, deadline=None)
@given(st.lists(messages() | mutated(), min_size=1, max_size=6))
@example([b"[]", b" [ ] ", b"[]x", b"[,]", b"[{}]", b"[{},]", b"[1 2]", b"", b"[", b"{", b"{}", b"null", b'"', b"[[[]"])
@example([b'[{"ev":"T","sym":"A","t":1763900000000,"p":1,"s":1}{"ev":"T"}]'])
@example([b'[{"ev":"T","sym":"NEW","t":1763900000000,"p":1,"s":1},{]', b'[{"ev":"T","sym":"B","t":1,"p":1,"s":1}]'])
@example([b'[{"ev":"T","sym":"A","t":1763900000000,"p":1,"s":1,"p":2}]'])
@example([b'[{"ev":"T","sym":"A","t":1763900000000,"p":-0,"s":1e400}]'])
@example([b'[{"ev":"T","\\u0073ym":"A","t":1763900000000,"p":-0,"s":-0.0,"c":[ ] }]'])
@example([b'[{"ev":"T","sym":"A","t":1763900000000,"p":0.30000000000000004,"s":12345678901234567890}]'])
@example([b'[{"ev":"T","sym":"A","t":1763900000000,"p":123456789012.123456789012345,"s":01}]'])
@example([b'[{"ev":"T","sym":"A","t":1,"p":1,"s":1,"i":""}, {"ev":"T","sym":"A","t":1,"p":1,"s":1,"i":"\xc3\xa9"}]'])
@example([b'[{"ev":"T","sym":"A","t":1,"p":1,"s":1,"k":"\xff"}]'])
def test_decoders_agree(batch: list[bytes]) -> None:
    fast, slow = FeedDecoder(max_symbols=5), ReferenceFeedDecoder(max_symbols=5)
    for message in batch:
        compare(fast, slow, message)
    compare_batches(fast, slow)


def plain_element(rng: random.Random) -> dict[str, Any]:
    """An event as the vendor sends it, of one of 3,000 symbols."""
    symbol = f"S{rng.randrange(3000):04d}"
    t = 1763900000000 + rng.randrange(10**7)
    kind = rng.choice(["T", "T", "T", "A", "AM", "Q", "LULD"])
    price = round(rng.lognormvariate(3, 1), rng.choice([2, 4]))
    if kind == "T":
        size = rng.randrange(1, 5000)
        more = {"x": rng.randrange(20), "i": str(rng.getrandbits(50)), "z": 3, "p": price, "s": size, "t": t}
        more |= {
            "c": rng.sample(range(60), rng.randrange(3)),
            "q": rng.randrange(10**7),
            "ds": f"{size}.{rng.randrange(10**6):06d}",
        }
        return {"ev": "T", "sym": symbol, **more, "trfi": rng.randrange(300), "trft": t * 1000}
    if kind in ("A", "AM"):
        bar = {"v": 100, "dv": "100.5", "av": 2 * 10**6, "op": price, "vw": price * 1.000001, "o": price, "c": price}
        return {"ev": kind, "sym": symbol, **bar, "h": price, "l": price, "a": price / 3, "z": 7, "s": t, "e": t + 1000}
    if kind == "Q":
        return {"ev": "Q", "sym": symbol, "bx": 4, "bp": price, "bs": 1, "ax": 7, "ap": price, "as": 2, "c": 0, "t": t}
    return {"ev": "LULD", "T": symbol, "h": price, "l": price, "i": [17], "z": 3, "t": t, "q": 3}


@pytest.mark.parametrize("seed", range(3))
def test_long_stream(seed: int) -> None:
    """Many plain messages, some of them damaged; batches taken at other places than the twin's rows end."""
    rng = random.Random(seed)
    fast, slow = FeedDecoder(), ReferenceFeedDecoder()
    for number in range(MESSAGES // 10):
        message = bytearray(json.dumps([plain_element(rng) for _ in range(rng.randrange(1, 40))]).encode())
        if number % 10 == 0:
            message[rng.randrange(len(message))] = rng.randrange(256)
        compare(fast, slow, bytes(message))
        if number % 25 == 0:
            compare_batches(fast, slow)
    compare_batches(fast, slow)
    # New symbols and the damaged aside, everything went the quick way.
    assert fast.slow_elements < fast.symbol_count + 500
