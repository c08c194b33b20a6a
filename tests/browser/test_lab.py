"""The dashboard in JupyterLab as a person meets it: by the keyboard, in a browser, against a real kernel.

With `LLMLAB_SCREENSHOTS=DIR` the pages are kept as pictures, to be looked at.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
expect.set_options(timeout=60_000)

CELL = """
from llmlab.widgets import SweepDashboard
dashboard = SweepDashboard("timeouts")
dashboard.controls["calls"].value = 500
dashboard
"""
READY = "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.isReady"
DRAWN = """before => {
  const picture = document.querySelector('img.llmlab-picture');
  return picture && picture.naturalWidth > 10 && picture.src != before;
}"""
FOCUSED = """() => {
  const found = [];
  for (let it = document.activeElement; it; it = it.parentElement) found.push(...it.classList);
  return found.filter(name => name.startsWith('llmlab-'));
}"""
NAMELESS = """() => [...document.querySelectorAll('.llmlab-dashboard :is(select, input, textarea)')]
  .filter(it => it.offsetParent && !(it.labels?.length || it.ariaLabel || it.title || it.placeholder))
  .map(it => it.outerHTML)"""


def opened(page, lab, name):
    url, token = lab
    page.goto(f"{url}/doc/tree/{name}?token={token}&reset")
    page.wait_for_function(READY, timeout=90_000)
    return page


def fresh_notebook(page, lab):
    """Open an empty notebook with a kernel."""
    url, token = lab
    page.goto(f"{url}/lab?token={token}&reset")
    page.locator(".jp-LauncherCard").first.click(timeout=90_000)
    page.wait_for_function(READY, timeout=90_000)
    return page


def run_cell(page, code):
    """Write into the cell at the end, and run it; a new one follows it."""
    cell = last_cell(page)
    cell.locator(".cm-content").click()
    page.keyboard.insert_text(code.strip())
    page.keyboard.press("Shift+Enter")
    return cell


def last_cell(page):
    cells = page.locator(".jp-CodeCell")
    return cells.nth(cells.count() - 1)  # by its number: the last one is soon another


def run_sweep(page, values):
    """Go to sweep mode, say over which values of the first setting, and press Run."""
    page.get_by_role("button", name=re.compile("^(✓ )?sweep$")).click()  # marked where it is chosen already
    fill_in(page, values)
    page.get_by_role("button", name="Run", exact=True).click()


def fill_in(page, values):
    field = page.locator(".llmlab-values-1 input")
    field.fill(values)
    field.press("Enter")


def picture(page):
    return page.locator("img.llmlab-picture").get_attribute("src")


def drawn_anew(page, before):
    page.wait_for_function(DRAWN, arg=before, timeout=60_000)


def kept(page, name):
    if folder := os.environ.get("LLMLAB_SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"))


@pytest.fixture
def dashboard(lab, new_page):
    """Return a page with a dashboard that has drawn its first chart."""
    page = fresh_notebook(new_page(), lab)
    run_cell(page, CELL)
    drawn_anew(page, "")
    expect(page.locator(".llmlab-reading")).to_contain_text("answer")
    return page


def test_a_slider_moved_by_the_keyboard_redraws_the_chart_and_the_sentence(dashboard):
    page, before = dashboard, picture(dashboard)
    said = page.locator(".llmlab-reading").inner_text()
    knob = page.locator(".llmlab-timeout_probability .noUi-handle")
    knob.focus()
    for _ in range(10):
        knob.press("ArrowRight")
    expect(page.locator(".llmlab-timeout_probability .widget-readout")).to_have_text("0.30")
    drawn_anew(page, before)
    expect(page.locator(".llmlab-reading")).not_to_have_text(said)
    expect(page.locator(".llmlab-reading")).to_contain_text("30%")
    expect(page.locator(".llmlab-error")).to_have_text("")


def test_a_sweep_runs_fills_its_chart_and_can_be_cancelled(dashboard):
    page, before = dashboard, picture(dashboard)
    run_sweep(page, "0, 0.2")
    expect(page.locator(".llmlab-status")).to_have_text("done: 2 runs")
    drawn_anew(page, before)

    run_sweep(page, "0 to 0.6 in 1000")
    expect(page.locator(".llmlab-status")).to_have_text(re.compile(r"[1-9]\d* of 1000 runs"))
    drawn_anew(page, picture(page))
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.locator(".llmlab-status")).to_contain_text("cancelled after")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()
    said = page.locator(".llmlab-status").inner_text()
    done = int(re.search(r"\d+", said)[0])
    assert 0 < done < 1000, said
    cell = run_cell(page, "dashboard.wait()\nprint(len(dashboard.result.summary()), dashboard.result.interrupted)")
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text(f"{done} True")


def test_a_wrong_value_is_said_on_the_page_with_its_remedy(dashboard):
    page = dashboard
    run_sweep(page, "0, many")
    expect(page.locator(".llmlab-error-box")).to_contain_text("many")
    kept(page, "error")
    fill_in(page, "0, 0.1")
    expect(page.locator(".llmlab-error")).to_have_text("")


def test_the_code_that_it_gives_runs_in_a_new_cell(dashboard):
    page = dashboard
    page.get_by_text("Take it with you").click()
    code = page.locator(".llmlab-code textarea")
    code.focus()
    code.press("Control+a")
    code.press("Control+c")
    cell = last_cell(page)
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+v")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".jp-InputPrompt")).to_have_text("[2]:")
    answer = run_cell(
        page, "print(experiment == dashboard.experiment, experiment.run().calls.equals(dashboard.result.calls))"
    )
    expect(answer.locator(".jp-OutputArea-output")).to_have_text("True True")


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(dashboard):
    page = dashboard
    page.locator(".llmlab-situation select").focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names = page.evaluate(FOCUSED)
        reached.update(names)
        if "llmlab-pin" in reached:
            break
    wanted = {"client", "timeout_probability", "slots", "look-again", "mode", "question", "pin", "run"}
    assert {f"llmlab-{name}" for name in wanted} <= reached
    assert page.evaluate(NAMELESS) == []
    sliders = page.locator(".llmlab-dashboard .widget-slider")
    for number in range(sliders.count()):
        if sliders.nth(number).is_visible():
            assert sliders.nth(number).locator(".widget-label").inner_text().strip()


def test_the_whole_notebook_runs_after_a_restart(lab, new_page):
    page = opened(new_page(), lab, "dashboard.ipynb")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:restart-run-all') }")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.last).to_have_text(re.compile(r"\[\d+\]:"), timeout=120_000)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []


def test_the_interrupt_button_stops_a_call_and_the_kernel_goes_on(lab, new_page):
    page = fresh_notebook(new_page(), lab)
    patient = "attempt_timeout=None, total_timeout=None"
    endless = f"MockLLM(latency=3600.0, real_time=True, {patient}).generate('Hello')"
    cell = run_cell(page, f"from llmlab import MockLLM\nprint('asked')\n{endless}")
    expect(cell.locator(".jp-OutputArea-output").first).to_contain_text("asked")
    page.get_by_role("button", name="Interrupt the kernel").click()
    expect(cell.locator(".jp-OutputArea-output").last).to_contain_text("KeyboardInterrupt")
    after = run_cell(page, "MockLLM().generate('Hello').ok")
    expect(after.locator(".jp-OutputArea-output")).to_have_text("True")


def test_asyncio_run_works_in_queued_cells_once_it_is_enabled(lab, new_page):
    """The wrong patch hangs JupyterLab and no other client of a kernel: cells that wait behind the first never run."""
    page = fresh_notebook(new_page(), lab)
    run_cell(page, "from llmlab.notebook import enable_nested_asyncio\nprint(enable_nested_asyncio())")
    run_cell(page, "import asyncio\nfrom llmlab import AsyncMockLLM, MockLLM")
    runs = run_cell(page, "asyncio.run(AsyncMockLLM().generate('Hello')).ok")
    plain = run_cell(page, "MockLLM().generate('Hello').ok")
    awaited = run_cell(page, "(await AsyncMockLLM().generate('Hello')).ok")
    for cell in (runs, plain, awaited):
        expect(cell.locator(".jp-OutputArea-output")).to_have_text("True")
    expect(page.locator(".jp-CodeCell").first.locator(".jp-OutputArea-output")).to_contain_text("patched by nest_async")


def test_a_monitor_goes_on_while_a_cell_is_busy(lab, new_page):
    page = fresh_notebook(new_page(), lab)
    run_cell(
        page, "from llmlab import MockLLM\nfrom llmlab.widgets import LiveMonitor\nllm = MockLLM()\nLiveMonitor(llm)"
    )
    live = page.locator(".llmlab-live")
    expect(live).to_contain_text("in flight")
    busy = run_cell(page, "import time\nllm.generate('Hello')\ntime.sleep(600)")
    expect(live).to_contain_text("100.0% answered")
    expect(busy.locator(".jp-InputPrompt")).to_have_text("[*]:")
    kept(page, "monitor")
    page.get_by_role("button", name="Interrupt the kernel").click()
    expect(busy.locator(".jp-OutputArea-output").last).to_contain_text("KeyboardInterrupt")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [1280, 1920])
def test_the_page_fits_its_width_in_both_themes(lab, new_page, width, theme):
    page = fresh_notebook(new_page(width, 1400), lab)
    page.evaluate(
        f"() => {{ window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}}) }}"
    )
    expect(page.locator("body")).to_have_attribute("data-jp-theme-name", f"JupyterLab {theme}")
    run_cell(page, CELL)
    drawn_anew(page, "")
    expect(page.locator(".llmlab-reading")).to_contain_text("answer")
    kept(page, f"lab-{width}-{theme.lower()}")
    box = page.locator(".llmlab-dashboard")
    assert box.evaluate("it => it.scrollWidth - it.clientWidth") <= 1, "nothing is cut off or scrolls sideways"
    ink, paper = (
        box.locator(".llmlab-note").first.evaluate(f"it => getComputedStyle({of}).{what}")
        for of, what in (("it", "color"), ("document.querySelector('.jp-Notebook')", "backgroundColor"))
    )
    assert contrast(ink, paper) > 4.5, "WCAG 2.1, 1.4.3"


def contrast(first, second):
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
