"""What ends a training and is no fault of geoseg's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from geoseg.errors import GeosegError, ResourceError
from geoseg.predicting import Failure

_REMEDIES = {
    "memory": "Lower [schedule] batch, and raise accumulate by as much, or lower chip; what has a checkpoint goes on",
    "device": "Look at it with nvidia-smi, and run the same command again: what has a checkpoint goes on",
}


@contextmanager
def environment_told() -> Iterator[None]:
    """In the block memory that runs out and a device that breaks are told as such, whatever torch calls them.

    Raises:
        ResourceError: in place of either.
    """
    try:
        yield
    except GeosegError:
        raise
    except Exception as error:
        failure = Failure.of(error)
        if failure.cause not in _REMEDIES:
            raise
        raise ResourceError(
            f"a training that the {failure.cause} fails ({failure.said})", remedy=_REMEDIES[failure.cause]
        ) from error
