"""A real JupyterLab on loopback and a real browser: what a person would sit in front of.

Nothing may leave the machine: the browser resolves no other host, and every test fails on a request that tried. All
folders of Jupyter are the test's own, so that nobody's settings have a say.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

# Only the extra `browser` brings Playwright. Without it there is no test to be found here: `pytest -m browser` fails.
collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
_FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
)
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def environment_of_its_own(folder):
    environment = dict(os.environ, JUPYTER_PREFER_ENV_PATH="1", no_proxy="127.0.0.1")
    for name in _FOLDERS:
        environment[name] = str(folder / name.lower())
        Path(environment[name]).mkdir()
    for plugin, settings in _SETTINGS.items():
        file = Path(environment["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", f"{plugin}.jupyterlab-settings")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
    return environment


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(command, environment, log, url):
    """Run a server until the block ends; it has begun when the URL answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        give_up_at = time.monotonic() + 90
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < give_up_at, log.read_text()[-2000:]
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Return the address and the token of a JupyterLab on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    environment = environment_of_its_own(folder)
    port, token = free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", "--expose-app-in-browser"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}"]
    url = f"http://127.0.0.1:{port}"
    with serving(command, environment, folder / "server.log", f"{url}/api/status?token={token}"):
        yield url, token


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("LLMLAB_CHROMIUM") or shutil.which("chromium")
    assert chromium, "these tests need Debian's Chromium: apt-get install chromium, or LLMLAB_CHROMIUM=its path"
    with sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS)
        yield driven
        driven.close()


@pytest.fixture
def new_page(browser):
    """Return a function that opens a page of a size and theme; no request of it may leave the machine."""
    contexts, left = [], []

    def opened(width=1280, height=1000, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: left.append(request.url) if leaves(request.url) else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert left == []


def leaves(url):
    return bool(re.match(r"(https?|wss?)://(?!127\.0\.0\.1[:/])", url))
