from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pertinent.serving.problems import Refusal
from pertinent.serving.queueing import Queue


def test_work_runs_one_at_a_time_in_order() -> None:
    async def many() -> list[int]:
        queue, done = Queue(10), []
        running = threading.Lock()

        def work(k: int) -> None:
            assert running.acquire(blocking=False)
            time.sleep(0.002)
            done.append(k)
            running.release()

        await asyncio.gather(*(queue.run(lambda k=k: work(k), 5.0) for k in range(10)))
        queue.close()
        return done

    assert asyncio.run(many()) == list(range(10))


def test_a_full_queue_refuses_at_once_and_admitted_work_is_done() -> None:
    async def crowd() -> list[object]:
        queue, gate = Queue(2), threading.Event()
        admitted = [asyncio.create_task(queue.run(lambda: gate.wait(5), 5.0)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="the queue is full: 2 requests") as refused:
            await queue.run(lambda: None, 5.0)
        assert not any(task.done() for task in admitted)  # it waited for neither
        assert (refused.value.status, refused.value.headers) == (503, {"retry-after": "1"})
        gate.set()
        results = [result for result, _ in await asyncio.gather(*admitted)]
        assert queue.admitted == 0
        assert await queue.run(lambda: "free again", 5.0)
        queue.close()
        return results

    assert asyncio.run(crowd()) == [True, True]


def test_a_deadline_in_the_queue_is_kept_and_the_work_never_begins() -> None:
    async def late() -> tuple[float, list[str]]:
        queue, gate, begun = Queue(5), threading.Event(), []
        first = asyncio.create_task(queue.run(lambda: gate.wait(5), 5.0))
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        with pytest.raises(Refusal, match="the deadline passed in the queue"):
            await queue.run(lambda: begun.append("late"), 0.05)
        spent = time.perf_counter() - began
        assert not first.done()  # it did not wait for the one before
        gate.set()
        await first
        queue.close()
        return spent, begun

    spent, begun = asyncio.run(late())
    assert spent > 0.04
    assert begun == []


def test_a_deadline_shorter_than_the_expected_wait_is_refused_at_once() -> None:
    async def expected() -> None:
        queue, gate = Queue(5), threading.Event()
        queue.service_s = 2.0
        first = asyncio.create_task(queue.run(lambda: gate.wait(5), 5.0))
        await asyncio.sleep(0.01)
        with pytest.raises(Refusal, match="the deadline would pass in the queue") as refused:
            await queue.run(lambda: None, 0.5)
        assert refused.value.headers["retry-after"] == "2"
        gate.set()
        await first
        queue.close()

    asyncio.run(expected())


def test_an_error_of_the_work_reaches_the_caller_and_frees_its_place() -> None:
    async def broken() -> int:
        queue = Queue(1)
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: 1 // 0, 1.0)
        queue.close()
        return queue.admitted

    assert asyncio.run(broken()) == 0
