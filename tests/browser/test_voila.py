"""`llmlab dashboard` and `llmlab lab` as they are started: the page works, and nobody gets it without the token."""

import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import environment_of_its_own

pytestmark = pytest.mark.browser


@contextmanager
def started(folder, *arguments):
    """Run a command of llmlab until it says where it serves; give that address, and end it as Ctrl-C does."""
    command = [sys.executable, "-m", "llmlab", *arguments, "--port", "0", "--no-browser"]
    environment = {**environment_of_its_own(folder), "PYTHONUNBUFFERED": "1"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        said = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\S+", said)):
            line = process.stdout.readline()
            assert line, said + (folder / "server.log").read_text()[-2000:]
            said += line
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("arguments", [["dashboard"], ["dashboard", "--dark"]], ids=["light", "dark"])
def test_the_dashboard_alone_works_behind_its_token(arguments, tmp_path, new_page):
    with started(tmp_path, *arguments) as url:
        page = new_page()
        page.goto(url)
        expect(page.locator(".llmlab-reading")).to_contain_text("answer", timeout=90_000)
        before = page.locator("img.llmlab-picture").get_attribute("src")
        knob = page.locator(".llmlab-timeout_probability .noUi-handle")
        knob.focus()
        for _ in range(10):
            knob.press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('img.llmlab-picture').src != before", arg=before, timeout=60_000
        )
        expect(page.locator(".llmlab-reading")).to_contain_text("30%", timeout=60_000)
        if folder := os.environ.get("LLMLAB_SCREENSHOTS"):
            page.screenshot(path=Path(folder, f"voila-{'-'.join(arguments)}.png"))
        stranger = new_page()
        stranger.goto(url.partition("?")[0])
        assert "/login" in stranger.url
        expect(stranger.locator(".llmlab-dashboard")).to_have_count(0)


def test_lab_opens_on_the_copied_notebooks_behind_its_token(tmp_path):
    with started(tmp_path, "lab", "mine", "--allow-root") as url:
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(url.partition("?")[0], timeout=30) as answer:
            assert "/login" in answer.url
    assert (tmp_path / "mine" / "quickstart.ipynb").is_file()
