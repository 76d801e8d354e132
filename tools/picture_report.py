"""Take the picture of a report that README shows, from its top to the viewer.

make demo && python tools/picture_report.py demo/derivatives/sub-06.html docs/report.webp
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def picture(page: Path, width: int = 1100) -> Image.Image:
    """Return what Chromium shows of a page above its viewer."""
    program = shutil.which('chromium') or shutil.which('google-chrome')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
        tab = browser.new_page(viewport={'width': width, 'height': 1000}, color_scheme='light')
        tab.goto(page.resolve().as_uri(), wait_until='load')
        end = tab.get_by_role('heading', name='Viewer').first.bounding_box()
        if end is None:
            raise SystemExit(f'{page}: no viewer is shown')
        clip = {'x': 0, 'y': 0, 'width': width, 'height': end['y'] - 8}
        data = tab.screenshot(full_page=True, clip=clip)
        browser.close()
    return Image.open(io.BytesIO(data)).convert('RGB')


if __name__ == '__main__':
    picture(Path(sys.argv[1])).save(sys.argv[2], quality=80, method=6)
