"""The data home: where the files of named sets lie, and how they get there when asked."""

import hashlib
import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from genus.errors import DataFormatError


@dataclass(frozen=True)
class RemoteFile:
    """A file of a named set: its path below the data home, its checksum and where it can be had.

    sha256: of the file as it is fetched. packed: a path at which a compressed twin may lie instead.
    """

    path: str
    sha256: str
    mirrors: tuple[str, ...]
    packed: str = ""


def data_home() -> Path:
    """``$GENUS_DATA``, else ``$XDG_CACHE_HOME/genus`` or ``~/.cache/genus``."""
    if os.environ.get("GENUS_DATA"):
        return Path(os.environ["GENUS_DATA"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "genus"


def locate(file: RemoteFile, name: str, download: bool) -> Path:
    """The file of the set ``name`` on this machine; fetched first if that is allowed."""
    home = data_home()
    for path in filter(None, (file.packed, file.path)):
        if (home / path).is_file():
            return home / path
    if not download:
        raise DataFormatError(
            f"{name}: no file {file.path} in {home}; set GENUS_DATA to the folder that holds it, "
            "or pass --download to fetch it."
        )
    return fetch(file, home)


def fetch(file: RemoteFile, home: Path) -> Path:
    """Download to a temporary file, check, move into place. Says on stderr what it does."""
    target = home / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures = []
    with FileLock(target.with_name(target.name + ".lock")):
        if target.is_file():  # another process was faster
            return target
        for url in file.mirrors:
            print(f"genus: fetching {url} into {target.parent}", file=sys.stderr)
            try:
                found = _copy(url, part)
            except (OSError, ValueError) as error:
                failures.append(f"{url}: {getattr(error, 'reason', error)}")
                continue
            if found != file.sha256:
                failures.append(f"{url}: the SHA-256 is {found[:12]}..., expected {file.sha256[:12]}...")
                continue
            part.replace(target)
            return target
        part.unlink(missing_ok=True)
    raise DataFormatError(f"{file.path} could not be fetched ({'; '.join(failures)}).")


def _copy(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=60) as response, target.open("wb") as out:
        while block := response.read(1 << 20):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()
