"""Records that wait on disk: in order, over the end of the process, each for one scanner, and bounded."""

from pathlib import Path

import pytest

from services.scanner.record_spool import SPOOL_ERRORS, Oldest, Record, RecordSpool

RECORDS = [Record(2, bytes([n]) * 100, n if n % 3 else None) for n in range(20)]


def opened(directory: Path, **limits: int) -> RecordSpool:
    spool = RecordSpool(directory, **limits)
    spool.open_left()
    return spool


def taken(spool: RecordSpool, most: int = 7) -> list[Record]:
    """Takes everything out, a few at a time."""
    found: list[Record] = []
    while spool.count:
        records, last = spool.oldest(most)
        found += records
        spool.remove(last)
    return found


def test_first_in_first_out_and_no_file_is_left(tmp_path: Path) -> None:
    spool = opened(tmp_path / "records")
    assert (spool.count, spool.oldest(5)) == (0, Oldest([], 0))
    assert not (tmp_path / "records").exists()
    spool.put(RECORDS[:12])
    assert spool.oldest(5).records == spool.oldest(5).records == RECORDS[:5]
    spool.put(RECORDS[12:])
    assert spool.count == len(RECORDS)
    assert taken(spool) == RECORDS
    assert list((tmp_path / "records").iterdir()) == []
    spool.put(RECORDS[:1])
    assert taken(spool) == RECORDS[:1]


def test_what_one_process_left_the_next_one_finds(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.put(RECORDS)
    spool.remove(spool.oldest(3).last)
    # As a process that is killed: nothing is closed in order.
    spool.close()
    again = opened(tmp_path)
    assert again.count == len(RECORDS) - 3
    assert taken(again) == RECORDS[3:]


def test_two_scanners_have_a_file_each_and_a_third_gets_what_both_left(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    one.put(RECORDS[:5])
    other.put(RECORDS[5:8])
    assert opened(tmp_path).count == 0
    assert taken(one) == RECORDS[:5]
    one.put(RECORDS[:5])
    one.close()
    other.close()
    third = opened(tmp_path)
    assert sorted(taken(third)) == sorted(RECORDS[:8])
    assert list(tmp_path.iterdir()) == []


def test_beyond_its_limit_the_oldest_are_dropped(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=200_000)
    large = [Record(1, n.to_bytes(2) * 5_000, n) for n in range(40)]
    dropped = sum(spool.put([record]) for record in large)
    kept = taken(spool, 100)
    assert 0 < dropped < len(large)
    assert kept == large[dropped:]


def test_a_damaged_file_is_set_aside_and_another_one_begun(tmp_path: Path) -> None:
    (tmp_path / "0.records").write_bytes(b"what is this? " * 1000)
    spool = opened(tmp_path)
    assert spool.count == 0
    spool.put(RECORDS)
    assert taken(spool) == RECORDS
    assert [path.name for path in tmp_path.iterdir()] == ["0.damaged"]


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spool = opened(tmp_path / "file" / "records")
    with pytest.raises(SPOOL_ERRORS):
        spool.put(RECORDS)
    assert spool.count == 0
