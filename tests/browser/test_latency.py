"""How soon the page answers while SmolLM2 trains on all cores. The figures are printed, and kept
beside the screenshots; what is asserted is what a person would call broken."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from laboratory import Laboratory, laboratory

pytestmark = [pytest.mark.browser, pytest.mark.model]
OPENING = """import lab
study = lab.Experiment("s")
study.session().simulate("cheerful", 8)
study.completions.ensure(study.session().upcoming()[:40])
study.completions.pool()"""
CLICKS, RANKINGS = 40, 15
TIMED = """async ([click, done]) => {
  const start = performance.now();
  document.querySelector(click).click();
  while (!eval(done)) {
    if (performance.now() - start > 60_000) throw new Error(`a minute after ${click}: ${done}`);
    await new Promise((ready) => setTimeout(ready, 2));
  }
  return (performance.now() - start) / 1000;
}"""
WATCH = """() => {
  window.plotted = [];
  let seen = 0;
  setInterval(() => {
    const points = document.querySelector('.js-plotly-plot')?.data?.[0]?.y?.length ?? 0;
    if (points > seen) window.plotted.push(Date.now() / 1000);
    seen = points;
  }, 5);
}"""


def in_words(name: str, seconds: list[float]) -> str:
    p50, p95 = np.percentile(seconds, [50, 95])
    return f"{name}: median {p50:.3f} s, p95 {p95:.3f} s, max {max(seconds):.3f} s, {len(seconds)}×"


def watch_updates(path: Path, ended: list[float], stop: threading.Event) -> None:
    """Note when a line comes to a run's metrics: an update has ended."""
    seen = 0
    while not stop.is_set():
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        if lines > seen:
            ended.append(time.time())
        seen = lines
        time.sleep(0.005)


def timed(lab: Laboratory, click: str, done: str) -> float:
    return lab.page.evaluate(TIMED, [click, done])


def test_the_page_answers_at_once_while_a_model_trains(tmp_path, chromium, shots) -> None:
    cells = ["study.ppo(batch_size=16)", "study.rank(rankings=60, rater='me')"]
    with laboratory(tmp_path, chromium, "", cells, opening=OPENING) as lab:
        lab.notebook.run(1)
        lab.says("Press Step", 120)
        lab.notebook.run(2)
        lab.asked()
        lab.page.evaluate(WATCH)
        ended, stop = [], threading.Event()
        path = lab.folder / "ppo-1" / "metrics.jsonl"
        threading.Thread(target=watch_updates, args=(path, ended, stop), daemon=True).start()
        lab.page.evaluate(
            """() => [...document.querySelectorAll('button')].forEach((b) => {
                 if (['Run', 'Pause'].includes(b.textContent.trim())) b.id = b.textContent.trim();
               })"""
        )
        running = "!document.querySelector('#Pause').disabled"
        timed(lab, "#Run", running)
        lab.page.wait_for_timeout(3_000)

        clicks = []
        for _ in range(CLICKS // 2):
            clicks.append(timed(lab, "#Pause", "document.querySelector('#Pause').disabled"))
            clicks.append(timed(lab, "#Run", running))
            lab.page.wait_for_timeout(300)
        rankings = []
        for _ in range(RANKINGS):
            prompt = lab.asked()
            next_one = (
                f"document.querySelector('.lab-prompt').textContent !== {prompt!r} && "
                "document.querySelector('.lab-board').getAttribute('aria-busy') === 'false'"
            )
            rankings.append(timed(lab, ".lab-board .lab-primary", next_one))
            lab.page.wait_for_timeout(1_200)
        for _ in range(600):
            if len(ended) >= 8:
                break
            lab.page.wait_for_timeout(500)
        lab.page.wait_for_timeout(1_500)
        stop.set()
        drawn = lab.page.evaluate("() => window.plotted")
        plotted = [page - end for page, end in zip(drawn, ended, strict=False)]
        figures = [
            in_words("click to acknowledged", clicks),
            in_words("update ended to plotted", plotted),
            in_words("ranking submitted to next prompt", rankings),
        ]
        print("", *figures, sep="\n")
        (shots / "latency.txt").write_text("\n".join(figures) + "\n")
        assert np.median(clicks) < 1 and np.median(plotted) < 1 and np.median(rankings) < 1
