"""Check the input with bids-validator-deno, where it is installed, while scans run.

What it finds is told and never stops a run: many published datasets have errors that do not
touch their anatomical images, and an unreadable image fails by itself, with a better message.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

_LEFT_OVER_SECONDS = 20


class BackgroundValidation:
    """Run the validator beside the work.

    Parameters
    ----------
    bids_dir : Path
        Root of the dataset.
    """

    def __init__(self, bids_dir: Path) -> None:
        self._bids_dir = bids_dir
        # Open as long as the process writes to it.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        # Beside this Python first: its folder may not be on the PATH.
        here = Path(sys.executable).parent / 'bids-validator-deno'
        command = str(here) if here.exists() else shutil.which('bids-validator-deno')
        if command:
            # Both arguments are a program and a folder of ours, and there is no shell.
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
        """Wait a little for the validator and say in one line what it found.

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
    """Say in one line what the validator's JSON report holds.

    Parameters
    ----------
    report : str
        What ``bids-validator-deno --format json`` printed.
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
