"""Questions to a scheduler, none of which is waited for without end."""

# distributed leaves most of its client untyped.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from distributed import Client

from geoseg.engine.troubles import silent

POLL_S = 2.0
"""Seconds between two looks at whether the cluster still is there."""
ANSWER_S = 5.0
"""Seconds that a scheduler may take over a question; then it is asked again, or done without."""

Call = Callable[[], Any]
"""A question: called in the client's event loop, where what its methods return can be awaited."""


def rpc(client: Client, name: str, **options: Any) -> Call:
    """One of the scheduler's own."""
    return lambda: getattr(client.scheduler, name)(**options)


def ask(client: Client, call: Call, limit_s: float = ANSWER_S) -> Any:
    """What is answered.

    Raises:
        TimeoutError: (an OSError) nothing, for ``limit_s``.
        OSError: the scheduler is gone.
    """
    return client.sync(call, callback_timeout=limit_s)


def ask_patiently(client: Client, call: Call, *, limit_s: float, patience_s: float) -> Any:
    """The same for what may rightly take long, as the workers have a part in it, but not where the scheduler stalls.

    Raises:
        TimeoutError: it is not done after ``limit_s``.
        ResourceError: the scheduler has not answered for ``patience_s``.
        OSError: it is gone.
    """

    async def watched() -> Any:
        end = time.monotonic() + limit_s
        work = asyncio.ensure_future(call())
        try:
            while not work.done():
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"not done in {limit_s:g} s")
                await asyncio.wait({work}, timeout=min(left, POLL_S))
                if not work.done():
                    await _heard(client, patience_s)
            return work.result()
        finally:
            work.cancel()

    return client.sync(watched)


async def _heard(client: Client, patience_s: float) -> None:
    try:
        await asyncio.wait_for(rpc(client, "ncores")(), patience_s)
    except TimeoutError:
        raise silent(patience_s) from None
