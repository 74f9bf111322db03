"""What ends a training and is no fault of geoseg's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import distributed

from geoseg.errors import GeosegError, ResourceError
from geoseg.predicting import Failure

_REMEDIES = {
    "memory": "Lower [schedule] batch, and raise accumulate by as much, or lower chip; what has a checkpoint goes on",
    "device": "Look at it with nvidia-smi, and run the same command again: what has a checkpoint goes on",
}
_LOST = ("connection closed by peer", "connection reset by peer", "broken pipe")
"""How gloo says that another process is gone; its errors have no name of their own."""


@contextmanager
def environment_told() -> Iterator[None]:
    """In the block memory that runs out, a device that breaks and a process of the training that is gone are told as
    such, whatever torch calls them.

    Raises:
        ResourceError: in place of any.
    """
    try:
        yield
    except GeosegError:
        raise
    except Exception as error:
        failure = Failure.of(error)
        if failure.cause in _REMEDIES:
            raise ResourceError(
                f"a training that the {failure.cause} fails ({failure.said})", remedy=_REMEDIES[failure.cause]
            ) from error
        text = str(error).lower()
        if isinstance(error, distributed.DistError) or ("gloo" in text and any(said in text for said in _LOST)):
            raise ResourceError(
                f"a training of several processes, of which another one has ended or is out of reach ({failure.said})",
                remedy="See what that one said; where it said nothing the system ended it, most often for memory. The "
                "same command goes on from the last checkpoint",
            ) from error
        raise
