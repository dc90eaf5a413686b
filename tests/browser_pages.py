"""Pages in a real browser: Chromium, which records what a page asks of the network and says on the console."""

from __future__ import annotations

import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 400, "height": 860}
PAPER_PX = 718
"""Width of A4 less the margins of the page's style, at 96 pixels an inch."""
MANY_ROWS = {"exclude": [["#ranking-table tbody tr:nth-child(n+7)"]]}
"""What axe-core does not look at: further rows are like the first."""
WIDER = """limit => [...document.querySelectorAll('main *, header *')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width > 0 && box.right > limit + 1;
}).map(one => one.tagName + '.' + one.className + ' ' + one.textContent.slice(0, 30))"""


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: to be worked with.
        asked: what it asked of the network.
        said: messages and errors on the console, and dialogs.
    """

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def check_access(self, contrast: bool = True) -> None:
        """Nothing that axe-core calls moderate, serious or critical, on desk and phone, in light and dark.

        Args:
            contrast: whether colours are looked at, which takes long and is the same on all pages; without them light
                and dark are one.
        """
        rules = {"color-contrast": {"enabled": contrast}}
        options = {"resultTypes": ["violations"], "preload": False, "iframes": False, "rules": rules}
        for viewport in (DESK, PHONE):
            self.page.set_viewport_size(viewport)
            for scheme in ("light", "dark") if contrast else ("light",):
                self.page.emulate_media(color_scheme=scheme)
                found = Axe().run(self.page, context=MANY_ROWS, options=options).response["violations"]
                bad = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] != "minor"]
                assert bad == [], (viewport, scheme)
        self.page.emulate_media(color_scheme="light")

    def check_widths(self) -> None:
        """Nothing makes a phone scroll sideways, and nothing reaches beyond the paper."""
        self.page.set_viewport_size(PHONE)
        assert self.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        self.page.emulate_media(media="print")
        self.page.set_viewport_size({"width": PAPER_PX, "height": 1000})
        wider = self.page.evaluate(WIDER, PAPER_PX)
        assert wider == [], wider
        self.page.emulate_media(media="screen")
        self.page.set_viewport_size(DESK)

    def check_first_sheet(self) -> None:
        """The first printed page has text on it, on A4."""
        sheet = self.page.pdf(prefer_css_page_size=True, page_ranges="1")
        assert b"/MediaBox [0 0 594" in sheet or b"/MediaBox [0 0 595" in sheet
        assert text_drawn(sheet) > 20


def text_drawn(pdf: bytes) -> int:
    """How many pieces of text the pages of a PDF draw."""
    drawn = 0
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, flags=re.DOTALL):
        try:
            content = zlib.decompressobj().decompress(stream)
        except zlib.error:
            continue
        drawn += len(re.findall(rb"\bT[jJ]\b", content))
    return drawn


def need_chromium() -> None:
    """Skip where there is no Chromium, or fail where PLEXRANK_REQUIRE names it."""
    if not CHROMIUM:
        if "chromium" in os.environ.get("PLEXRANK_REQUIRE", "").split(","):
            pytest.fail("chromium is required and not there; apt-get install chromium")
        pytest.skip("chromium is not there; apt-get install chromium")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium, as long as it is needed."""
    need_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, **settings: Any) -> Iterator[Opened]:
    """A page in a window of its own.

    Args:
        path: of the page.
        settings: of the window, as Playwright has them.
    """
    context = browser.new_context(viewport=DESK, **settings)
    one = Opened(context.new_page())
    one.page.on("request", lambda request: one.asked.append(request.url))
    one.page.on("console", lambda message: one.said.append(message.text))
    one.page.on("pageerror", lambda error: one.said.append(str(error)))
    one.page.on("dialog", lambda dialog: (one.said.append(dialog.message), dialog.dismiss()))
    one.page.goto(path.as_uri())
    yield one
    context.close()
