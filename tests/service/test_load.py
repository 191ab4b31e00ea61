"""More than can be answered, and versions that come and go under load: what is taken is answered in time."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast.models.forecaster import Forecaster
from service.settings import Settings
from tests.service.builders import Registry, baseline, network, panel, request_body
from tests.service.live import listening

BODY = json.dumps(request_body()).encode()
ASK = b"POST /v1/forecasts HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
ROOT = Path(__file__).resolve().parents[2]


async def ask_again_and_again(
    address: tuple[str, int], until: float, found: Counter[int], taken: list[float]
) -> None:
    """One client that asks as soon as it has its answer, and a little later when it was refused."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        while time.monotonic() < until:
            begun = time.monotonic()
            writer.write(ASK)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            found[status] += 1
            if status == 200:
                taken.append(time.monotonic() - begun)
            else:
                assert b"retry-after: 1" in head.lower()
                await asyncio.sleep(0.02)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def load(address: tuple[str, int], *, clients: int, seconds: float) -> tuple[Counter[int], list[float]]:
    """The statuses, and how long the good answers took."""
    found: Counter[int] = Counter()
    taken: list[float] = []

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*[ask_again_and_again(address, until, found, taken) for _ in range(clients)])

    asyncio.run(run())
    return found, taken


@pytest.mark.slow
def test_under_ten_times_the_load_as_much_is_answered_and_in_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of which one pass takes 40 ms: it answers 8 series in each, 200 a second."""
    registry.add("air", "1", baseline(), "champion")
    values = Forecaster._values

    def slowly(self: Forecaster, *arguments: Any) -> Any:
        time.sleep(0.04)
        return values(self, *arguments)

    monkeypatch.setattr(Forecaster, "_values", slowly)
    monkeypatch.setattr("service.batching.MAX_ROWS", 8)
    settings = Settings(queue_rows=32, queue_seconds=0.2, hold_seconds=0.1)
    with listening(settings) as address:
        alone, _ = load(address, clients=8, seconds=3)
        found, taken = load(address, clients=400, seconds=6)
        after, _ = load(address, clients=1, seconds=0.5)
    assert alone[200] > 100
    assert set(alone) == {200}
    assert set(found) == {200, 503}
    assert found[503] > found[200], "nothing was refused, so that this was no overload"
    assert found[200] / 6 > 0.6 * alone[200] / 3
    if_all_waited = 400 / (found[200] / 6)
    assert float(np.quantile(taken, 0.95)) < if_all_waited / 2, "waiting grows with those who ask"
    assert set(after) == {200}


@pytest.mark.slow
def test_a_stop_in_the_middle_of_requests_answers_those_that_were_taken(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    found: Counter[int] = Counter()
    taken: list[float] = []

    async def run(address: tuple[str, int]) -> list[Any]:
        until = time.monotonic() + 30
        asking = [ask_again_and_again(address, until, found, taken) for _ in range(8)]
        return await asyncio.gather(*asking, return_exceptions=True)

    ended: list[Any] = []
    with listening(Settings()) as address:
        thread = threading.Thread(target=lambda: ended.extend(asyncio.run(run(address))))
        thread.start()
        time.sleep(1)
    thread.join(30)
    assert set(found) == {200}
    assert len(ended) == 8
    for end in ended:  # between two requests, and never within an answer
        assert isinstance(end, asyncio.IncompleteReadError | ConnectionError)
        assert not getattr(end, "partial", b"")


RELOADS = """
import asyncio, os
from service.manifest import Cache
from service.models import ModelStore
from service.settings import Settings
from tests.service.builders import Registry

def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

registry = Registry()
registry.manifest = Cache.of().read()
store = ModelStore(Settings(), registry.cache)
used = []
for turn in range(int(os.environ["RELOADS"])):
    registry.write(aliases={"air": {"champion": str(turn % 2 + 1)}})
    asyncio.run(store.refresh())
    assert store.snapshot.champions["air"].version == str(turn % 2 + 1)
    used.append(resident())
print(used[39], used[-1])
"""


@pytest.mark.slow
def test_two_hundred_reloads_take_no_memory(registry: Registry) -> None:
    registry.add("air", "1", network(panel(), backbone="lstm", hidden_size=64))
    registry.add("air", "2", network(panel(), backbone="gru", hidden_size=64))
    environment = {**os.environ, "RELOADS": "240"}
    done = subprocess.run(
        [sys.executable, "-c", RELOADS], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    early, late = map(float, done.stdout.split())
    assert late - early < 10, f"{early:.1f} MB after 40 reloads, {late:.1f} MB after 240"
    assert late < 250
