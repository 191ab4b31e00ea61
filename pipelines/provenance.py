"""Which code made a model: packages, revision and device, as tags that a run and a version carry."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from forecast import __version__

PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "statsforecast", "mlflow", "onnxruntime")


@lru_cache(maxsize=1)
def code() -> dict[str, str]:
    """Versions of the packages that decide numbers, and the git revision where we run from a checkout."""
    tags = {"forecast.package_version": __version__, "forecast.python": platform.python_version()}
    for name in PACKAGES:
        try:
            tags[f"forecast.packages.{name}"] = version(name)
        except PackageNotFoundError:
            continue
    if revision := git_revision(Path(__file__).resolve().parents[1]):
        tags |= {"forecast.git_revision": revision, "mlflow.source.git.commit": revision.partition("+")[0]}
    return tags


def git_revision(folder: Path) -> str | None:
    """The commit of a checkout, with "+changes" where files differ from it; None outside of one."""
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changed = commit and _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if changed else commit


def device(asked: str) -> str:
    """Where networks are trained: as asked, or what `auto` comes to, with the name of a GPU."""
    import torch

    if asked == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda ({torch.cuda.get_device_name()})"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
