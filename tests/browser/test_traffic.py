"""A run that prints as fast as it can: what it costs the browser and the kernel."""

from __future__ import annotations

import statistics

from playwright.sync_api import expect

from tests.browser.conftest import Opener
from tests.browser.servers import Server
from tests.browser.test_controlling import LOAD
from tests.repeats import on_lab_and_in_full_on_both

FLOOD = """%%flow flood
number = 0
while True:
    print("number", number, "and so on for a line of an ordinary length, as one would print it")
    number += 1
"""
FRAME_GAPS = """
(seconds) => new Promise((resolve) => {
    const gaps = [];
    const begun = performance.now();
    let last = begun;
    const frame = () => {
        const now = performance.now();
        gaps.push(now - last);
        last = now;
        if (now - begun < seconds * 1000) requestAnimationFrame(frame); else resolve(gaps);
    };
    requestAnimationFrame(frame);
})
"""
SECONDS = 5
FRAMES_A_SECOND = 20.5
BYTES_A_SECOND = 1_000_000
GAP = 200  # ms, the 95th percentile


@on_lab_and_in_full_on_both
def test_a_flood_of_prints_freezes_nothing(open_notebook: Opener, server: Server) -> None:
    """Whatever a run prints: 20 pushes and 1 MB a second, a lively page, and a free kernel."""
    server.write("flood.ipynb", [LOAD, FLOOD, "1 + 1"])
    page = open_notebook(server, "flood.ipynb")
    page.run_cell(0)
    page.run_cell(1)
    view = page.view(1)
    view.wait_for_lines(1000)

    pushes, frames = len(page.traffic.pushes()), len(page.traffic.received)
    gaps = page.page.evaluate(FRAME_GAPS, SECONDS)
    took = sum(gaps) / 1000
    pushes = len(page.traffic.pushes()) - pushes
    heard = sum(map(len, page.traffic.received[frames:]))
    slowest = statistics.quantiles(gaps, n=20)[-1]
    drawn = page.page.locator(".jf-line").count()
    print(
        f"{pushes / took:.1f} pushes/s, {heard / took / 1e6:.2f} MB/s, "
        f"95 % of frames within {slowest:.0f} ms, {drawn} lines drawn of {view.line_count():,}"
    )
    assert pushes / took <= FRAMES_A_SECOND
    assert heard / took <= BYTES_A_SECOND
    assert slowest < GAP
    assert drawn < 100

    page.run_cell(2)
    assert page.output(2).endswith("2")
    took_to_cancel = view.timed_click("Cancel", "CANCELLED")
    print(f"cancelled after {took_to_cancel:.0f} ms")
    expect(view.line(view.line_count() - 1)).to_be_visible()
