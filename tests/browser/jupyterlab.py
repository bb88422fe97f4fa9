"""The real JupyterLab in headless Chromium, with no network: what the browser tests drive."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, sync_playwright

from lab.start import jupyterlab_command

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a widget that needs a CDN fails
]
KERNEL = "window.jupyterapp?.shell.currentWidget?.context?.sessionContext?.session?.kernel"
RUN_CELL = """(i) => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  notebook.deselectAll(); notebook.activeCellIndex = i;
  return window.jupyterapp.commands.execute('notebook:run-cell');
}"""


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def run(self, cell: int, timeout: float = 120) -> None:
        """Run a cell and wait until it has ended."""
        self.page.evaluate(RUN_CELL, cell)
        self.page.wait_for_function(f"() => {KERNEL}.status === 'idle'", timeout=timeout * 1e3)

    def code_cell(self, text: str) -> int:
        """The index of the code cell that holds a text."""
        return self.page.evaluate(
            """(text) => window.jupyterapp.shell.currentWidget.content.widgets.findIndex(
              (w) => w.model.type === 'code' && w.model.sharedModel.getSource().includes(text))""",
            text,
        )

    def points(self, name: str) -> list[float]:
        """The y values of a trace on the page, by its name."""
        return self.page.evaluate(
            """(name) => {
              for (const plot of document.querySelectorAll('.js-plotly-plot'))
                for (const trace of plot.data)
                  if (trace.name === name) return Array.from(trace.y ?? []);
              return [];
            }""",
            name,
        )

    def kernel_id(self) -> str:
        return self.page.evaluate(f"() => {KERNEL}.id")


@contextmanager
def jupyterlab(root: Path, scratch: Path, **environment: str) -> Iterator[str]:
    """A server on loopback for the folder `root`; yields its address."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {f"JUPYTER_{k}_DIR": str(scratch / k) for k in ("CONFIG", "RUNTIME")}
    env |= {f"JUPYTERLAB_{k}_DIR": str(scratch / k) for k in ("SETTINGS", "WORKSPACES")}
    news = scratch / "SETTINGS" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)  # else it asks about news, above what is to be seen
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    command = [*jupyterlab_command(root, port), "--no-browser", "--IdentityProvider.token="]
    command.append("--LabApp.expose_app_in_browser=True")
    with (scratch / "server.log").open("w") as log:
        server = subprocess.Popen(
            command,
            env=env | environment,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(f"{address}/api", timeout=1):
                    break
            except OSError:
                time.sleep(0.25)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def browser_page(chromium: str, width: int = 1280, height: int = 1500) -> Iterator[Page]:
    """A page of a new browser."""
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        try:
            yield browser.new_context(viewport={"width": width, "height": height}).new_page()
        finally:
            browser.close()


def open_notebook(page: Page, address: str, name: str) -> Notebook:
    """Open a notebook and wait for its kernel."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function(f"() => {KERNEL}?.status === 'idle'", timeout=60_000)
    return Notebook(page)


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook of these code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


def set_theme(page: Page, theme: str) -> None:
    """ "light" or "dark"."""
    name = f"JupyterLab {theme.title()}"
    page.evaluate(
        "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", name
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
    page.wait_for_timeout(500)


def barriers(page: Page, selector: str) -> list[str]:
    """What axe-core finds in the elements of a selector that is serious or critical."""
    axe = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        reason = "no axe-core: npm install --prefix tests/browser"
        if os.environ.get("LAB_FORBID_SKIPS"):
            pytest.fail(reason)
        pytest.skip(reason)
    page.evaluate(axe.read_text("utf-8") + "; window.axe = axe;")
    found = page.evaluate(
        """async (selector) => (await axe.run({ include: [[selector]] })).violations
             .filter((v) => ['serious', 'critical'].includes(v.impact))
             .map((v) => `${v.id}: ${v.help} (${v.nodes.map((n) => n.html + ' ' +
               (n.any[0]?.message ?? '')).slice(0, 3).join(' | ')})`)""",
        selector,
    )
    return found


def kernel_pid(kernel_id: str) -> int:
    """The process of a kernel, found by the connection file in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if re.search(rf"kernel-{kernel_id}\.json", line):
            return int(path.parent.name)
    raise LookupError(kernel_id)
