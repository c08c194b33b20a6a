"""What is asked of a client: the bounds that the rules hold it to."""

from __future__ import annotations

from pydantic import Field

from llmlab.core.settings import Settings


class Standards(Settings):
    """What a client must keep to.

    Attributes:
        deadline: seconds that a call may take, retries and waits included; `None` leaves it open whether one hung.
        deadline_tolerance: seconds beyond the deadline until its closing of the connection must have been seen.
        retry_after_tolerance: seconds by which it may come back before it was told to.
        max_amplification: requests that a call which meets faults may make, in the mean. Four is the first attempt and
            three more ("Addressing Cascading Failures", Site Reliability Engineering, 2016, has three in all).
        max_in_flight: requests at once; `None` sets no bound.
        client_ended: whether the client had ended before the recording did, so that no connection may be left.
        link_within: seconds after a failure in which an equal body is a retry, where nothing better tells.
    """

    deadline: float | None = Field(default=None, gt=0)
    deadline_tolerance: float = Field(default=0.25, ge=0)
    retry_after_tolerance: float = Field(default=0.05, ge=0)
    max_amplification: float = Field(default=4.0, ge=1)
    max_in_flight: int | None = Field(default=None, ge=1)
    client_ended: bool = False
    link_within: float = Field(default=60.0, ge=0)
