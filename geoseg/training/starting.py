"""The network that a training starts from."""

from __future__ import annotations

from pathlib import Path

from torchvision.models.detection import MaskRCNN

from geoseg.detectors.cards import model_digest, weights_path
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


def start_digest(config: TrainConfig, target: Path) -> str:
    """SHA-256 that the weights to start from state; empty where there are none, and where they are what the training
    writes: a model's next version takes the place of the last."""
    if config.start is None or weights_path(config.start).resolve() == target.resolve():
        return ""
    return model_digest(config.start)


def check_same_start(began: str, now: str, config: TrainConfig, checkpoint: Path) -> None:
    """Refuse to go on where ``model.start`` means other weights than those that the training began with.

    Args:
        began: the :func:`start_digest` of then; empty: not known.
        now: that of now.
        config: names the start.
        checkpoint: to go on from.

    Raises:
        ConfigError: they differ.
    """
    if began and now and began != now:
        raise ConfigError(
            f"the checkpoint {checkpoint}, which began with other weights than {config.model.start} holds now",
            allowed="the weights that it began with",
            remedy="Put those back, or move the checkpoint away to start afresh",
        )
