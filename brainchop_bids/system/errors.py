"""The errors a user can cause and mend.

Each message is one line that names the file, what was found there and what to do next; the
commands print it as it stands, without a traceback.
"""

import signal


class BrainchopError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str) -> None:
        # One line whatever a quoted library message contained: logs are read with grep.
        super().__init__(' '.join(str(message).split()))


class InputError(BrainchopError):
    """A scan that cannot be read or segmented."""


class DatasetError(BrainchopError):
    """A BIDS dataset that is missing, empty or has nothing that matches."""


class ModelError(BrainchopError):
    """A model folder that is missing, incomplete or not understood."""


class SettingsError(BrainchopError):
    """Options that contradict each other or name impossible values."""


class MemoryLimitError(BrainchopError):
    """A scan that needs more memory than is granted, whatever way it is computed."""


class DeviceMemoryError(BrainchopError):
    """A GPU whose memory ran out."""


class OutputError(BrainchopError):
    """A result that could not be written."""


class Interrupted(SystemExit):
    """A polite kill, by a batch system's time limit or by a person.

    No `Exception`, so that nothing on the way takes it for a failure of a scan.

    Parameters
    ----------
    number : int
        The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number
        # What is done and what is not, for the line that is said at the end.
        self.state = ''
        # Of a process that lets it pass; a shell's code for Ctrl-C.
        self.code = 130 if number == signal.SIGINT else 1
