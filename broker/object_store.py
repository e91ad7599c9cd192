"""Parts of data sets in an object store or a shared folder, through fsspec: `file://`, `s3://`, `gs://`.

A part is `<root>/<visibility>/<id>`, so that the store's own rights can be cut by visibility. It
appears whole or not at all: a store puts atomically, and in a folder a finished file is renamed.
A store that does not answer is asked again with growing pauses, until there has been no progress
for `patience` seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, ParamSpec, TypeVar

from broker.file_systems import PUT_BYTES, file_system, is_refusal, without_secrets
from schemas.errors import BlobError, StoreUnreachable
from schemas.states import Visibility

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
RANGE_BYTES = 8 << 20
"""How much is asked for in one request of a reader."""

READ_AHEAD = 4
"""Requests of one reader under way at a time: each alone waits for the line more than it moves."""

PATIENCE = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0

_LOOK_SECONDS = 0.5
"""How often whoever waits is asked whether he still wants to."""

P = ParamSpec("P")
Result = TypeVar("Result")
Progress = Callable[[int], None]


class ObjectStore:
    """The parts below one URL. Blocking; any number of threads may use it."""

    def __init__(self, root: str, patience: float = PATIENCE) -> None:
        """root: as `checked_store_url` gives it. Raises ConfigurationError."""
        self._root = root
        self._patience = patience
        self._is_folder = root.startswith("file://")
        self._files = file_system(root, patience)
        self._place = root.removeprefix("file://") if self._is_folder else root.partition("://")[2]

    def write(
        self,
        visibility: Visibility,
        blob: str,
        source: BinaryIO,
        on_progress: Progress | None = None,
    ) -> tuple[int, str]:
        """Write `source`, from where it stands to its end; return size and SHA-256.

        Raises BlobError when refused, StoreUnreachable after `patience` seconds.
        """
        path, start, best = self._path(visibility, blob), source.tell(), 0

        def attempt() -> tuple[int, str]:
            nonlocal best
            source.seek(start)
            size, digest = 0, hashlib.sha256()
            with self._new(path) as put:
                while chunk := source.read(CHUNK_BYTES):
                    put(chunk)
                    size += len(chunk)
                    digest.update(chunk)
                    if size > best:
                        best = size
                        _tell(on_progress, best)
            return size, digest.hexdigest()

        written = self._persist(attempt, lambda: best, on_progress)
        _tell(on_progress, written[0])
        return written

    def read(
        self,
        visibility: Visibility,
        blob: str,
        target: BinaryIO,
        *,
        size: int,
        sha256: str,
        on_progress: Progress | None = None,
    ) -> None:
        """Read a blob into `target`, never more than `size` bytes.

        Raises BlobError when it is missing, of another size, altered or refused, StoreUnreachable
        after `patience` seconds.
        """
        path, got, digest = self._path(visibility, blob), 0, hashlib.sha256()

        def fault(what: str) -> BlobError:
            return BlobError(f"data-set part {self._url(path)}, {got} of {size} bytes read: {what}")

        def attempt() -> None:
            nonlocal got
            there = self._ask(path, self._files.info, path)["size"]
            if there != size:
                raise fault(f"it has {there} bytes")
            with contextlib.closing(self._pieces(path, got, size)) as pieces:
                for wanted, piece in pieces:
                    if len(piece) != wanted:
                        raise fault(f"{len(piece)} bytes came where {wanted} were asked for")
                    target.write(piece)
                    digest.update(piece)
                    got += len(piece)
                    _tell(on_progress, got)

        self._persist(attempt, lambda: got, on_progress)
        if digest.hexdigest() != sha256:
            raise fault("it is altered: its SHA-256 is not the announced one")

    def delete(self, visibility: Visibility, blob: str) -> None:
        """Delete a blob, and what a writer that died left of it; nothing happens without one.

        Tries once. Raises BlobError.
        """
        path = self._path(visibility, blob)
        leftovers = [_partial(path)] if self._is_folder else []
        for name in (path, *leftovers):
            with contextlib.suppress(_Missing):
                self._ask(path, self._files.rm_file, name)

    def _path(self, visibility: Visibility, blob: str) -> str:
        return f"{self._place}/{visibility}/{blob}"

    def _url(self, path: str) -> str:
        return self._root + path.removeprefix(self._place)

    @contextlib.contextmanager
    def _new(self, path: str) -> Iterator[Callable[[bytes], None]]:
        """Something to write to, which is at `path` once the block has ended well."""
        if self._is_folder:
            self._ask(path, self._make_folder, os.path.dirname(path))
        draft = _partial(path) if self._is_folder else path
        file = self._ask(path, self._files.open, draft, "wb", block_size=PUT_BYTES)
        try:
            yield lambda chunk: self._ask(path, file.write, chunk)
            if self._is_folder:
                self._ask(path, _sync, file)
            self._ask(path, file.close)
            if self._is_folder:
                self._ask(path, os.replace, draft, path)
        except BaseException:
            self._drop(file, draft)
            raise

    def _make_folder(self, folder: str) -> None:
        # Never the root itself: what is not mounted just now must not be written beside.
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755 if folder.endswith(f"/{Visibility.PUBLIC}") else 0o700)

    def _drop(self, file: Any, draft: str) -> None:
        """Give up what was written; the store may be away, and then its lifecycle rule does it."""
        with contextlib.suppress(Exception):
            if self._is_folder:
                file.close()
                self._files.rm_file(draft)
            else:
                file.discard()
        if not self._is_folder:
            # Else its finalizer would complete the upload.
            file.closed = True

    def _pieces(self, path: str, start: int, end: int) -> Generator[tuple[int, bytes], None, None]:
        """How many bytes were asked for, and what came, in order."""
        starts = iter(range(start, end, RANGE_BYTES))
        under_way: deque[tuple[int, Future[bytes]]] = deque()
        with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="blob") as threads:
            try:
                while True:
                    while len(under_way) < READ_AHEAD and (at := next(starts, None)) is not None:
                        stop = min(at + RANGE_BYTES, end)
                        asked = threads.submit(self._files.cat_file, path, start=at, end=stop)
                        under_way.append((stop - at, asked))
                    if not under_way:
                        return
                    wanted, coming = under_way.popleft()
                    yield wanted, self._ask(path, coming.result)
            finally:
                for _, asked in under_way:
                    asked.cancel()

    def _ask(
        self, path: str, ask: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Call something of the store; its failures become ours."""
        try:
            return ask(*args, **kwargs)
        except Exception as error:
            raise self._judged(path, error) from error

    def _judged(self, path: str, error: Exception) -> BlobError:
        where = f"data-set part {self._url(path)}"
        text = without_secrets(f"{type(error).__name__}: {error}")
        if isinstance(error, FileNotFoundError):
            if self._is_folder and not os.path.isdir(self._place):
                return StoreUnreachable(
                    f"{where}: there is no folder {self._place}, which DATARUN_BLOBS names; "
                    "create or mount it"
                )
            return _Missing(f"{where}: it does not exist ({text})")
        if is_refusal(error):
            return BlobError(
                f"{where}: the store of DATARUN_BLOBS refuses this user ({text}); check his "
                "credentials (for s3:// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and rights"
            )
        return StoreUnreachable(
            f"{where}: the store of DATARUN_BLOBS does not answer as it should ({text}); it is "
            "tried again. Is it running, and AWS_ENDPOINT_URL_S3 or the folder right?"
        )

    def _persist(
        self, attempt: Callable[[], Result], progress: Callable[[], int], told: Progress | None
    ) -> Result:
        """Try until the store answers; StoreUnreachable when it does not for too long."""
        deadline, reached, pause = None, progress(), FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                result = attempt()
            except StoreUnreachable as error:
                now = time.monotonic()
                if deadline is None:
                    logger.warning(str(error), extra={"action": "store_away"})
                if deadline is None or progress() > reached:
                    # Silence takes time until it is a failure.
                    since = now if progress() > reached else began
                    deadline, reached, pause = since + self._patience, progress(), FIRST_PAUSE
                if now >= deadline:
                    raise
            else:
                if deadline is not None:
                    logger.info("the object store is back", extra={"action": "store_back"})
                return result
            _pause(min(pause, max(deadline - now, 0.0)), reached, told)
            pause = min(pause * 2, LONGEST_PAUSE)


class _Missing(BlobError):
    """There is no such object."""


def _partial(path: str) -> str:
    return f"{path}.partial"


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _tell(on_progress: Progress | None, size: int) -> None:
    if on_progress is not None:
        on_progress(size)


def _pause(seconds: float, reached: int, told: Progress | None) -> None:
    """Wait; whoever wants to break off says so by raising from `told`."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        _tell(told, reached)
        time.sleep(min(left, _LOOK_SECONDS))
