"""The file: small, and read with suspicion."""

import json
import struct
import zlib
from typing import Any

import pytest

from genus.compress.container import (
    BITS_BACK_VERSION,
    CHECKSUM,
    FRONT,
    MAGIC,
    USUAL,
    VERSION,
    Archive,
    Header,
    pack,
    unpack,
)
from genus.errors import DataFormatError

ENVIRONMENT = {"genus": "0.1.0", "torch": "2.13.0+cpu", "cpu": "x86_64 AVX512"}
BINARY = {"kind": "grid", "channels": 1, "size": [28, 28], "levels": 2}
HEADER = {"count": 1000, "block": 128, "domain": BINARY, "environment": ENVIRONMENT}


def archive(**changed: Any) -> Archive:
    return Archive(bytes(range(16)), b"datadata", Header(**{**HEADER, **changed}), b"wordword" * 4)


def signed(content: bytes) -> bytes:
    """A file whose checksum holds, as somebody with bad intentions would write it."""
    return content + CHECKSUM.pack(zlib.crc32(content))


def with_header(header: bytes, length: int | None = None, version: int = VERSION) -> bytes:
    front = FRONT.pack(MAGIC, version, bytes(16), bytes(8), len(header) if length is None else length)
    return signed(front + header)


def deflated(text: bytes) -> bytes:
    deflate = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    return deflate.compress(text) + deflate.flush()


def test_what_is_packed_is_unpacked() -> None:
    assert unpack(pack(archive()), "f") == archive()
    other = archive(count=12345, domain={"kind": "grid", "channels": 3, "size": [5, 7, 2], "levels": 300})
    assert unpack(pack(other), "f") == other
    back = archive(initial=26)
    assert unpack(pack(back), "f") == back and pack(back)[4] == BITS_BACK_VERSION


def test_a_range_coded_file_is_what_it_was_before_bits_back() -> None:
    """Format 2, byte for byte: files that are older than format 3 are read, and look as they did."""
    written = bytes.fromhex(
        "676e737a02000102030405060708090a0b0c0d0e0f64617461646174610b00a3c89b8678bd493d470200"
        "776f7264776f7264776f7264776f7264776f7264776f7264776f7264776f7264"
        "77c64c2f"
    )
    assert pack(archive()) == written and unpack(written, "f") == archive()


def test_what_surrounds_the_payload_is_small() -> None:
    assert len(pack(archive())) - len(archive().payload) <= 56  # and 8 of the range coder: 64
    abroad = {"genus": "1.12.3", "torch": "2.99.1+cu130", "cpu": "aarch64 SVE256"}
    assert len(pack(archive(environment=abroad))) - len(archive().payload) <= 100


def test_every_flipped_bit_is_refused() -> None:
    content = pack(archive())
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(DataFormatError, match=r"damaged: its checksum|not a file that genus compress wrote"):
            unpack(bytes(flipped), "f")


def test_every_cut_is_refused_and_so_is_what_is_added() -> None:
    content = pack(archive())
    for length in range(len(content)):
        with pytest.raises(DataFormatError, match=r"^f: .*(cut|changed)"):
            unpack(content[:length], "f")
    with pytest.raises(DataFormatError, match="checksum"):
        unpack(content + b"\0", "f")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (deflated(b"[" * 4000), "cannot be read"),
        (deflated(b'{"count":'), "cannot be read"),
        (deflated(b"\xff\xfe"), "cannot be read"),
        (deflated(json.dumps(HEADER).encode())[:-3], "cannot be read"),
        (deflated(json.dumps(HEADER).encode()) + b"more", "followed by more"),
        (deflated(b" " * 50_000_000), "over 4096 bytes"),
        (b"\xff" * 30, "cannot be read"),
        (b"", "cannot be read"),
        (deflated(b"3"), "header"),
        *(
            (deflated(json.dumps({**HEADER, **changed}).encode()), sentence)
            for changed, sentence in [
                ({"count": 0}, "count"),
                ({"count": 1 << 40}, "count"),
                ({"count": 1000.0}, "count"),
                ({"count": True}, "count"),
                ({"count": 1 << 31}, "refused"),
                ({"block": 0}, "block"),
                ({"block": 1 << 20}, "block"),
                ({"extra": 1}, "extra"),
                ({"initial": 2}, "format 3"),
                ({"initial": 1}, "initial"),
                ({"initial": 1 << 40}, "initial"),
                ({"initial": 2.0}, "initial"),
                ({"environment": {"a": 1}}, "environment"),
                ({"environment": dict.fromkeys("abcdefghijk", "")}, "environment"),
                ({"domain": {"kind": "cube"}}, "unknown domain kind"),
                ({"domain": {**BINARY, "size": [1 << 20, 1 << 20]}}, "at most"),
                ({"domain": {**BINARY, "levels": 1 << 40}}, "at most"),
            ]
        ),
    ],
)
def test_a_hostile_header_is_refused(header: bytes, sentence: str) -> None:
    with pytest.raises(DataFormatError, match=r"^f: ") as caught:
        unpack(with_header(header), "f")
    assert sentence in str(caught.value) and len(str(caught.value)) < 500


def test_lengths_and_versions_are_checked() -> None:
    with pytest.raises(DataFormatError, match="claims 65,535 bytes"):
        unpack(with_header(b"abc", length=65535), "f")
    with pytest.raises(DataFormatError, match="format 9"):
        unpack(with_header(b"", version=9), "f")
    with pytest.raises(DataFormatError, match="format 3"):  # which tells its initial words
        unpack(with_header(deflated(json.dumps(HEADER).encode()), version=BITS_BACK_VERSION), "f")
    with pytest.raises(DataFormatError, match="not a file"):
        unpack(struct.pack("<4s", b"PK\3\4") + bytes(99), "f")
