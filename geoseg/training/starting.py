"""The network that a training starts from."""

from __future__ import annotations

from torchvision.models.detection import MaskRCNN

from geoseg.detectors.cards import weights_path
from geoseg.detectors.network import build
from geoseg.detectors.weights import load_state, read_weights
from geoseg.training.config import TrainConfig


def untrained(config: TrainConfig) -> MaskRCNN:
    """The network with random weights, or those of ``model.start``.

    Raises:
        ModelError: weights that cannot be read, or of another network.
    """
    net = build(config.model.architecture, len(config.model.classes))
    if config.start is not None:
        path = weights_path(config.start)
        load_state(net, read_weights(path)[0], path)
    return net
