"""Which ids came before, in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

DIGEST_BYTES = 16


class Seen:
    """Remember ids by 16 bytes each: half a gigabyte for 30 million.

    Their hashes lie in a few sorted arrays, each at least twice as long as the next, so that adding a million ids
    sorts each of them about twenty times and looking one up needs about as many steps.
    """

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.bytes_]] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, ids: Sequence[str]) -> list[bool]:
        """Add ids; return for each whether it is new, the first of equal ones being so."""
        hashes = _hashes(ids)
        new = ~self._contains(hashes)
        if len(hashes):
            _, firsts = np.unique(hashes, return_index=True)
            once = np.zeros(len(hashes), bool)
            once[firsts] = True
            new &= once
        if new.any():
            self._runs.append(np.sort(hashes[new]))
            while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
                last, before = self._runs.pop(), self._runs.pop()
                self._runs.append(np.sort(np.concatenate([before, last]), kind="stable"))
        return [bool(each) for each in new]

    def contains(self, ids: Sequence[str]) -> list[bool]:
        """Return for each id whether it was added."""
        return [bool(each) for each in self._contains(_hashes(ids))]

    def _contains(self, hashes: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(hashes), bool)
        for run in self._runs:
            at = np.searchsorted(run, hashes)
            found |= run[np.minimum(at, len(run) - 1)] == hashes
        return found


def _hashes(ids: Sequence[str]) -> npt.NDArray[np.bytes_]:
    digests = [hashlib.blake2b(each.encode(), digest_size=DIGEST_BYTES).digest() for each in ids]
    return np.array(digests, dtype=f"S{DIGEST_BYTES}")
