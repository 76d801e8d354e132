"""Build the page of the browser app with npm, where it is missing; pyproject.toml has all else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

_ROOT = Path(__file__).resolve().parent
_PAGE = _ROOT / 'brainchop_bids' / 'data' / 'web' / 'index.html'
_SKIP = 'BRAINCHOP_NO_PAGE'


def build_page() -> None:
    """Build the page, unless it is there, npm is not, or BRAINCHOP_NO_PAGE is set."""
    npm = shutil.which('npm')
    if _PAGE.is_file() or npm is None or os.environ.get(_SKIP):
        return
    install = ['ci', '--silent', '--ignore-scripts', '--no-audit', '--no-fund']
    try:
        for arguments in (install, ['run', '--silent', 'build', '--', '--logLevel', 'error']):
            subprocess.run([npm, *arguments], cwd=_ROOT / 'web', check=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        # All else of the package does without it.
        print(f'the page of brainchop-web could not be built: {error}', file=sys.stderr)


class BuildPy(build_py):
    """Build of the package for a wheel; a repository that is used in place has `make web`."""

    def run(self) -> None:
        """Build the page, then the package."""
        if not self.editable_mode:
            build_page()
        super().run()


class Sdist(sdist):
    """Source distribution; it has the page, so that it can be installed without npm."""

    def run(self) -> None:
        """Build the page, then the distribution."""
        build_page()
        super().run()


setup(cmdclass={'build_py': BuildPy, 'sdist': Sdist})
