"""What a training changes in its process is put back."""

import subprocess
import sys

MEMORY = """
import resource, torch
from pathlib import Path
from forecast.training.surroundings import kept_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
def step():
    return [torch.ones(12_000_000) for _ in range(2)]
with kept_memory():
    for _ in range(20):  # until the free pieces are large enough
        step()
    before = faults()
    for _ in range(5):
        step()
    print(faults() - before, resident())
print(resident(), 12_000_000 * 4 // resource.getpagesize())
"""


def test_large_buffers_are_used_again_during_a_training_and_given_back_after_it() -> None:
    ended = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    faults, held, left, pages = map(int, ended.stdout.split())
    assert faults < 0.1 * pages
    assert left < held - 1.8 * pages
