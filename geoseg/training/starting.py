"""The network that a training starts from."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN

from geoseg.detectors.cards import weights_path
from geoseg.detectors.network import build
from geoseg.detectors.weights import load_state, read_weights
from geoseg.errors import ConfigError
from geoseg.training.config import TrainConfig


def untrained(config: TrainConfig) -> MaskRCNN:
    """The network with random weights, or those of ``model.start``.

    Raises:
        ConfigError: weights of another number of classes, or of the same ones in another order.
        ModelError: weights that cannot be read, or of another network.
    """
    net = build(config.model.architecture, len(config.model.classes))
    if config.start is not None:
        path = weights_path(config.start)
        state, card = read_weights(path)
        asked = config.model.classes
        if len(asked) != len(card.classes):
            raise ConfigError(
                f"{len(asked)} classes ({', '.join(asked)}) to train from {config.model.start}, which has "
                f"{len(card.classes)} ({', '.join(card.classes)})",
                allowed="as many: the first goes on from its first, and so forth",
                remedy="Change or leave out [model] classes, or train without start",
            )
        for name in sorted({*asked} & {*card.classes}):
            place, before = asked.index(name) + 1, card.classes.index(name) + 1
            if place != before:
                raise ConfigError(
                    f"the class {name} as number {place}, which is number {before} of {config.model.start} "
                    f"({', '.join(card.classes)})",
                    allowed="classes that both have in the same place: the first goes on from its first, and so forth",
                    remedy="Put [model] classes in that order",
                )
        load_state(net, state, path)
    return net
