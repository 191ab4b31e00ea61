"""Which model answers: reads the cache folder, loads, verifies, warms, and swaps one reference."""

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from forecast.errors import ArtifactError, ForecastError, NotFoundError
from forecast.models.artifact import load
from forecast.models.forecaster import Forecaster
from service.errors import problem
from service.manifest import CHAMPION, Cache, CachedVersion, Manifest, Reference, digest_of
from service.settings import Settings
from service.warm import warm

log = logging.getLogger("service")

LOOK_SECONDS = 0.25
"""How often the manifest is looked at; a look is one `stat`."""
ANSWER_SECONDS = 0.03
"""How often a request that waits for the watcher looks for its answer."""
MAX_OTHERS = 8
"""Versions beside the champions that stay in memory, the least recently used goes first."""
MAX_QUESTIONS = 64
"""Requests that may wait for the watcher at a time."""

_PLAIN = re.compile(r"[\w.@/ -]{1,80}")


@dataclass(frozen=True, kw_only=True)
class Served:
    """One loaded version of a registered model."""

    name: str
    version: str
    run_id: str | None
    digest: str
    forecaster: Forecaster
    metrics: dict[str, float | None] = field(default_factory=dict)
    """The accuracy on unseen windows that the registry keeps of it."""
    live: dict[str, float | None] = field(default_factory=dict)
    """The accuracy of its answers on what came, where `forecast monitor` looked."""
    runtime: str = "auto"
    """What it was loaded by: onnx, torch, or auto where nothing was set or measured."""
    measured: dict[str, Any] = field(default_factory=dict)
    """What was measured of its runtimes."""
    loaded_at: float = field(default_factory=time.time)
    heads: dict[tuple[str | None, int], bytes] = field(default_factory=dict, repr=False, compare=False)
    """The beginnings of answers by alias and horizon, as they were written first."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that serves at one moment; replaced as a whole."""

    manifest: Manifest = field(default_factory=Manifest)
    champions: dict[str, Served] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def version_of(self, reference: Reference) -> str | None:
        """The version that a reference means, or None where the registry was not seen to have it."""
        if reference.alias is None:
            return reference.version or None
        return self.manifest.aliases.get(reference.name, {}).get(reference.alias)

    def aliases_of(self, served: Served) -> list[str]:
        """The aliases of a version, sorted."""
        aliases = self.manifest.aliases.get(served.name, {})
        return sorted(alias for alias, version in aliases.items() if version == served.version)


