"""Following folds: what is stored already first, then verdicts as they are stored.

Messages on `datarun.results` are small and only say that a verdict is there; the verdict itself is
asked of the collector. Requests pass through the collector's one queue behind everything that this
client published before, so a fold that was published again with `force` is seen with its new run,
never with the result of the former one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from broker.blocking import BlockingLink
from broker.subscription import Interrupted, Subscription
from producer.collector import IDS_AT_ONCE, Collector
from producer.results import Result
from schemas.errors import BrokerError, CollectorUnreachable, MessageError, RequestError
from schemas.requests import FoldsRequest
from schemas.results import FoldResult
from schemas.topology import RESULTS, folds_queue
from schemas.wire import Envelope, unpack

ASK_AGAIN_SECONDS = 10.0
"""Without news for so long, the collector is asked: a lost message must not lose a result."""

_OWN_KEYS = 50
"""Up to so many folds have a binding each; more are picked from everybody's."""

_BATCH = 200
_GATHER_SECONDS = 0.1
_NAMED_MISSING = 20


class Follower:
    """The two ways of waiting for results."""

    def __init__(self, link: BlockingLink, collector: Collector, timeout: float) -> None:
        self._link = link
        self._collector = collector
        self._timeout = timeout

    def follow(
        self, fold_ids: Iterable[int], timeout: float, *, with_predictions: bool
    ) -> Iterator[Result]:
        """Each fold's verdict once; TimeoutError names those that have none in time."""
        deadline = time.monotonic() + timeout
        missing = set(fold_ids)
        if not missing:
            return
        keys = [f"fold.*.{fold_id}" for fold_id in missing]
        with self._subscribe(keys if len(keys) <= _OWN_KEYS else ["fold.#"]) as news:
            told: set[int] | None = None
            answered = False
            while True:
                try:
                    for result in self._collector.results_of(
                        sorted(missing if told is None else told & missing),
                        with_predictions=with_predictions,
                    ):
                        answered = True
                        if result.submission_fold_id in missing:
                            missing.remove(result.submission_fold_id)
                            yield result
                    answered = True
                except CollectorUnreachable:
                    if not answered:
                        raise
                    # It is being restarted; what it would have said now is asked again.
                    news.interrupt()
                if not missing:
                    return
                if time.monotonic() >= deadline:
                    raise TimeoutError(self._overdue(sorted(missing), timeout))
                told = _told(news, deadline, missing)

    def new_results(
        self, dataset: str | None, *, with_predictions: bool, seen: set[str] | None = None
    ) -> Iterator[Result]:
        """Everything that is new, each run once; runs in `seen` are left out, and added to it."""
        seen = set() if seen is None else seen
        for result in self._collector.new_results(dataset, with_predictions=with_predictions):
            if result.run_id not in seen:
                seen.add(result.run_id)
                yield result

    def follow_new_results(
        self, dataset: str | None, timeout: float, *, with_predictions: bool
    ) -> Iterator[Result]:
        """Everything that is new, then whatever becomes new, for `timeout` seconds."""
        deadline = time.monotonic() + timeout
        seen: set[str] = set()
        with self._subscribe([f"fold.{dataset}.*" if dataset else "fold.#"]) as news:
            yield from self.new_results(dataset, with_predictions=with_predictions, seen=seen)
            while time.monotonic() < deadline:
                told = _told(news, deadline)
                if told is None:
                    # Without predictions: what nobody acknowledges is listed again and again.
                    listed = list(self._collector.new_results(dataset, with_predictions=False))
                    told = {item.submission_fold_id for item in listed if item.run_id not in seen}
                    seen &= {item.run_id for item in listed}
                for result in self._collector.results_of(
                    sorted(told), with_predictions=with_predictions
                ):
                    if result.new and result.run_id not in seen:
                        seen.add(result.run_id)
                        yield result

    def _subscribe(self, keys: Iterable[str]) -> Subscription:
        return self._link.subscribe(RESULTS, keys, deadline=self._timeout)

    def _overdue(self, missing: list[int], timeout: float) -> str:
        named = ", ".join(map(str, missing[:_NAMED_MISSING]))
        more = len(missing) - _NAMED_MISSING
        text = f"no verdict within {timeout:g} s for submission_fold_id {named}" + (
            f" and {more} more" if more > 0 else ""
        )
        try:
            return text + self._why_overdue(missing[:IDS_AT_ONCE])
        except (BrokerError, RequestError) as error:
            return f"{text}; {error}"

    def _why_overdue(self, missing: list[int]) -> str:
        """What the collector knows of them, and whether anybody takes folds of their pools."""
        request = FoldsRequest(submission_fold_ids=tuple(missing), limit=1000)
        known = list(self._collector.folds(request))
        states = Counter(str(fold.state) for fold in known)
        states["unknown to the collector"] = len(missing) - len(known)
        text = "; " + ", ".join(f"{count} {state}" for state, count in states.items() if count)
        for pool in sorted({fold.pool for fold in known}):
            depth = self._link.queue_depth(folds_queue(pool), deadline=self._timeout)
            if depth is None or depth.consumers == 0:
                text += f"; no worker takes folds of pool {pool!r}: is `datarun worker` running?"
        return text


def _told(news: Subscription, deadline: float, wanted: set[int] | None = None) -> set[int] | None:
    """The folds that have ended, according to the news; None: unknown, ask for all.

    Waits for one, then a little for more, since a question costs as much for one fold as for
    ten; not when all that are `wanted` have ended.
    """
    told: set[int] = set()
    wait = max(min(ASK_AGAIN_SECONDS, deadline - time.monotonic()), 0)
    gathered = 0.0
    while len(told) < _BATCH:
        if told and wanted is not None and wanted <= told:
            break
        item = news.next(max(0.0, gathered - time.monotonic()) if told else wait)
        gathered = gathered or time.monotonic() + _GATHER_SECONDS
        if item is None:
            break
        if isinstance(item, Interrupted):
            return None
        told.update(_fold_id(item))
    return told or None


def _fold_id(envelope: Envelope) -> tuple[int, ...]:
    try:
        message = unpack(envelope)
    except MessageError:
        # From a newer collector, perhaps; the periodical question covers it.
        return ()
    return (message.submission_fold_id,) if isinstance(message, FoldResult) else ()
