"""The cache folder between the watcher, which talks to MLflow, and the workers, which only read it.

cache/
    artifacts/<sha256>/             copies of artifact folders, named by their content
    registries/<registry>/
        manifest.json               what the registry says and where the copies are; replaced in one step
        watcher.lock                held by the watcher at work
        wanted/<question>.json      a worker asks for a model that it does not find
        wanted/<question>.answer    the watcher looked: the manifest is newer than the question
"""

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from forecast import home
from forecast.errors import ArtifactError

FORMAT = 1

CHAMPION = "champion"
"""The alias that a bare name means."""


@dataclass(frozen=True)
class Reference:
    """What a request calls a model: `name`, `name@alias` or `name/version`."""

    name: str
    alias: str | None = CHAMPION
    version: str | None = None

    @classmethod
    def parse(cls, asked: str) -> "Reference":
        """The parts of a reference; a version that is no number stands for none there is."""
        name, at, alias = asked.rpartition("@")
        if at:
            return cls(name, alias)
        name, slash, version = asked.rpartition("/")
        return cls(name, None, version) if slash else cls(asked)

    @classmethod
    def read(cls, path: Path) -> "Reference | None":
        """The reference in a question file; None where it cannot be read."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return f"{self.name}/{self.version}" if self.version is not None else f"{self.name}@{self.alias}"


@dataclass(frozen=True)
class Question:
    """A worker's question to the watcher, as a file."""

    path: Path

    @property
    def answer(self) -> Path:
        return self.path.with_suffix(".answer")

    def is_answered(self) -> bool:
        """Whether the watcher has looked since."""
        return self.answer.exists()

    def settle(self) -> None:
        """Answer it, in one step; nothing is left of a question that was withdrawn meanwhile."""
        with contextlib.suppress(OSError):
            os.replace(self.path, self.answer)

    def withdraw(self) -> None:
        """Take away the question and its answer, in this order: an answered one is no question any more."""
        self.path.unlink(missing_ok=True)
        self.answer.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class CachedVersion:
    """One version of a registered model whose artifact folder lies in the cache."""

    name: str
    version: str
    run_id: str | None
    digest: str
    """Names the folder in `artifacts/`: the sha256 of its content."""
    created: int
    """When the version was registered, in ms: a name that was deleted and made again repeats its numbers."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """The accuracy on unseen windows, from the version's tag `forecast.metrics`."""
    live: dict[str, float | None] = field(default_factory=dict)
    """The accuracy of its answers on what came, from the tag `forecast.live` of a champion."""
    runtime: dict[str, Any] = field(default_factory=dict)
    """What `service.measure` found here: runtime, parity, milliseconds; empty before, and for baselines."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the watcher last saw in the registry."""

    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name of the model: its aliases and their versions."""
    versions: tuple[CachedVersion, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """By name of the model: why a version that an alias names could not be copied."""
    previous: dict[str, str] = field(default_factory=dict)
    """By name of the model: the champion before this one, to fall back to when the new one is damaged."""
    known: dict[str, list[str]] = field(default_factory=dict)
    """By name of the model: versions that the registry has, looked up when one was asked for in vain."""

    def find(self, name: str, version: str) -> CachedVersion | None:
        """The copy of a version, or None."""
        return next((v for v in self.versions if (v.name, v.version) == (name, version)), None)


@dataclass(frozen=True)
class Cache:
    """The folders of one registry's cache, which several services may share."""

    root: Path
    registry: Path

    @classmethod
    def of(cls, models: Iterable[str] = ()) -> "Cache":
        """The cache of the registry in use (`home.tracking_uri`), limited to `models` where given."""
        key = "\n".join([home.tracking_uri(), *sorted(models)])
        root = home.cache_folder()
        return cls(root, root / "registries" / hashlib.sha256(key.encode()).hexdigest()[:16])

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def measured_file(self, digest: str) -> Path:
        """Where the measurement of a copy's runtimes is kept."""
        return self.artifacts / f"{digest}.runtime.json"

    @property
    def manifest_file(self) -> Path:
        return self.registry / "manifest.json"

    @property
    def lock_file(self) -> Path:
        return self.registry / "watcher.lock"

    @property
    def wanted(self) -> Path:
        return self.registry / "wanted"

    def folder(self, version: CachedVersion) -> Path:
        """The artifact folder of a copy."""
        return self.artifacts / version.digest

    def read(self) -> Manifest:
        """The manifest; an empty one where there is none. ArtifactError when it cannot be read."""
        try:
            content = json.loads(self.manifest_file.read_bytes())
            if content.pop("format", None) != FORMAT:
                return Manifest()  # written by another release: the watcher writes it anew
            versions = tuple(CachedVersion(**version) for version in content.pop("versions"))
            return Manifest(**content, versions=versions)
        except FileNotFoundError:
            return Manifest()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"the cache's {self.manifest_file} cannot be read: {error}") from error

    def write(self, manifest: Manifest) -> None:
        """Replace the manifest in one step."""
        write_atomically(self.manifest_file, {"format": FORMAT, **asdict(manifest)})

    def ask(self, reference: Reference) -> Question:
        """Put a question to the watcher."""
        question = Question(self.wanted / f"{uuid.uuid4().hex}.json")
        write_atomically(question.path, asdict(reference))
        return question

    def questions(self) -> list[Question]:
        """The questions that wait for an answer."""
        return [Question(path) for path in self.wanted.glob("[!.]*.json")]

    def has_watcher(self) -> bool:
        """Whether some process holds the watcher's lock."""
        from filelock import FileLock, Timeout

        if not self.lock_file.exists():
            return False
        try:
            with FileLock(self.lock_file, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the manifest was replaced; (0, 0) where there is none."""
        try:
            found = self.manifest_file.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns


def write_atomically(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def digest_of(folder: Path) -> str:
    """The sha256 of a folder's files: their names and contents, in order."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return whole.hexdigest()
