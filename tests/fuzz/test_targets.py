"""The fuzz targets for everybody: sound inputs, changed a little, for a few seconds."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz import targets

NAMES = sorted(targets.seeds())
EXAMPLES = {"private_key": 100}  # each that opens costs an RSA check
LENGTHS = [0, 1, 3, 4, 5, 2**16, 2**17, 2**31 - 1, 2**31, 2**32 - 1]

change = st.one_of(
    st.tuples(st.just("flip"), st.integers(0), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0), st.integers(0, 40)),
    st.tuples(st.just("insert"), st.integers(0), st.binary(max_size=9)),
    st.tuples(st.just("length"), st.integers(0), st.sampled_from(LENGTHS)),
    st.tuples(st.just("repeat"), st.integers(0), st.integers(1, 40)),
    st.tuples(st.just("splice"), st.integers(0), st.integers(0)),
)


def changed(data: bytes, step: tuple[str, int, object], others: list[bytes]) -> bytes:
    how, at, what = step
    at %= len(data) + 1
    match how, what:
        case "flip", int(mask) if at < len(data):
            return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
        case "cut", int(size):
            return data[:at] + data[at + size :]
        case "insert", bytes(more):
            return data[:at] + more + data[at:]
        case "length", int(value):
            return data[:at] + value.to_bytes(4, "big") + data[at + 4 :]
        case "repeat", int(size):
            return data[: at + size] + data[at:]
        case "splice", int(which):
            return data[:at] + others[which % len(others)][at:]
    return data


@pytest.mark.parametrize("name", NAMES)
def test_sound_inputs_are_taken(name):
    target, inputs = targets.seeds()[name]
    assert all(targets.check(target, data) for data in inputs)


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_refused_or_taken_exactly(name):
    target, inputs = targets.seeds()[name]

    @settings(max_examples=EXAMPLES.get(name, 300))
    @given(st.sampled_from(inputs), st.lists(change, min_size=1, max_size=4))
    def run(data: bytes, steps: list[tuple[str, int, object]]) -> None:
        for step in steps:
            data = changed(data, step, inputs)
        targets.check(target, data)

    run()


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_refused(name):
    target, _ = targets.seeds()[name]

    @settings(max_examples=50)
    @given(st.binary(max_size=300))
    def run(data: bytes) -> None:
        assert not targets.check(target, data)

    run()


def test_the_fuzzer_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "no-such-target"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": "src"},
    )
    assert done.returncode in {1, 2}
    assert done.stderr.startswith("fuzz: error: ")
