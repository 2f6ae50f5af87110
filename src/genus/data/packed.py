"""The files of a tar.xz archive, unpacked in memory within bounds."""

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from genus.data.guard import read_up_to, refuse_bomb
from genus.errors import DataFormatError

MOST = 256 << 20  # bytes of all the files of an archive


def members(
    path: Path, wanted: Callable[[str], bool], *, largest: int, most: int = MOST
) -> Iterator[tuple[str, bytes]]:
    """Path inside the archive, and content, of the regular files whose path is ``wanted``, in the archive's order.

    Raises a `DataFormatError` for what is no archive, a wanted file of over ``largest`` bytes, and an
    archive that would inflate to over ``most`` bytes or beyond reason.
    """
    try:
        with lzma.open(path) as file:
            content = read_up_to(cast(BinaryIO, file), most + 1)
        refuse_bomb(len(content), path.stat().st_size, str(path))
        if len(content) > most:
            raise DataFormatError(f"{path}: would inflate to more than {most >> 20} MiB, refused.")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if not (member.isreg() and wanted(member.name)):
                    continue
                if member.size > largest:
                    raise DataFormatError(f"{path}: {member.name} is larger than {largest >> 10:,} KiB, refused.")
                opened = archive.extractfile(member)
                yield member.name, b"" if opened is None else opened.read()
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        if isinstance(error, DataFormatError):
            raise
        raise DataFormatError(f"{path}: not a readable tar.xz archive ({str(error)[:200]}).") from None
