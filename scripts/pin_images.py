"""Writes deploy/constraints-IMAGE.txt: all that an image installs, as constraints.txt pins it.

Run it after that file has changed. The closure is read from the packages installed here; torch is not among
them, because its build is chosen with the image.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image installs: extras of this project, and what is different from them."""

    extras: tuple[str, ...] = ()
    base: bool = True
    more: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    """Never imported by what the image runs."""


IMAGES = {
    # a registry's client in place of all of MLflow; statsforecast serves AutoETS and AutoTheta
    "service": Image(
        extras=("service",),
        more=("mlflow-skinny", "statsforecast"),
        without=("mlflow", "scikit-learn", "jaxtyping"),
    ),
    "pipelines": Image(extras=("pipelines",)),
    "mlflow": Image(base=False, more=("mlflow", "psycopg[binary]", "flask-wtf", "boto3")),
}


def name_of(requirement: Requirement) -> str:
    """The name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


def wanted(image: Image) -> Iterator[Requirement]:
    """What the image asks for itself."""
    lines = [*(PROJECT["dependencies"] if image.base else []), *image.more]
    lines += [line for extra in image.extras for line in PROJECT["optional-dependencies"][extra]]
    yield from map(Requirement, lines)


def closure(requirements: Iterable[Requirement], *, without: Iterable[str]) -> set[str]:
    """The names of all that is installed with some requirements."""
    left_out = {*without, "torch"}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        one = waiting.pop()
        key = (name_of(one), frozenset(one.extras))
        if key in seen or key[0] in left_out:
            continue
        seen.add(key)
        waiting += needs(one)
    return {name for name, _ in seen} - {"forecast"}


def needs(requirement: Requirement) -> Iterator[Requirement]:
    """What a requirement asks for on this platform."""
    if name_of(requirement) == "forecast":
        yield from (
            Requirement(line)
            for extra in requirement.extras
            for line in PROJECT["optional-dependencies"][extra]
        )
        return
    for line in importlib.metadata.requires(requirement.name) or []:
        found = Requirement(line)
        extras = requirement.extras or {""}
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras):
            yield found


def pins(image: Image) -> str:
    """The content of an image's file; KeyError names a package that constraints.txt does not pin."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    names = closure(wanted(image), without=image.without)
    return "".join(f"{name}=={pinned[name]}\n" for name in sorted(names))


def file_of(name: str) -> Path:
    """Where an image's pins are kept."""
    return ROOT / "deploy" / f"constraints-{name}.txt"


if __name__ == "__main__":
    for each, image in IMAGES.items():
        file_of(each).write_text(pins(image))
        print(f"{file_of(each).relative_to(ROOT)}: {len(pins(image).split())} packages")
