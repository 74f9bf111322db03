"""Images that several threads draw from, each made once while there is room for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from geoseg.training.labelled import Labelled


class Kept:
    """Keeps the ``most`` images last asked for; one that two threads want is made by the first.

    Args:
        make: gives the image of a number; may be called again for one that was dropped.
        most: images, 1 or more.
    """

    def __init__(self, make: Callable[[int], Labelled], *, most: int) -> None:
        self.make, self.most = make, most
        self._lock = threading.Lock()
        self._images: OrderedDict[int, Future[Labelled]] = OrderedDict()

    def __call__(self, number: int) -> Labelled:
        """The image of a number; raises what making it raises."""
        with self._lock:
            image = self._images.get(number)
            mine = image is None
            if image is None:
                image = self._images[number] = Future()
            self._images.move_to_end(number)
            if len(self._images) > self.most:
                self._images.popitem(last=False)
        if mine:
            try:
                image.set_result(self.make(number))
            except BaseException as error:
                image.set_exception(error)
        return image.result()
