"""Which piece of a simulated answer comes when: the one source for streams in memory and on the wire.

An answer is written a token at a time, evenly (`fault_effects.timing`). Here its text is cut into as many pieces, and
each gets its time, as far as a fault lets it through. Nothing here waits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from llmlab.backends.fault_effects import slowed
from llmlab.backends.faults import FaultKind
from llmlab.core.backend import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmlab.backends.fault_effects import Timing
    from llmlab.backends.faults import Faults
    from llmlab.core.backend import Outcome


class Piece(NamedTuple):
    """A piece of text, and the seconds since the attempt began after which it comes."""

    after: float
    text: str


def pieces(text: str, tokens: int | None) -> list[str]:
    """Cut a text into pieces of nearly equal length, one a token; together they are the text.

    The first is empty only where the text is. Later ones may be, where there are more tokens than characters. Where the
    number of tokens is unknown (`None`), one stands for four characters.
    """
    number = max(1, -(-len(text) // 4) if tokens is None else tokens)
    ends = [-(-len(text) * place // number) for place in range(number + 1)]
    return [text[begin:end] for begin, end in pairwise(ends)]


def coming(
    answer: Answer, when: Timing, outcome: Outcome, after: float, *, fault: FaultKind | None, faults: Faults
) -> Iterator[Piece]:
    """Yield what comes of an answer's text before the attempt ends.

    Args:
        answer: what the server writes.
        when: its timing without the fault.
        outcome: what the client meets of it, and
        after: when, in seconds (`fault_effects.met`).
        fault: what befalls the answer, or `None`.
        faults: the settings of the faults.
    """
    when = slowed(fault, when, faults)
    text = outcome.text if isinstance(outcome, Answer) else answer.text
    for place, piece in enumerate(pieces(text, answer.usage.output_tokens)):
        due = when.first_token + place * when.gap
        if after < when.end and due >= after - when.gap * _ROUNDING:
            return
        if piece:
            yield Piece(min(due, after), piece)
        if fault is FaultKind.STALL:
            return


_ROUNDING = 1e-6
"""A token due at the very moment in which an answer breaks comes too late, whichever way the sums were rounded."""
