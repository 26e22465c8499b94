"""The inputs that fuzzing has found, in every build: each is refused as it should be, or used as it should be."""

import pytest

from tests.robustness.fuzz.corpus import FOLDER, MOST_BYTES, read
from tests.robustness.fuzz.targets import NAMES, target


@pytest.mark.parametrize("name", NAMES)
def test_what_fuzzing_found(name: str) -> None:
    chosen = target(name)
    inputs = [*read(name), *chosen.seeds()]
    assert len(inputs) >= 4
    for data in inputs:
        assert len(data) <= chosen.longest
        chosen.run(data)
        if chosen.alone is not None:
            chosen.alone(data)


def test_the_corpus_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {name.partition(".")[0] for name in sizes} == set(NAMES)
    assert max(sizes.values()) <= MOST_BYTES
