"""The site, built once, and pages in a real browser, which no request leaves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--no-sandbox",  # as root, in a container, there is none
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it; without one these tests are skipped, but not where CI is set.

    Playwright keeps an event loop running: it must not outlast a file, since tests in others start their own.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "the site's tests need Chromium: apt install chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Site(NamedTuple):
    """A built site: its folder, and what the build said."""

    folder: Path
    said: str

    def address(self, page: str) -> str:
        """Of a page such as `api/returns`, as a reader opens it: from a file."""
        return (self.folder / f"{page}.html").as_uri()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The documentation as `make site` builds it."""
    folder = tmp_path_factory.mktemp("site") / "pages"
    words = [sys.executable, "-m", "sphinx", "--quiet", "--keep-going", str(ROOT / "docs"), str(folder)]
    built = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    return Site(folder, built.stdout + built.stderr)
