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
        ConfigError: weights of another number of classes, or with one of them in another place.
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
        own = {name: number for number, name in enumerate(card.classes)}
        if moved := [name for number, name in enumerate(asked) if own.get(name, number) != number]:
            raise ConfigError(
                f"the class {moved[0]!r} in another place than in {config.model.start}, which has "
                f"{', '.join(card.classes)}: it would go on from what another one has learned",
                allowed="classes in the order of the start",
                remedy="Change or leave out [model] classes",
            )
        load_state(net, state, path)
    return net
