"""The intercept message byte for byte: the VMM reads it at these offsets (spec.md 5.5)."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.hyperv import (
    MESSAGE_BYTES,
    NO_MESSAGE,
    Access,
    HvMessageType,
    Hypervisor,
    InterceptMessage,
)

MESSAGE = InterceptMessage(
    HvMessageType.GPA_INTERCEPT,
    vp_index=0x01020304,
    access=Access.EXECUTE,
    gpa=0x1122334455667788,
    gva=0x99AABBCCDDEEFF00,
    info=0b1011,
    instruction_length=5,
    execution_state=0xBEEF,
    rip=0xFFFF_8000_0000_1234,
    rflags=0x10246,
    cache_type=6,
    instruction_bytes=b"\x48\x89\x07",
    sender=7,
    flags=1,
    cr8=9,
    cs=bytes(range(16)),
    tpr=0x20,
)

FIELDS = [
    # offset from the message's start, format, value
    (0, "<I", 0x80000001),
    (4, "<B", 80),
    (5, "<B", 1),
    (8, "<Q", 7),
    (16 + 0, "<I", 0x01020304),
    (16 + 4, "<B", 0x95),
    (16 + 5, "<B", 2),
    (16 + 6, "<H", 0xBEEF),
    (16 + 8, "<16s", bytes(range(16))),
    (16 + 24, "<Q", 0xFFFF_8000_0000_1234),
    (16 + 32, "<Q", 0x10246),
    (16 + 40, "<I", 6),
    (16 + 44, "<B", 3),
    (16 + 45, "<B", 0b1011),
    (16 + 46, "<B", 0x20),
    (16 + 47, "<B", 0),
    (16 + 48, "<Q", 0x99AABBCCDDEEFF00),
    (16 + 56, "<Q", 0x1122334455667788),
    (16 + 64, "<16s", b"\x48\x89\x07" + bytes(13)),
    (96, "<160s", bytes(160)),
]


@pytest.mark.parametrize(("offset", "form", "value"), FIELDS)
def test_each_field_lies_where_the_table_says(offset, form, value):
    assert struct.unpack_from(form, MESSAGE.to_bytes(), offset) == (value,)


def test_the_table_covers_the_message():
    sizes = sum(struct.calcsize(form) for _, form, _ in FIELDS)
    assert sizes + 2 == MESSAGE_BYTES == 256  # two reserved bytes in the header


def test_no_message_is_all_zeros():
    assert NO_MESSAGE.to_bytes() == bytes(256)
    assert InterceptMessage.from_bytes(bytes(256)) == NO_MESSAGE


def unsigned(bits):
    return st.integers(0, (1 << bits) - 1)


@given(
    st.builds(
        InterceptMessage,
        st.sampled_from(list(HvMessageType)),
        unsigned(32), st.sampled_from(list(Access)), unsigned(64), unsigned(64), unsigned(8),
        unsigned(4), unsigned(16), unsigned(64), unsigned(64), unsigned(32),
        st.binary(max_size=16), unsigned(64), unsigned(8), unsigned(4),
        st.binary(min_size=16, max_size=16), unsigned(8),
    )
)  # fmt: skip
def test_a_message_survives_its_bytes(message):
    assert InterceptMessage.from_bytes(message.to_bytes()) == message


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpa": 1 << 64},
        {"vp_index": -1},
        {"instruction_length": 16},
        {"cr8": 16},
        {"instruction_bytes": bytes(17)},
        {"cs": b""},
    ],
    ids=str,
)
def test_a_field_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match=r"instruction|fit"):
        MESSAGE._replace(**wrong).to_bytes()


def test_bytes_that_are_no_message_are_refused():
    with pytest.raises(ValueError, match="256 bytes"):
        InterceptMessage.from_bytes(bytes(240))
    with pytest.raises(ValueError, match="5 is not a valid"):
        InterceptMessage.from_bytes(b"\x05" + bytes(255))
    with pytest.raises(ValueError, match="17 instruction bytes"):
        InterceptMessage.from_bytes(bytes(60) + b"\x11" + bytes(195))


def test_a_message_names_its_partition(threads):
    """The root finds the virtual processor by sender and index."""
    hv = Hypervisor()
    hv.create_partition_direct(vps=0)
    partition = hv.create_partition_direct(vps=2)
    vp = partition.vps[1]

    async def guest():
        vp.runnable = True
        await vp.refuse(Access.READ, 0x300, None)

    threads({"guest": guest})
    message = InterceptMessage.from_bytes(vp.intercept_message.to_bytes())
    assert (message.sender, message.vp_index, message.gpa) == (partition.id, 1, 0x300 << 12)
    assert message.type is HvMessageType.UNMAPPED_GPA
