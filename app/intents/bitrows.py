"""Which phrasings hold which token, one bit each, an entry's bits side by side.

A search that has picked a few entries reads their bits only, so that looking closely at them costs a handful of array
operations whatever the number of phrasings and however common the tokens.

Source: the performance page, matching.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "BitRows", "bytes_needed"]

BITS: Final = 8
"""Bits of a byte of a row."""
_SPREAD: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
"""The bits of each byte as numbers; shape (256, 8)."""


@dataclass(frozen=True, slots=True)
class BitRows:
    """The bits, a row for each token. An entry begins at a whole byte: its first bit says whether any of its phrasings
    holds the token, one bit for each phrasing follows.
    """

    rows: NDArray[np.uint8]
    """Shape (tokens, bytes)."""
    columns: list[range]
    """The bytes of each entry."""
    inverse_norms: NDArray[np.float32]
    """One over the norm of the phrasing that a bit stands for, 1 for an entry's first bit, 0 where it stands for
    nothing; shape (bytes, 8).
    """

    @classmethod
    def of(
        cls,
        tokens: NDArray[np.intp],
        documents: NDArray[np.intp],
        bounds: NDArray[np.intp],
        inverse_norms: NDArray[np.float64],
        *,
        token_count: int,
    ) -> BitRows:
        """Build the bits.

        Args:
            tokens, documents: the pairs of a token and a phrasing that holds it, each once.
            bounds: where each entry's phrasings begin, and their number at the end.
            inverse_norms: one over each phrasing's norm.
            token_count: the size of the vocabulary.
        """
        sizes = np.diff(bounds)
        starts = np.r_[0, np.cumsum(_entry_bytes(sizes))]
        place = np.repeat(np.arange(len(sizes)), sizes)
        bit_of = starts[place] * BITS + 1 + np.arange(len(place)) - bounds[place]
        rows = np.zeros((token_count, int(starts[-1])), dtype=np.uint8)
        bits = bit_of[documents]
        columns, within = bits // BITS, bits % BITS
        for bit in range(BITS):
            # Of one bit no pair of a token and a byte occurs twice, so plain indexing suffices.
            inside = within == bit
            rows[tokens[inside], columns[inside]] |= np.uint8(128 >> bit)
        rows[tokens, starts[place[documents]]] |= np.uint8(128)
        norms = np.zeros(int(starts[-1]) * BITS, dtype=np.float32)
        norms[bit_of] = inverse_norms
        norms[starts[:-1] * BITS] = 1
        columns = [range(low, high) for low, high in pairwise(starts.tolist())]
        return cls(rows, columns, norms.reshape(-1, BITS))

    def weigh(
        self, numbers: NDArray[np.intp], places: list[int], squares: NDArray[np.float32], concepts: int
    ) -> tuple[list[int], list[float], list[float] | None]:
        """Sum the squared weights of a text's tokens over some entries' bits.

        Args:
            numbers: the text's tokens, concepts last.
            places: the entries.
            squares: the square of each token's weight.
            concepts: how many of the tokens are concepts.

        Returns:
            The bit at which each entry begins (its phrasings follow). At each such first bit the sum over the tokens
            that any phrasing of the entry holds, at the others that over the phrasing's tokens, divided by its norm.
            The sums over concepts only, undivided, or None when there are none.
        """
        columns: list[int] = []
        begins: list[int] = []
        of_entry = self.columns
        for place in places:
            begins.append(len(columns) * BITS)
            columns += of_entry[place]
        chosen = np.array(columns, dtype=np.intp)
        bits = _SPREAD.take(self.rows.take(numbers, axis=0).take(chosen, axis=1), axis=0).reshape(
            len(numbers), -1
        )
        nearness = squares.dot(bits)
        nearness *= self.inverse_norms.take(chosen, axis=0).reshape(-1)
        conceptual = squares[-concepts:].dot(bits[-concepts:]).tolist() if concepts else None
        return begins, nearness.tolist(), conceptual


def _entry_bytes(sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    return (sizes + BITS) // BITS


def bytes_needed(sizes: NDArray[np.intp], token_count: int) -> int:
    """Return how large the rows would be for entries of these numbers of phrasings."""
    return int(_entry_bytes(sizes).sum()) * token_count
