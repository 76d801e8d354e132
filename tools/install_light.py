"""Install the light set of packages and brainchop-bids in a new environment: ``make demo``.

    python tools/install_light.py VENV

Progress is one line that changes on a terminal, and a line every ten seconds elsewhere. The output
of pip is printed only if it fails.
"""

import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def progress(log: str, installed: int) -> str:
    """Return how far pip is.

    Parameters
    ----------
    log : str
        Its output so far.
    installed : int
        Number of packages in the environment.

    Examples
    --------
    >>> progress('Collecting numpy\\nCollecting scipy\\n', 1)
    'packages found: 2'
    >>> progress('Collecting numpy\\nInstalling collected packages: numpy, scipy\\n', 1)
    'packages installed: 1 of 2'
    """
    if listed := re.search('^Installing collected packages: (.*)', log, re.MULTILINE):
        return f'packages installed: {installed} of {listed[1].count(",") + 1}'
    return f'packages found: {log.count("Collecting ")}'


def install(environment: Path, *arguments: str) -> None:
    """Run ``pip install`` and print its progress.

    Raises
    ------
    SystemExit
        With the end of pip's output, if it fails.
    """
    python = environment / ('Scripts' if sys.platform == 'win32' else 'bin') / 'python'
    # Byte code of all modules would take longer than that of the few that are used.
    options = ('--no-compile', '--disable-pip-version-check', '--progress-bar', 'off')
    command = [str(python), '-m', 'pip', 'install', *options, *arguments]
    terminal = sys.stdout.isatty()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'pip.log'
        with log.open('w') as file:
            process = subprocess.Popen(  # noqa: S603, our own command
                command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
            )
        while process.poll() is None:
            try:
                process.wait(0.5 if terminal else 10)
            except subprocess.TimeoutExpired:
                done = len(list(environment.glob('**/site-packages/*.dist-info')))
                told = '  ' + progress(log.read_text(errors='replace'), done)
                print(f'\r{told}' if terminal else told, end='' if terminal else '\n', flush=True)
        if process.returncode:
            raise SystemExit('\n' + log.read_text(errors='replace')[-3000:])


def main(environment: Path) -> None:
    started = time.monotonic()
    print(f'Installing the light set of packages in {environment}', flush=True)
    venv.create(environment, with_pip=True)
    install(environment, '--no-deps', '--requirement', 'requirements-light.txt')
    install(environment, '--no-deps', '--editable', '.')
    start = '\r' if sys.stdout.isatty() else ''
    print(f'{start}Installed in {time.monotonic() - started:.0f} s             ', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]).absolute())
