"""What the control stream says: which data sets exist, and which runs are cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consumer.delivery.reading import RecentIds
from schemas.control import DatasetAnnounced, DatasetWithdrawn, RunCancelled
from schemas.datasets import DatasetReference, Manifest
from schemas.frozen import Message
from schemas.verdicts import Verdict


@dataclass(frozen=True)
class Unusable:
    """A data set that folds cannot use, and why."""

    verdict: Verdict | None
    """The data set's own verdict; None when the version was deleted as superseded."""


class Catalogue:
    """Holds what the control stream has said up to now."""

    def __init__(self, on_cancelled: Callable[[str], None]) -> None:
        """on_cancelled: called with the id of each cancelled run."""
        self._on_cancelled = on_cancelled
        self._versions: dict[tuple[str, str], Manifest] = {}
        self._withdrawn = RecentIds(10_000)
        self._newest: dict[str, Manifest | Verdict] = {}
        self._cancelled = RecentIds()

    def receive(self, message: Message) -> None:
        """Take in one message of the control stream; the same one may come again."""
        match message:
            case DatasetAnnounced(name=name, manifest=Manifest() as manifest):
                self._versions[name, manifest.version] = manifest
                if message.newest:
                    self._newest[name] = manifest
            case DatasetAnnounced(name=name, verdict=Verdict() as verdict):
                self._newest[name] = verdict
            case DatasetWithdrawn(name=name, version=version):
                self._versions.pop((name, version), None)
                self._withdrawn.add(f"{name}@{version}")
                newest = self._newest.get(name)
                if isinstance(newest, Manifest) and newest.version == version:
                    del self._newest[name]
            case RunCancelled(run_id=run_id):
                self._cancelled.add(run_id)
                self._on_cancelled(run_id)

    def find(self, reference: DatasetReference) -> Manifest | Unusable | None:
        """What a fold that names `reference` gets; None when nobody has announced it yet."""
        if reference.version is not None:
            manifest = self._versions.get((reference.name, reference.version))
            if manifest is None and str(reference) in self._withdrawn:
                return Unusable(None)
            return manifest
        newest = self._newest.get(reference.name)
        return Unusable(newest) if isinstance(newest, Verdict) else newest

    def is_cancelled(self, run_id: str) -> bool:
        """Whether somebody asked for this run to be stopped."""
        return run_id in self._cancelled
