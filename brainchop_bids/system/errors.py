"""Errors that a user can cause and fix.

Each message is one line that names the file, the problem, and what to do next; commands print it
without a traceback.
"""

import signal

from .text import printable

# Longest message; file contents that are quoted can have megabytes.
_LONGEST = 4000


class BrainchopError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        # Always one line, even if it quotes a library's message, so that logs can be searched.
        text = printable(' '.join(str(message).split()))
        if len(text) > _LONGEST:
            text = f'{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}'
        super().__init__(text)


class InputError(BrainchopError):
    """A scan that cannot be read or segmented."""


class DatasetError(BrainchopError):
    """A BIDS dataset that is missing or empty, or has no matching scan."""


class ModelError(BrainchopError):
    """A model folder that is missing, incomplete or not supported."""


class SettingsError(BrainchopError):
    """Options that contradict each other or have invalid values."""


class MemoryLimitError(BrainchopError):
    """A scan that needs more memory than is granted, even if computed in parts."""


class DeviceMemoryError(BrainchopError):
    """A GPU whose memory ran out."""


class OutputError(BrainchopError):
    """A result that could not be written."""


class Interrupted(SystemExit):
    """An interruption by SIGTERM or SIGINT, from a batch system or a person.

    It is not an `Exception`, so that no handler takes it for the failure of a scan.

    Parameters
    ----------
    number : int
        Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number
        # Summary of finished and unfinished scans, for the last line that is printed.
        self.state = ''
        # Exit code if nothing catches it; 130 is that of shells after Ctrl-C.
        self.code = 130 if number == signal.SIGINT else 1
