"""Finds a browser for the tests of the pages; `python tests/browser.py --install` brings one if
there is none.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str:
    """Path of a Chromium: INSTAB_CHROMIUM, else one on the PATH, else playwright's own; empty if
    there is none.
    """
    for candidate in (os.environ.get("INSTAB_CHROMIUM"), *NAMES):
        if candidate and (path := shutil.which(candidate)):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else ""


if __name__ == "__main__":
    if not find() and "--install" in sys.argv:
        print("no Chromium here; asking playwright for one", flush=True)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
    if not find():
        print(
            "no browser: the tests of the pages will be skipped "
            "(set INSTAB_CHROMIUM to the path of a Chromium)"
        )
