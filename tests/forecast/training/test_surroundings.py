"""What a training changes in its process is put back."""

import resource
import subprocess
import sys

FAULTS = """
import resource, torch
from contextlib import nullcontext
from forecast.training.surroundings import kept_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [torch.ones(12_000_000) for _ in range(2)]
def counted():
    step()
    before = faults()
    for _ in range(5):
        step()
    return faults() - before
with kept_memory():
    kept = counted()
usual = counted()
print(kept, usual)
"""


def test_large_buffers_are_used_again_during_a_training_and_given_back_after_it() -> None:
    ended = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, usual = map(int, ended.stdout.split())
    pages = 5 * 2 * 48_000_000 // resource.getpagesize()
    assert kept < 0.2 * pages
    assert usual > 0.5 * pages
