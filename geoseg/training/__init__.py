"""Training of bundled and custom models."""

from geoseg.training.config import TrainConfig, read_train_config
from geoseg.training.loop import train

__all__ = ["TrainConfig", "read_train_config", "train"]
