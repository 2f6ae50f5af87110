"""Models outside of genus, in the registry for as long as a test takes."""

from collections.abc import Iterator
from contextlib import contextmanager

from genus import registry
from genus.contract import GenerativeModel, name_of


@contextmanager
def registered(*classes: type[GenerativeModel], family: str = "latent") -> Iterator[None]:
    """Inside, each class goes by the name of its file, as if that lay in the folder of a family: the training loop,
    run folders, the API and the command line know it. Nothing that a file names can bring a model here.

    Raises a ValueError for another family and a name that is taken.
    """
    if family not in registry.FAMILIES:
        raise ValueError(f"family: expected one of {', '.join(registry.FAMILIES)}; got {family!r}.")
    before = dict(registry.GUESTS)
    try:
        for cls in classes:
            if name_of(cls) in registry.names():
                raise ValueError(f"there is a model {name_of(cls)!r} already; give the file another name.")
            registry.GUESTS[name_of(cls)] = (family, cls)
        yield
    finally:
        registry.GUESTS.clear()
        registry.GUESTS.update(before)