class ModelStore:
    """The models that answer. One per process; methods are called on its event loop."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self.settings = settings
        self.cache = cache
        self.snapshot = Snapshot()
        self.on_load: Callable[[bool], None] = lambda succeeded: None
        self._stamp: tuple[int, int] | None = None
        self._others: OrderedDict[str, Served] = OrderedDict()
        self._loading = asyncio.Lock()
        self._questions: dict[str, asyncio.Task[None]] = {}
        self._following: asyncio.Task[None] | None = None
        self._is_confirmed = False

    async def start(self) -> None:
        """Load what the cache holds and follow it from then on; a slow load goes on in the background."""
        self._following = asyncio.create_task(self._follow())
        first = asyncio.create_task(self.refresh())
        await asyncio.wait([first], timeout=5)

    async def stop(self) -> None:
        """Stop following."""
        for task in [self._following, *self._questions.values()]:
            if task is not None:
                task.cancel()

    @property
    def has_looked(self) -> bool:
        """Whether the cache was read since the start."""
        return self._stamp is not None

    async def refresh(self) -> None:
        """Bring the snapshot up to the manifest; what cannot be used becomes a problem of the snapshot."""
        async with self._loading:
            stamp = self.cache.stamp()
            if stamp != self._stamp:
                self.snapshot = await asyncio.to_thread(self._next, self.snapshot)
                self._stamp = stamp

    async def resolve(self, asked: str) -> tuple[Served, str | None]:
        """The version that a reference means now, and the alias it was asked by.

        What is not known here is looked up in the registry by the watcher before NotFoundError is raised.
        """
        reference = Reference.parse(asked)
        await self._confirm()
        found = self._loaded(reference) or await self._load_copy(reference)
        if found is None and await self._ask(reference):
            await self.refresh()
            found = self._loaded(reference) or await self._load_copy(reference)
        if found is None:
            raise NotFoundError(self._nothing_called(asked))
        return found, reference.alias

    async def settled(self) -> Snapshot:
        """What serves, from the watcher's first look at the registry on."""
        await self._confirm()
        return self.snapshot

    def at_hand(self, asked: str) -> tuple[Served, str] | None:
        """What `resolve` answers for the bare name of a champion, without waiting for anything; else None."""
        if not self._is_confirmed or "@" in asked or "/" in asked:
            return None
        champion = self.snapshot.champions.get(asked)
        return None if champion is None else (champion, CHAMPION)

    def _loaded(self, reference: Reference) -> Served | None:
        champion = self.snapshot.champions.get(reference.name)
        if reference.alias == CHAMPION:
            return champion
        version = self.snapshot.version_of(reference)
        if champion is not None and champion.version == version:
            return champion
        copy = self.snapshot.manifest.find(reference.name, version) if version else None
        other = self._others.get(copy.digest) if copy else None
        if copy is None or other is None or (other.name, other.version) != (copy.name, copy.version):
            return None
        self._others.move_to_end(copy.digest)
        return other

    async def _load_copy(self, reference: Reference) -> Served | None:
        """Load a version that the cache holds but no champion is; None where there is no copy."""
        async with self._loading:
            if already := self._loaded(reference):
                return already
            version = self.snapshot.version_of(reference)
            copy = self.snapshot.manifest.find(reference.name, version) if version else None
            if copy is None or reference.alias == CHAMPION:
                return None
            try:
                served = await asyncio.to_thread(self._load, copy)
            except ForecastError as error:
                log.error("%s version %s cannot be used: %s", copy.name, copy.version, error)
                detail = "this version is registered and cannot be loaded"
                raise problem("unavailable", detail, headers={"Retry-After": "60"}) from error
            self._others[copy.digest] = served
            while len(self._others) > MAX_OTHERS:
                self._others.popitem(last=False)
            return served

    async def _confirm(self) -> None:
        """Once: wait for the watcher's first look, because the cache may be of an earlier day."""
        if not self._is_confirmed:
            if self.cache.has_watcher():
                await self._wait_for(Reference(""))
                await self.refresh()
            self._is_confirmed = True

    async def _ask(self, reference: Reference) -> bool:
        """Have the watcher look for a model and wait for its answer; False where no watcher runs."""
        if reference.name not in self._names_allowed(reference.name) or not self.cache.has_watcher():
            return False
        await self._wait_for(reference)
        return True

    async def _wait_for(self, reference: Reference) -> None:
        """Put a question to the watcher, or join those who wait for the answer to the same one."""
        key = str(reference)
        task = self._questions.get(key)
        if task is None:
            if len(self._questions) >= MAX_QUESTIONS:
                detail = "too many models are looked up at the moment"
                raise problem("unavailable", detail, headers={"Retry-After": "1"})
            task = asyncio.create_task(self._question(reference))
            self._questions[key] = task
            task.add_done_callback(lambda _: self._questions.pop(key, None))
        await asyncio.shield(task)

    async def _question(self, reference: Reference) -> None:
        question = await asyncio.to_thread(self.cache.ask, reference)
        try:
            async with asyncio.timeout(self.settings.lookup_seconds):
                while not question.is_answered():
                    await asyncio.sleep(ANSWER_SECONDS)
        except TimeoutError:
            log.warning("the watcher did not answer within %s s", self.settings.lookup_seconds)
        finally:
            question.withdraw()

    def _names_allowed(self, name: str) -> tuple[str, ...]:
        return self.settings.models or (name,)

    def _nothing_called(self, asked: str) -> str:
        shown = f"no model {asked!r}" if _PLAIN.fullmatch(asked) else "no model of that name"
        reference = Reference.parse(asked)
        aliases = self.snapshot.manifest.aliases.get(reference.name)
        if aliases is not None and reference.name in self._names_allowed(reference.name):
            return f"there is {shown}; {self._what_there_is(reference.name, aliases)}"
        names = sorted(self.snapshot.champions)
        if not names:
            return f"there is {shown}; none is served yet: `forecast retrain RECIPE` trains and promotes one"
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        return f"there is {shown}; there are: {', '.join(names[:20])}{more}"

    def _what_there_is(self, name: str, aliases: dict[str, str]) -> str:
        """The aliases and versions of a model that has not the one asked for."""
        manifest = self.snapshot.manifest
        known = {copy.version for copy in manifest.versions if copy.name == name}
        known |= {*manifest.known.get(name, ()), *aliases.values()}
        versions = sorted(known, key=lambda version: (len(version), version), reverse=True)
        shown = ", ".join(f"{alias} (version {aliases[alias]})" for alias in sorted(aliases)[:20])
        return f"the aliases of {name} are: {shown or 'none'}; versions: {', '.join(versions[:20]) or 'none'}"

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.refresh()
            except Exception:
                log.exception("the cache could not be read; what serves goes on serving")

    def _next(self, before: Snapshot) -> Snapshot:
        """The snapshot of the manifest now; a model that cannot be loaded keeps its last good version."""
        try:
            manifest = self.cache.read()
        except ArtifactError as error:
            log.error("%s", error)
            return Snapshot(before.manifest, before.champions, {**before.problems, "manifest": str(error)})
        champions: dict[str, Served] = {}
        problems = dict(manifest.problems)
        for name, aliases in manifest.aliases.items():
            if CHAMPION not in aliases or name not in self._names_allowed(name):
                continue
            served, trouble = self._champion(manifest, name, aliases[CHAMPION], before.champions.get(name))
            if served is not None:
                champions[name] = served
            if trouble:
                problems[name] = trouble
        return Snapshot(manifest, champions, problems)

    def _champion(
        self, manifest: Manifest, name: str, version: str, current: Served | None
    ) -> tuple[Served | None, str]:
        """The champion's copy, else the version that serves now, else the champion before it."""
        copy = manifest.find(name, version)
        trouble = manifest.problems.get(name, f"version {version} is not copied yet")
        if copy is not None:
            if current and self._is_same(current, copy):
                return (current if current.live == copy.live else replace(current, live=copy.live)), ""
            try:
                served = self._load(copy)
                log.info("%s is served by version %s", name, version)
                return served, ""
            except ForecastError as error:
                trouble = f"version {version} cannot be used: {error}"
                log.error("%s: %s", name, trouble)
        if current is not None:
            return current, trouble
        return self._previous(manifest, name), trouble

    def _is_same(self, current: Served, copy: CachedVersion) -> bool:
        """Whether a copy serves already, by the runtime that it should."""
        is_version = (current.version, current.digest) == (copy.version, copy.digest)
        return is_version and current.runtime == self._runtime(copy)

    def _runtime(self, copy: CachedVersion) -> str:
        """The runtime to load a copy by: the one that is set, else the one that was measured, if any."""
        chosen = self.settings.runtime
        return chosen if chosen != "auto" else str(copy.runtime.get("runtime", "auto"))

    def _previous(self, manifest: Manifest, name: str) -> Served | None:
        copy = manifest.find(name, manifest.previous.get(name, ""))
        try:
            return self._load(copy) if copy else None
        except ForecastError as error:
            log.error("%s: nor can the champion before it be used: %s", name, error)
            return None

    def _load(self, copy: CachedVersion) -> Served:
        """A version verified and warm; ArtifactError when its copy is damaged or gives no numbers."""
        try:
            served = self._loaded_copy(copy)
        except ForecastError:
            self.on_load(False)
            raise
        self.on_load(True)
        return served

    def _loaded_copy(self, copy: CachedVersion) -> Served:
        folder = self.cache.folder(copy)
        if not folder.is_dir() or digest_of(folder) != copy.digest:
            raise ArtifactError(f"the copy {copy.digest[:12]} is missing or damaged")
        runtime = self._runtime(copy)
        forecaster = load(folder, runtime=runtime)
        warm(forecaster)
        return Served(
            name=copy.name,
            version=copy.version,
            run_id=copy.run_id,
            digest=copy.digest,
            forecaster=forecaster,
            metrics=copy.metrics,
            live=copy.live,
            runtime=runtime,
            measured=copy.runtime,
        )
