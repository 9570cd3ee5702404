"""Eight workers in processes of their own, killed at any moment: nothing that was put is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rootstream_store import Store, WorkQueue
from rootstream_store.errors import Unavailable

from ..cache.conftest import OwnValkey
from ..waiting import until

JOBS = 400
WORKERS = 8
_ROOT = Path(__file__).parents[2]


class Crew:
    """The workers; those that were killed are replaced."""

    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments
        self.done: Counter[int] = Counter()
        self.killed = 0
        self.listeners: list[threading.Thread] = []
        self.workers = [self.hire() for _ in range(WORKERS)]

    def hire(self) -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.work.worker", *self.arguments],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        listener = threading.Thread(target=self.listen, args=(worker,), daemon=True)
        listener.start()
        self.listeners.append(listener)
        return worker

    def listen(self, worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        with worker.stdout as lines:
            for line in lines:
                # A last line may have been cut short by the kill.
                if line.endswith("\n"):
                    self.done[int(line)] += 1

    def kill_one(self) -> None:
        number = random.randrange(WORKERS)
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()
        self.killed += 1
        self.workers[number] = self.hire()

    def dismiss(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        for listener in self.listeners:
            listener.join(10)


def test_no_job_is_lost_when_workers_are_killed(database_url: str, redis_url: str) -> None:
    with Store.open(database_url, redis_url) as store, WorkQueue(store, "soak", int) as queue:
        for number in range(JOBS // 2):
            queue.put(number)
        crew = Crew(database_url, redis_url, "soak")
        try:
            until(lambda: crew.done, "the first job", 60)
            for number in range(JOBS // 2, JOBS):
                queue.put(number)
                if number % 20 == 0:
                    crew.kill_one()
            until(lambda: len(crew.done) == JOBS, "all jobs", 90)
            until(lambda: queue.stats().in_hands == queue.stats().ready == 0, "all to be done", 30)
            assert queue.stats().dead == 0
            assert crew.killed == JOBS // 2 // 20
            # At least once, and hardly ever more often than that: each kill may cost one repetition.
            assert sum(crew.done.values()) - JOBS <= 2 * crew.killed
        finally:
            crew.dismiss()


def test_workers_live_through_an_outage(database_url: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="rsw-"))
    valkey = OwnValkey(directory)
    valkey.start()
    try:
        with Store.open(database_url, valkey.url, redis_retry_after=0.1) as store:
            queue = WorkQueue(store, "outage", int)
            done: list[int] = []

            def work() -> None:
                while len(done) < 20:
                    job = queue.take(None)
                    assert job is not None
                    done.append(job.payload)
                    job.done()

            worker = threading.Thread(target=work, daemon=True)
            worker.start()
            for number in range(10):
                queue.put(number)
            until(lambda: len(done) == 10, "the first ten")
            valkey.freeze()
            time.sleep(0.5)  # nothing to wait for: the worker waits, and must not end
            assert worker.is_alive()
            valkey.thaw()
            for number in range(10, 20):
                until(lambda: put(queue, number), "a job to be put")  # noqa: B023  # called at once
            worker.join(20)
            assert not worker.is_alive()
            assert set(done) == set(range(20))
            queue.close()
    finally:
        valkey.kill()
        shutil.rmtree(directory, ignore_errors=True)


def put(queue: WorkQueue[int], number: int) -> bool:
    try:
        queue.put(number, job_id=str(number))
    except Unavailable:
        return False
    return True
