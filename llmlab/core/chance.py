"""The keyed random draws: chance depends on what is drawn for, never on when.

Each draw is a function of (seed, call, attempt, purpose). Scheduling cannot shift it, and two policies in one sweep
meet the same weather (common random numbers). One BLAKE2b hash of the packed key gives eight numbers in under a
microsecond, from the standard library and the same on every version; seeding a `random.Random` would cost ten times
that.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import blake2b
from struct import Struct

_KEY = Struct("<4Q").pack
_WORDS = Struct("<8Q").unpack
_TWO_WORDS = Struct("<2Q").unpack_from
_MASK = (1 << 64) - 1
_STEP = 2.0**-52


class Purpose(IntEnum):
    """What a draw is for; purposes do not share numbers, and keep theirs: they are part of what a seed means."""

    SERVER = 1
    BACKOFF = 2
    FAULT = 3
    WORKLOAD = 4
    THROTTLE = 7


def words(seed: int, call: int, attempt: int, purpose: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Return eight independent 64-bit numbers for this key, whose parts are taken modulo 2**64."""
    return _WORDS(_digest(seed, call, attempt, purpose))


def _digest(seed: int, call: int, attempt: int, purpose: int) -> bytes:
    try:
        key = _KEY(seed, call, attempt, purpose)
    except struct.error:  # rare, and taking every part modulo 2**64 beforehand costs as much as the packing
        key = _KEY(seed & _MASK, call & _MASK, attempt & _MASK, purpose)
    return blake2b(key).digest()


def unit(word: int) -> float:
    """Turn one of those numbers into a uniform one inside (0, 1); neither end is met, so inverse CDFs stay finite."""
    return ((word >> 12) + 0.5) * _STEP


def uniform(seed: int, call: int, attempt: int, purpose: int) -> float:
    """Return one number in (0, 1) for this key."""
    word: int = _TWO_WORDS(_digest(seed, call, attempt, purpose))[0]
    return ((word >> 12) + 0.5) * _STEP


def two_uniforms(seed: int, call: int, attempt: int, purpose: int) -> tuple[float, float]:
    """Return two numbers in (0, 1) for this key: `unit` of the first two of its words, written out for speed."""
    try:
        key = _KEY(seed, call, attempt, purpose)
    except struct.error:
        return two_uniforms(seed & _MASK, call & _MASK, attempt & _MASK, purpose)
    first, second = _TWO_WORDS(blake2b(key).digest())
    return ((first >> 12) + 0.5) * _STEP, ((second >> 12) + 0.5) * _STEP


def derived(seed: int, *labels: int) -> int:
    """Return a 63-bit number derived from a seed and labels: another seed, or the key of a nested call."""
    for label in labels:
        seed = words(seed, label, 0, 0)[0] >> 1
    return seed
