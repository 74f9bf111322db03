"""Generated scenes with exact outlines: towns and harbours that never existed, to train and to test on."""

from geoseg.scenes.harbour import harbour
from geoseg.scenes.scene import Scene
from geoseg.scenes.town import town

__all__ = ["Scene", "harbour", "town"]
