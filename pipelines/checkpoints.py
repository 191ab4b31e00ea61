"""What an interrupted retrain leaves behind, so that the same command goes on where it stood."""

import shutil
from pathlib import Path

from forecast import home


def folder(recipe: str, identity: str) -> Path:
    """Where trainings of this recipe, data and package keep checkpoints; those of others are removed."""
    own = _root(recipe) / identity[:32]
    if _root(recipe).is_dir():
        for other in _root(recipe).iterdir():
            if other != own:
                shutil.rmtree(other, ignore_errors=True)
    return own


def forget(recipe: str) -> None:
    """Remove what a finished retrain needs no more."""
    shutil.rmtree(_root(recipe), ignore_errors=True)


def _root(recipe: str) -> Path:
    return home.home() / "checkpoints" / recipe
