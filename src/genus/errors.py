"""Errors that speak to the user: what was expected, what came, what to do.

Each is one plain sentence; the command line prints it without a traceback.
"""


def brief(value: object, length: int = 80) -> str:
    """``repr`` for a sentence: what stands in a file may have megabytes and control characters."""
    text = repr(value[: 2 * length] if isinstance(value, str) else value)
    return text if len(text) <= length else f"{text[:length]}..."


class GenusError(Exception):
    """Base of every error that genus raises on purpose."""

    exit_code = 1
    """What the command line exits with."""


class DataFormatError(GenusError, ValueError):
    """A data file is malformed; the sentence names the file and the place."""


class SettingsError(GenusError, ValueError):
    """A setting is unknown or has the wrong type; the sentence names it."""


class CheckpointError(GenusError, ValueError):
    """A run folder or checkpoint is missing, damaged or of another run."""


class UnknownModelError(GenusError, ValueError):
    """A name that is not in the registry."""


class UnknownSourceError(GenusError, ValueError):
    """A data source that is neither a named set nor a path."""


class CapabilityError(GenusError, AttributeError):
    """A model was asked for something that it does not promise.

    An AttributeError too, so that ``hasattr`` stays honest. role: the name of the missing role, where it is one.
    """

    def __init__(self, sentence: str, role: str | None = None):
        super().__init__(sentence)
        self.role = role
