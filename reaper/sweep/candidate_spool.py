"""The candidates of one survey, waiting: a few in memory, the rest on disk, so that a million weigh as ten do."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType

from reaper.source import Candidate

_IN_MEMORY = 1 << 20


class CandidateSpool:
    """Written once, then read in the same order. The file has no name and is gone with the process."""

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._file = SpooledTemporaryFile[bytes](max_size=_IN_MEMORY)
        self.count = 0

    def fill(self, candidates: Iterable[Candidate]) -> None:
        batch: list[tuple[object, ...]] = []
        for candidate in candidates:
            batch.append(tuple(candidate))
            if len(batch) == self._size:
                self._write(batch)
                batch = []
        if batch:
            self._write(batch)

    def batches(self) -> Iterator[list[Candidate]]:
        self._file.seek(0)
        left = self.count
        while left:
            # What is read here was written above, by this process, to a file that nobody else can open.
            batch = [Candidate(key, claim) for key, claim in pickle.load(self._file)]  # noqa: S301
            left -= len(batch)
            yield batch

    def _write(self, batch: list[tuple[object, ...]]) -> None:
        pickle.dump(batch, self._file, pickle.HIGHEST_PROTOCOL)
        self.count += len(batch)

    def __enter__(self) -> CandidateSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
