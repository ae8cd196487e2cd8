"""What becomes of memory once a version is unloaded."""

import gc
import subprocess
import sys
import threading
import weakref

from waiting import WAIT_SECONDS

from serving import memory
from serving.core.clock import SystemClock
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.memory import MemoryReturn


class Knot:
    """Refers to itself: only the collector frees it."""

    def __init__(self, freed):
        self.me = self
        weakref.finalize(self, freed.set)


def test_what_an_unloaded_version_leaves_is_collected(monkeypatch):
    monkeypatch.setattr(memory, "_GATHER_SECONDS", 0.01)
    freed, bus = threading.Event(), EventBus()
    memory_return = MemoryReturn(bus, SystemClock())
    memory_return.start()
    gc.disable()
    try:
        Knot(freed)
        bus.publish(ServableState(ServableId("m", 1), ManagerState.END))

        assert freed.wait(WAIT_SECONDS)
    finally:
        gc.enable()
        memory_return.stop()


PROGRAM = """
import resource, sys
from serving import memory

def pages_taken():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [bytearray(600_000) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "set up":
    memory.set_up()
[bytearray(600_000) for _ in range(8)]
print(pages_taken())
"""


def pages_taken(how, **environment):
    """Page faults of fifty requests with tensors of 600 kB, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, how]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(ended.stdout)


def test_large_blocks_are_used_again_without_new_pages():
    assert pages_taken("set up") < 1_000
    assert pages_taken("as it is") > 20_000


def test_the_operators_own_choice_for_malloc_stands():
    assert pages_taken("set up", MALLOC_TRIM_THRESHOLD_="131072") > 20_000


YOUNG = """
import gc
from serving import memory

memory.set_up()
before = [generation["collections"] for generation in gc.get_stats()]
in_progress = [[] for _ in range(10_000)]
assert [generation["collections"] for generation in gc.get_stats()] == before
"""


def test_the_collector_does_not_look_at_some_hundred_requests_in_progress():
    subprocess.run([sys.executable, "-c", YOUNG], check=True)
