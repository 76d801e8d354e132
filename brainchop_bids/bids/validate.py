"""Validation of the input with bids-validator-deno, if it is installed, while scans run.

Errors are reported and never stop a run: many published datasets have errors that do not concern
their anatomical images, and an unreadable image fails by itself, with a better message.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

_LEFT_OVER_SECONDS = 20
_VALIDATOR = 'bids-validator-deno'


class BackgroundValidation:
    """A validator that runs in the background.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.
    """

    def __init__(self, bids_dir: Path) -> None:
        self._bids_dir = bids_dir
        # Must stay open as long as the process writes to it.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        # Look beside this Python first, because its folder may not be on the PATH.
        here = shutil.which(_VALIDATOR, path=str(Path(sys.executable).parent))
        command = here or shutil.which(_VALIDATOR)
        if command:
            # No shell is involved, and both arguments are paths.
            self._process = subprocess.Popen(  # noqa: S603
                [command, str(bids_dir), '--format', 'json', '--ignoreWarnings'],
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """End the validator."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> str:
        """Wait briefly for the validator and summarize its findings in one line.

        Returns
        -------
        str
        """
        if self._process is None:
            return 'input not validated: bids-validator-deno is not installed'
        try:
            self._process.wait(_LEFT_OVER_SECONDS)
        except subprocess.TimeoutExpired:
            self.stop()
            return 'input not validated: the validator took longer than the run'
        self._output.seek(0)
        return summarise(self._output.read().decode(errors='replace'), self._bids_dir)


def summarise(report: str, bids_dir: Path) -> str:
    """Summarize the validator's JSON report in one line.

    Parameters
    ----------
    report : str
        Output of ``bids-validator-deno --format json``.
    bids_dir : Path
        The dataset, for the message.

    Returns
    -------
    str
    """
    try:
        issues = json.loads(report)['issues']['issues']
    except (ValueError, KeyError, TypeError):
        return 'input not validated: the validator gave no report'
    errors = Counter(
        f'{issue.get("code")} in {issue.get("location", "?")}'
        for issue in issues
        if issue.get('severity') == 'error'
    )
    if not errors:
        return 'input validated: no BIDS errors'
    shown = '; '.join(list(errors)[:3]) + ('; ...' if len(errors) > 3 else '')
    number = f'{errors.total()} BIDS error{"" if errors.total() == 1 else "s"}'
    return f'input has {number} ({shown}): see bids-validator-deno {bids_dir}'
