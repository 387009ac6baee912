import itertools
import os
import tty

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from scservo_sdk import PortHandler, sms_sts

from fermo.hardware.sts3215 import (
    HEADER,
    REGISTERS,
    Frame,
    FrameParser,
    Register,
    checksum,
    decode_value,
    describe_status,
    encode_frame,
    encode_value,
    wire_time,
)

FRAMES = st.builds(Frame, st.integers(0, 0xFD), st.integers(0, 255), st.binary(max_size=40))
SIGNED = [register for register in REGISTERS.values() if register.sign_bit is not None]


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def test_ping_is_the_bytes_of_the_manual() -> None:
    assert encode_frame(Frame(1, 1)) == bytes.fromhex("ff ff 01 02 01 fb")


def test_frames_are_the_bytes_the_sdk_sends() -> None:
    master, slave = os.openpty()
    tty.setraw(slave)
    port = PortHandler(os.ttyname(slave))
    try:
        assert port.openPort()
        sms_sts(port).syncReadTx(56, 4, [1, 2, 3], 3)
        port.is_using = False
        assert os.read(master, 64) == encode_frame(Frame(0xFE, 0x82, bytes((56, 4, 1, 2, 3))))
        sms_sts(port).writeTxOnly(3, 42, 2, [0x10, 0x08])
        assert os.read(master, 64) == encode_frame(Frame(3, 3, bytes((42, 0x10, 0x08))))
    finally:
        port.closePort()
        os.close(master)
        os.close(slave)


@settings(max_examples=80, deadline=None)
@given(frames=st.lists(FRAMES, max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_chunking_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    parser = FrameParser()
    seen = [frame for part in chunks(b"".join(map(encode_frame, frames)), cuts) for frame in parser.feed(part)]
    assert seen == frames
    assert parser.discarded == 0


@settings(max_examples=80, deadline=None)
@given(garbage=st.binary(max_size=60), frame=FRAMES, cuts=st.lists(st.integers(0, 10_000), max_size=8))
def test_a_frame_is_found_after_garbage(garbage: bytes, frame: Frame, cuts: list[int]) -> None:
    # A stretch of garbage may look like the head of a longer frame, which only more bytes can disprove.
    stream = garbage + encode_frame(frame) + bytes(260)
    parser = FrameParser()
    seen = [found for part in chunks(stream, cuts) for found in parser.feed(part)]
    assert frame in seen or _garbage_completes_a_frame(garbage, frame)


def _garbage_completes_a_frame(garbage: bytes, frame: Frame) -> bool:
    """Whether the garbage's own bytes and the frame's make another valid frame, which no parser can tell apart."""
    stream = garbage + encode_frame(frame) + bytes(260)
    for start in range(len(garbage)):
        head = stream[start : start + 4]
        if head[:2] == HEADER and head[2] != 0xFF and head[3] >= 2:
            end = start + head[3] + 3
            if end >= len(garbage) and checksum(stream[start + 2 : end]) == stream[end]:
                return True
    return False


@settings(max_examples=60, deadline=None)
@given(frame=FRAMES, position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_corrupt_body_never_comes_through_as_the_same_frame(frame: Frame, position: int, flip: int) -> None:
    data = bytearray(encode_frame(frame))
    data[position % len(data)] ^= flip
    assert frame not in FrameParser().feed(bytes(data))


@settings(max_examples=60, deadline=None)
@given(body=st.binary(min_size=1, max_size=40))
def test_checksum_closes_the_sum(body: bytes) -> None:
    assert (sum(body) + checksum(body)) & 0xFF == 0xFF


@settings(max_examples=80, deadline=None)
@given(register=st.sampled_from(SIGNED), data=st.data())
def test_sign_and_magnitude_round_trip(register: Register, data: st.DataObject) -> None:
    assert register.sign_bit is not None
    limit = (1 << register.sign_bit) - 1
    value = data.draw(st.integers(-limit, limit))
    encoded = encode_value(register, value)
    assert decode_value(register, encoded) == value
    assert bool(int.from_bytes(encoded, "little") >> register.sign_bit & 1) == (value < 0)


@pytest.mark.parametrize("name", REGISTERS)
def test_defaults_fit_and_values_beyond_do_not(name: str) -> None:
    register = REGISTERS[name]
    assert decode_value(register, encode_value(register, register.default)) == register.default
    with pytest.raises(ValueError, match="does not fit"):
        encode_value(register, 1 << 8 * register.size)


def test_registers_do_not_overlap() -> None:
    taken: list[int] = []
    for register in REGISTERS.values():
        taken += range(register.address, register.address + register.size)
    assert len(taken) == len(set(taken))


def test_status_in_words_and_wire_time() -> None:
    assert describe_status(0) == "ok"
    assert describe_status(36) == "too hot, overload"
    assert wire_time(100) == pytest.approx(1e-3)
