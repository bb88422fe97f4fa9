"""The one background thread. Long work goes through it, so that buttons stay quick."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable

NOW, TRAINING, AHEAD = 0, 1, 2  # a person waits | an update | completions for later


class Runner:
    """Runs jobs one at a time, the most urgent first, equals in order.

    A long job is cut into short ones that queue the next (an update, a batch of completions), so
    that what is urgent waits for one of them at most. An exception of a job goes to `on_error`
    of that job; without one it is kept in `error`.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Callable, Callable | None]] = []
        self._count = itertools.count()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = False
        self.error: BaseException | None = None

    def submit(
        self,
        job: Callable[[], None],
        priority: int = NOW,
        on_error: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Queue a job; returns at once."""
        with self._wake:
            heapq.heappush(self._queue, (priority, next(self._count), job, on_error))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="lab-runner")
                self._thread.start()
            self._wake.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the queue is empty and nothing runs; False if that took too long. A job that
        calls it gets False at once: the queue can't end before the job does."""
        if threading.current_thread() is self._thread:
            return False
        with self._wake:
            return self._wake.wait_for(lambda: not self._queue and not self._busy, timeout)

    def _work(self) -> None:
        import torch

        # The main thread's setting does not reach a thread that already runs.
        torch.set_num_threads(os.cpu_count() or 1)
        while True:
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._queue)
                _, _, job, on_error = heapq.heappop(self._queue)
                self._busy = True
            try:
                job()
            except BaseException as error:  # shown by whoever asked; the thread must live on
                if on_error is None:
                    self.error = error
                    continue
                try:
                    on_error(error)
                except BaseException as failure:
                    self.error = failure
