"""Nearly equal pictures, by a perceptual hash: all pairs of a data set in seconds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

# Of 255 bits. The same exposure, saved anew, reduced, brightened or with more contrast,
# differs in 0 to 24; of 5,206 exposures none was nearer to another than 36.
AT_MOST = 24
BITS = 255
_FREQUENCIES = 16
_WORDS = 4
_BLOCK = 256


@dataclass(frozen=True)
class Neighbours:
    """Who is near whom.

    Attributes:
        nearest: int64, (images,), the index of the most similar other image; -1 for an
            image that is alone.
        distance: int16, (images,), how many bits of its hash differ, 0 to 255.
        pairs: int64, (pairs, 2), every first < second that differ in `AT_MOST` bits.
        pair_distances: int16, (pairs,).
    """

    nearest: NDArray[np.int64]
    distance: NDArray[np.int16]
    pairs: NDArray[np.int64]
    pair_distances: NDArray[np.int16]


def hashes(small: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The perceptual hash, (images, 4), of reduced pictures, (images, 32, 32).

    The 16 × 16 lowest frequencies of the cosine transform, each above the median of
    them or not: pHash (Zauner 2010, "Implementation and benchmarking of perceptual
    image hash functions"), with 255 bits in the place of 63, because all chest
    radiographs look alike. The mean brightness is left out.
    """
    found = np.zeros((len(small), _WORDS), np.uint64)
    for start in range(0, len(small), _BLOCK):
        block = slice(start, start + _BLOCK)
        waves = dctn(small[block].astype(np.float32), axes=(1, 2), norm="ortho")
        low = waves[:, :_FREQUENCIES, :_FREQUENCIES].reshape(len(waves), -1)[:, 1:]
        bits = np.zeros((len(low), 64 * _WORDS), np.bool_)
        bits[:, :BITS] = low > np.median(low, axis=1, keepdims=True)
        found[block] = np.packbits(bits, axis=1).view(np.uint64)
    return found


def neighbours(hashed: NDArray[np.uint64], at_most: int = AT_MOST) -> Neighbours:
    """Compare every hash, (images, 4), with every other."""
    count = len(hashed)
    nearest = np.full(count, -1, np.int64)
    distance = np.full(count, BITS, np.int16)

    def compare(start: int) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
        rows = np.arange(start, min(start + _BLOCK, count))
        differing = _differing(hashed[rows], hashed)
        differing[rows - start, rows] = BITS + 1
        if count > 1:
            nearest[rows] = differing.argmin(axis=1)
            distance[rows] = differing.min(axis=1)
        first, second = np.nonzero(differing <= at_most)
        later = second > first + start
        pairs = np.stack([first + start, second], axis=1)[later]
        return pairs, differing[first, second][later]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(compare, range(0, count, _BLOCK)))
    return Neighbours(
        nearest,
        distance,
        np.concatenate([np.empty((0, 2), np.int64), *(pairs for pairs, _ in found)]),
        np.concatenate([np.empty(0, np.int16), *(bits for _, bits in found)]),
    )


def _differing(
    some: NDArray[np.uint64], hashed: NDArray[np.uint64]
) -> NDArray[np.int16]:
    """Hamming distances, (some, images), a word at a time."""
    total = np.zeros((len(some), len(hashed)), np.int16)
    for word in range(_WORDS):
        total += np.bitwise_count(some[:, word, np.newaxis] ^ hashed[:, word])
    return total
