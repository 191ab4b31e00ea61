"""Things that tests of several packages build: where the real data lies, and tiny panels."""

from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The real data set `name` from the folder beside the checkout; skips the test where there is none."""
    path = _SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"needs the data set {name} in ../shared/data, which is not part of the repository")
    return path
