"""The candidates of one survey while they wait: the first in memory, the rest in a temporary file."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType

from reaper.source import Candidate

_MAX_BYTES_IN_MEMORY = 1 << 20


class CandidateSpool:
    """Written once, then read in the same order. The file has no name and is deleted when the process ends."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._file = SpooledTemporaryFile[bytes](max_size=_MAX_BYTES_IN_MEMORY)
        self.count = 0

    def fill(self, candidates: Iterable[Candidate]) -> None:
        batch: list[tuple[object, ...]] = []
        for candidate in candidates:
            batch.append(tuple(candidate))
            if len(batch) == self._batch_size:
                self._write(batch)
                batch = []
        if batch:
            self._write(batch)

    def batches(self) -> Iterator[list[Candidate]]:
        self._file.seek(0)
        remaining = self.count
        while remaining:
            # Safe to unpickle: this process has written it, to a file that no other process can open.
            batch = [Candidate(*fields) for fields in pickle.load(self._file)]  # noqa: S301
            remaining -= len(batch)
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
