"""Read by the nannies of the chaos suite: workers come from a server with all libraries loaded, so that one that was
killed is back in a moment and not after seconds of importing."""

from __future__ import annotations

import multiprocessing

import distributed.utils

distributed.utils._forkserver_preload_set = True  # else it is called with a list of its own
multiprocessing.get_context("forkserver").set_forkserver_preload(["distributed", "chaos", "geoseg.extraction"])
