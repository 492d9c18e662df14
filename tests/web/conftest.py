"""A real browser: Debian's Chromium, without a window."""

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

PAGE = """<!doctype html><meta charset="utf-8"><pre id="answer"></pre><script>
const given = {given};
const answer = ({function})(given);
const bytes = new TextEncoder().encode(JSON.stringify(answer));
document.getElementById("answer").textContent = btoa(Array.from(bytes, (byte) => String.fromCodePoint(byte)).join(""));
</script>"""
ANSWER = re.compile(r'<pre id="answer">([A-Za-z0-9+/=]+)</pre>')
LIMIT_S = 120

InBrowser = Callable[[str, Any], Any]
"""Runs a JavaScript function of one argument in a page, and returns what it returns."""


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser's command."""
    command = shutil.which("chromium")
    assert command, "these tests need a browser: apt-get install chromium, or run ./scripts/test"
    return command


@pytest.fixture
def in_browser(chromium: str, tmp_path: Path) -> InBrowser:
    def run(function: str, given: Any) -> Any:
        page = tmp_path / "page.html"
        page.write_text(PAGE.format(given=json.dumps(given), function=function), encoding="utf-8")
        command = [chromium, "--headless", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
        if os.getuid() == 0:
            # Chromium can't build its sandbox as root; the page is the one above.
            command.append("--no-sandbox")
        outcome = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=LIMIT_S)
        found = ANSWER.search(outcome.stdout)
        assert found, f"the page gave no answer; Chromium said: {outcome.stderr[-2000:]}"
        return json.loads(base64.b64decode(found[1]))

    return run


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Yield the browser as Playwright drives it."""
    arguments = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


def given(variable: str) -> Path:
    """Return what scripts/test fetched before the network was taken away."""
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.exit(f"{variable} does not name what the tests need; run them with ./scripts/test", returncode=2)
    return Path(value)
