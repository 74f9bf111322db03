"""From a name or a path to a detector."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from geoseg.allocator import keep_freed
from geoseg.detectors.base import Detector, ModelCard
from geoseg.detectors.cards import model_card, model_digest, weights_path
from geoseg.detectors.families import TorchvisionArchitecture, family_of
from geoseg.detectors.maskrcnn import MaskRCNNDetector
from geoseg.detectors.network import build
from geoseg.detectors.weights import check_fit, load_state, read_weights
from geoseg.errors import ModelError, ResourceError

_first: int | None = None
"""The process that loaded a model first."""


def load_model(model: str | Path, device: str | torch.device = "auto") -> Detector:
    """A detector from the name of a model or from a file, ready to predict.

    Where it is to run on the CPU, glibc keeps what this process frees for what comes next, from now on
    (:mod:`geoseg.allocator`; any ``MALLOC_`` variable in the environment has it left alone).

    Args:
        model: ``"buildings"``, ``"ships"``, the name of a model that was added (``geoseg models`` lists them), or
            a path to a ``.safetensors`` file with a card, or an ``.onnx`` file with a card beside it.
        device: ``auto`` (the GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``; for ONNX models
            ``tensorrt`` too; for these and Mask R-CNNs ``openvino``, ``openvino:f32``, ``openvino:bf16``.

    Raises:
        ModelError: no such model, or a file that is damaged, a pickle, or does not fit its card.
        ResourceError: no such device, a package that the model's family needs is missing, or this process was forked
            from one that had loaded a model.
    """
    _check_not_forked()
    device = str(device)
    if not torch.cuda.is_available() or device == "cpu" or device.startswith("openvino"):
        keep_freed()
    path = weights_path(model)
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path, device)
    state, card = read_weights(path)
    return detector_of(state, card, path, device=device, digest=model_digest(path))


def _check_not_forked() -> None:
    """Refuse to wait for ever: a fork has its parent's pool of torch's threads, which stayed behind.

    Raises:
        ResourceError: this process was forked after its parent had loaded a model.
    """
    global _first
    _first = _first or os.getpid()
    if _first != os.getpid() and torch.get_num_threads() > 1:
        raise ResourceError(
            "a model to be loaded in a process that was forked from one that had loaded one",
            allowed="processes that begin anew, or forks of one that has loaded none yet",
            remedy='Start them with multiprocessing.get_context("spawn")',
        )


def detector_of(
    state: dict[str, Tensor], card: ModelCard, path: str | Path, *, device: str = "auto", digest: str = ""
) -> Detector:
    """A detector of the card's family, with these tensors. Arguments and errors as for :func:`load_model`.

    Args:
        state: tensors by name, float32.
        card: says which family.
        path: where they come from, for messages.
        device: where to put it.
        digest: of the tensors.
    """
    if card.architecture.get("family") == "mask2former":
        # Its config has no bounds, and may be somebody else's: nothing is allocated that the file does not hold.
        with torch.device("meta"):
            check_fit(_network(card)[0], state, path)
    net, door = _network(card)
    load_state(net, state, path)
    return door(net, card, device=device, digest=digest)


def _network(card: ModelCard) -> tuple[nn.Module, Callable[..., Detector]]:
    """An untrained network of the card's family, and what makes a detector of it."""
    family = family_of(card.architecture)
    classes = len(card.classes)
    if family.family == "maskrcnn":
        return build(card.architecture, classes), MaskRCNNDetector.of
    if isinstance(family, TorchvisionArchitecture):
        from geoseg.detectors.torchvision_networks import build_torchvision

        return build_torchvision(family, classes), MaskRCNNDetector.of
    if family.family == "mask2former":
        from geoseg.detectors.mask2former import Mask2FormerDetector, build_mask2former

        return build_mask2former(family.config, classes), Mask2FormerDetector.of
    raise ModelError(f"a safetensors file whose card is of the family {family.family!r}", allowed="an .onnx file")


def _load_onnx(path: Path, device: str) -> Detector:
    from geoseg.detectors.onnx_detector import OnnxDetector

    return OnnxDetector.of(read_stated(path), model_card(path), device=device)


def read_stated(path: Path) -> bytes:
    """The bytes of an ONNX file, checked, which are those that its card was written for.

    Raises:
        ModelError: no such network, no card beside it, or one of another file.
    """
    from geoseg.detectors.onnx_file import onnx_digest, read_onnx

    stated = model_digest(path)
    data = read_onnx(path)
    if onnx_digest(data) != stated:
        raise ModelError(
            f"{path}, which differs from the SHA-256 in its card's file",
            remedy="Get the file again, or add it anew: geoseg models add FILE --card CARD.toml",
        )
    return data
