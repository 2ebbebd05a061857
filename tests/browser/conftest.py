"""Debian's Chromium, driven by Playwright, on files: nothing is served and nothing is fetched."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """A browser; where there is none the tests skip, except in CI."""
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if found is None:
        reason = "expected chromium-headless-shell or chromium on the path (Debian has packages)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium):
    """Open a file at a size and in a scheme; the page must say nothing on its console."""
    contexts, said, asked = [], [], []

    def open_(path, width=1280, scheme="light", anchor=""):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri() + anchor)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []
    others = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert others == []
    assert len(asked) - len([u for u in asked if u.startswith("data:")]) == len(contexts)
