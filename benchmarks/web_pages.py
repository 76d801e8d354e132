"""Seconds and memory of the page in Chromium, from the click to the labels, beside brainchop's.

    python benchmarks/web_pages.py SCAN [SCAN ...] [--models NAME ...] [--brainchop FOLDER]

FOLDER is brainchop's page as ``npx vite build`` writes it (``dist``, from a clone of
github.com/neuroneural/brainchop); the scan takes the place of its example. Its networks run by
WebGL, which Chromium computes on the processor where there is no GPU. Each row has a browser of
its own; memory is the largest sum of the proportional set sizes of all its processes.
"""

import argparse
import functools
import http.server
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Dialog, Page, sync_playwright

# Place in brainchop's menu, and its name there.
THEIRS = {
    0: 'Tissue GWM (light)',
    1: 'Tissue GWM (High Acc)',
    2: 'Tissue GWM (High Acc, Low Mem)',
    4: 'Subcortical + GWM (Low Mem, Slow)',
    6: 'Subcortical + GWM (Failsafe, Less Acc)',
}
PATIENCE = 600_000  # ms
TICKS = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('scans', type=Path, nargs='+')
    parser.add_argument('--models', nargs='+', default=['tissue', 'aseg'])
    parser.add_argument('--brainchop', type=Path, help="folder of brainchop's page")
    parser.add_argument('--theirs', type=int, nargs='+', default=[0, 2, 6], choices=THEIRS)
    options = parser.parse_args()
    print('| scan | page | network | s | CPU s | peak MB |\n|---|---|---|---|---|---|')
    for scan in options.scans:
        with ours() as address:
            for name in options.models:
                row(scan, 'brainchop-web', name, functools.partial(segment, address, scan, name))
        if options.brainchop:
            with folder(options.brainchop) as address:
                for place in options.theirs:
                    work = functools.partial(chop, address, scan, place)
                    row(scan, 'brainchop', THEIRS[place], work)


def row(scan: Path, page: str, network: str, work: Any) -> None:
    """Print one line of the table."""
    with sync_playwright() as playwright:
        arguments = ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
        program = shutil.which('chromium') or shutil.which('google-chrome')
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        opened = browser.new_page()
        opened.set_default_timeout(PATIENCE)
        faults: list[str] = []

        def refuse(dialog: Dialog) -> None:
            faults.append(dialog.message)
            dialog.dismiss()

        opened.on('dialog', refuse)
        with Watch() as watch:
            seconds, cpu = work(opened, faults)
        browser.close()
    figures = f'{seconds:.1f} | {cpu:.1f} | {watch.peak / 1e6:.0f}'
    cells = faults[0] if faults else figures
    print(f'| {scan.name} | {page} | {network} | {cells} |', flush=True)


def segment(address: str, scan: Path, name: str, page: Page, _: list[str]) -> tuple[float, float]:
    """Segment a scan by our page."""
    page.goto(address)
    page.wait_for_selector('body[data-ready]')
    page.set_input_files('#scan-file', str(scan))
    page.wait_for_selector('#segment:not(:disabled)')
    page.check(f'input[value="{name}"]')
    began, used = time.perf_counter(), processor()
    page.click('#segment')
    page.wait_for_selector('#results:not([hidden])')
    return time.perf_counter() - began, processor() - used


def chop(
    address: str, scan: Path, place: int, page: Page, faults: list[str]
) -> tuple[float, float]:
    """Segment a scan by brainchop's page."""
    page.route('**/t1_crop.nii.gz', lambda route: route.fulfill(body=scan.read_bytes()))
    page.goto(address)
    # Models are listed as soon as the scan is shown.
    page.wait_for_selector('#modelSelect option', state='attached')
    page.wait_for_timeout(2000)
    began, used = time.perf_counter(), processor()
    page.evaluate(
        'n => { modelSelect.selectedIndex = n; modelSelect.dispatchEvent(new Event("change")) }',
        place,
    )
    while not faults and 'finished' not in page.inner_text('#location'):
        page.wait_for_timeout(100)
        if (time.perf_counter() - began) * 1000 > PATIENCE:
            faults.append(f'not within {PATIENCE // 60_000} minutes')
    return time.perf_counter() - began, processor() - used


class Watch(threading.Thread):
    """Watches the memory of all processes of the browser."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.stopped = 0, threading.Event()

    def __enter__(self) -> 'Watch':
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join()

    def run(self) -> None:
        """Look at them until it is stopped."""
        while not self.stopped.wait(0.2):
            self.peak = max(self.peak, sum(map(proportional, browser_processes())))


def browser_processes() -> Iterator[Path]:
    """Return the folders in /proc of a browser's processes."""
    for path in Path('/proc').glob('[0-9]*'):
        try:
            if (path / 'comm').read_text().startswith('chrom'):
                yield path
        except OSError:
            continue


def proportional(path: Path) -> int:
    """Return the proportional set size of a process, bytes."""
    try:
        lines = (path / 'smaps_rollup').read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))


def processor() -> float:
    """Return the seconds of processor time that the browser's processes have used."""
    total = 0
    for path in browser_processes():
        try:
            fields = (path / 'stat').read_text().rpartition(')')[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


@contextmanager
def ours() -> Iterator[str]:
    """Serve our page."""
    command = [sys.executable, '-m', 'brainchop_bids.cli.web', '--port', '0', '--no-browser']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            yield next(word for word in line.split() if word.startswith('http://'))
        finally:
            server.terminate()


@contextmanager
def folder(path: Path) -> Iterator[str]:
    """Serve a folder."""
    handler = functools.partial(Silent, directory=str(path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


class Silent(http.server.SimpleHTTPRequestHandler):
    """Serves without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == '__main__':
    main()
