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
        Number of packages that it has put into the environment.

    Examples
    --------
    >>> progress('Collecting numpy\\nCollecting scipy\\n', 1)
    'packages found: 2'
    >>> progress('Processing /clone', 0)
    'preparing brainchop-bids'
    >>> progress('Collecting numpy\\nInstalling collected packages: numpy, scipy\\n', 1)
    'packages installed: 1 of 2'
    """
    if listed := re.search('^Installing collected packages: (.*)', log, re.MULTILINE):
        return f'packages installed: {installed} of {listed[1].count(",") + 1}'
    found = log.count('Collecting ')
    return f'packages found: {found}' if found else 'preparing brainchop-bids'


def count(environment: Path) -> int:
    return len(list(environment.glob('lib/*/site-packages/*.dist-info')))


def install(environment: Path, *arguments: str) -> None:
    """Run ``pip install --no-deps`` and print its progress.

    Raises
    ------
    SystemExit
        With the end of pip's output, if it fails.
    """
    # Byte code of all modules would take longer than that of the few that are used.
    options = ('--no-deps', '--no-compile', '--disable-pip-version-check', '--progress-bar', 'off')
    command = [str(environment / 'bin' / 'python'), '-m', 'pip', 'install', *options, *arguments]
    terminal = sys.stdout.isatty()
    before = count(environment)
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
                told = progress(log.read_text(errors='replace'), count(environment) - before)
                # Later lines, which may be shorter, take the place of earlier ones.
                print(f'\r  {told:<40}' if terminal else f'  {told}', end='' if terminal else '\n')
                sys.stdout.flush()
        if process.returncode:
            raise SystemExit('\n' + log.read_text(errors='replace')[-3000:])


def main(environment: Path) -> None:
    """Make the environment."""
    started = time.monotonic()
    print(f'Installing the light set of packages in {environment}', flush=True)
    venv.create(environment, with_pip=True)
    install(environment, '--requirement', 'requirements-light.txt')
    install(environment, '--editable', '.')
    start = '\r' if sys.stdout.isatty() else ''
    print(f'{start}{f"Installed in {time.monotonic() - started:.0f} s":<42}', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]).absolute())
