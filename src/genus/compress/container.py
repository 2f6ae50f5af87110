"""The file: what surrounds the coded data, read with suspicion.

    4 bytes    magic "gnsz"
    1          version of the format
    16         the model: the first half of a SHA-256 (`genus.compress.archive.identity`)
    8          the data: a BLAKE2b digest, checked after decoding
    2          length of the header
    ...        header: JSON, deflated with a dictionary of what usually stands in it, some 20 bytes
    ...        payload: words of 4 bytes, of the range coder (version 2) or of a stack (version 3)
    4          CRC-32 of all before it

The versions are two codings of one layout: what the range coder wrote is still version 2, as ever, and what
bits-back coding wrote is version 3, whose header tells the number of initial words.

All numbers are little endian. What surrounds the payload is 50 bytes or so: a file of few pictures
should not be mostly header.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from genus import kinds
from genus.compress.coder import LARGEST_BLOCK
from genus.errors import DataFormatError
from genus.kinds import Domain
from genus.settings import explain

MAGIC, VERSION, BITS_BACK_VERSION = b"gnsz", 2, 3
FRONT = struct.Struct("<4sB16s8sH")
CHECKSUM = struct.Struct("<I")
LARGEST_HEADER = 4096  # bytes, inflated
MOST_ITEMS = 1 << 32
MOST_BYTES = 4 << 30  # of decoded data
MOST_INITIAL = 1 << 28  # initial words: 1 GiB
USUAL = (  # part of the format: another dictionary is another version
    b'"domain":{"kind":"tokens","length":64,"levels":27,"names":["a","b","c"]},'
    b'"domain":{"kind":"waveform","length":1024,"rate":8000,"levels":256},'
    b'{"count":1000,"block":128,"domain":{"kind":"grid","channels":3,"size":[28,28],"levels":2},'
    b'"domain":{"kind":"grid","channels":1,"size":[28,28],"levels":256},'
    b'"environment":{"genus":"0.1.0","torch":"2.13.0+cpu","cpu":"x86_64 AVX512"}}'
)


class Header(BaseModel):
    """What the decoder needs to know besides the model. initial: how many words of the payload were there before
    the data (bits-back coding); None for the range coder."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    count: int = Field(ge=1, le=MOST_ITEMS)
    block: int = Field(ge=1, le=LARGEST_BLOCK)
    domain: dict[str, Any]
    environment: dict[str, str] = Field(max_length=8)
    initial: int | None = Field(default=None, ge=2, le=MOST_INITIAL)


@dataclass(frozen=True)
class Archive:
    """The content of a file. model: 16 bytes. data: 8 bytes. payload: words of 4 bytes."""

    model: bytes
    data: bytes
    header: Header
    payload: bytes

    @property
    def domain(self) -> Domain:
        """What one datum is."""
        return kinds.from_json(self.header.domain)


def pack(archive: Archive) -> bytes:
    """The bytes of a file."""
    text = json.dumps(archive.header.model_dump(exclude_none=True), separators=(",", ":")).encode()
    deflate = zlib.compressobj(9, wbits=-15, zdict=USUAL)
    header = deflate.compress(text) + deflate.flush()
    version = VERSION if archive.header.initial is None else BITS_BACK_VERSION
    front = FRONT.pack(MAGIC, version, archive.model, archive.data, len(header))
    content = front + header + archive.payload
    return content + CHECKSUM.pack(zlib.crc32(content))


def unpack(content: bytes, where: str) -> Archive:
    """The reverse. Raises a `DataFormatError` that says what is wrong; the counts in the header are bounded."""
    if len(content) < FRONT.size + CHECKSUM.size or content[: len(MAGIC)] != MAGIC:
        raise DataFormatError(f"{where}: not a file that genus compress wrote, or one that was cut.")
    _, version, model, data, length = FRONT.unpack_from(content)
    if zlib.crc32(content[: -CHECKSUM.size]) != CHECKSUM.unpack(content[-CHECKSUM.size :])[0]:
        raise DataFormatError(f"{where}: damaged: its checksum does not match, it was cut or changed.")
    if version not in (VERSION, BITS_BACK_VERSION):
        known = f"{VERSION} and {BITS_BACK_VERSION}"
        raise DataFormatError(f"{where}: format {version}; this genus reads formats {known}. Another genus wrote it.")
    body = content[FRONT.size : -CHECKSUM.size]
    if length > len(body):
        raise DataFormatError(f"{where}: the header claims {length:,} bytes; the file holds {len(body):,}.")
    header = _header(body[:length], where)
    if (header.initial is not None) != (version == BITS_BACK_VERSION):
        raise DataFormatError(f"{where}: the header: initial words are of format {BITS_BACK_VERSION} only.")
    return Archive(model, data, header, body[length:])


def _header(packed: bytes, where: str) -> Header:
    inflate = zlib.decompressobj(wbits=-15, zdict=USUAL)
    try:
        text = inflate.decompress(packed, LARGEST_HEADER)
        if not inflate.eof or inflate.unused_data:
            raise ValueError(f"it is cut, followed by more, or over {LARGEST_HEADER} bytes")
        header = Header.model_validate(json.loads(text))
        domain = kinds.from_json(header.domain)
    except ValidationError as error:
        raise DataFormatError(f"{where}: the header: {explain(error, Header)}") from None
    except (zlib.error, ValueError, RecursionError) as error:
        raise DataFormatError(f"{where}: the header cannot be read ({str(error)[:200]}).") from None
    size = header.count * domain.num_dims * domain.dtype.itemsize
    if size > MOST_BYTES:
        raise DataFormatError(f"{where}: {header.count:,} data of {domain} take {size:,} bytes, refused.")
    return header
