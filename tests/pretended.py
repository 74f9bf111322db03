"""A GPU that is not there: each tensor says which device it is on, and what needs all on one device is refused.

Everything is computed on the CPU. What is watched is what Python calls in torch: that no call mixes devices, which a
real GPU would refuse, and how often the CPU would wait for the GPU's answer. Kernels, streams and precision are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MAKERS = {"zeros", "ones", "empty", "full", "arange", "tensor", "rand", "randn", "randint", "randperm", "linspace"}
BY_HOST_INDEX = {"__getitem__", "__setitem__", "index_put_", "copy_"}
"""Take an index, or values, from the CPU."""
ANSWERS = {
    "item",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "tolist",
    "nonzero",
    "unique",
    "nms",
    "masked_select",
}
"""Cannot go on before the GPU is done."""


def on(tensor: Tensor) -> torch.device:
    """Where a tensor says it is."""
    return getattr(tensor, "_on", CPU)


def put(tensors: Iterable[Tensor], device: torch.device = GPU) -> None:
    """Have tensors say that they are on the device."""
    for tensor in tensors:
        tensor._on = device  # type: ignore[attr-defined]


def put_module(module: nn.Module) -> None:
    """Have a module's weights say that they are on the GPU."""
    put([*module.parameters(), *module.buffers()])


class Pretended(TorchFunctionMode):
    """While it is entered, tensors have devices."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        """Functions called with a tensor of the GPU, by name."""
        self.waits: Counter[str] = Counter()
        """Those of them that the CPU waits for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", str(func))
        if name == "__get__":
            return self._attribute(func, args)
        if name in ("to", "cpu", "cuda"):
            return self._moved(name, args, kwargs)
        tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
        if kwargs.get("device") is not None or (name in MAKERS and not tensors):
            where = torch.device(kwargs.get("device") or CPU)
            kwargs.update(device=CPU)
            kwargs.pop("pin_memory", None)
            return _put_all(func(*args, **kwargs), GPU if where.type == "cuda" else CPU, [])
        there = [each for each in tensors if on(each) == GPU]
        if there:
            self._looked_at(name, tensors)
        return _put_all(func(*args, **kwargs), GPU if there else CPU, tensors)

    def _looked_at(self, name: str, tensors: list[Tensor]) -> None:
        strangers = [each for each in tensors if on(each) == CPU and each.ndim]
        if name in ("numpy", "__array__") or (strangers and not (name in BY_HOST_INDEX and on(tensors[0]) == GPU)):
            raise AssertionError(f"{name} of {[(tuple(each.shape), str(on(each))) for each in tensors]}")
        self.calls[name] += 1
        masked = name in BY_HOST_INDEX and any(each.dtype == torch.bool for each in tensors[1:])
        found = name in ("where", "argwhere") and len(tensors) == 1
        if name in ANSWERS or masked or found or strangers:
            self.waits[name] += 1

    def _moved(self, name: str, args: Any, kwargs: Any) -> Tensor:
        source: Tensor = args[0]
        target = {"cpu": CPU, "cuda": GPU}.get(name, kwargs.pop("device", None))
        rest = []
        for each in args[1:]:
            if isinstance(each, (str, torch.device)):
                target = torch.device(each)
            elif isinstance(each, Tensor):
                target = on(each)
                kwargs["dtype"] = each.dtype
            else:
                rest.append(each)
        target = on(source) if target is None else torch.device(target)
        given = [each for each in rest if isinstance(each, torch.dtype)]
        kwargs = {key: value for key, value in kwargs.items() if key in ("dtype", "memory_format", "copy")}
        result = source.to(*given, **kwargs) if given or kwargs else source
        if target.type != on(source).type:
            self.waits["copy"] += target == CPU
            result = result.clone() if result is source else result
        elif result is source:
            return source
        return _put_all(result, GPU if target.type == "cuda" else CPU, [])

    @staticmethod
    def _attribute(func: Any, args: Any) -> Any:
        name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "device":
            return on(args[0])
        if name == "is_cuda":
            return on(args[0]) == GPU
        return _put_all(func(*args), on(args[0]), [])


def _put_all(result: Any, device: torch.device, given: list[Tensor]) -> Any:
    """Results say where they are, but for what was given and is given back."""

    def say(tensor: Tensor) -> Tensor:
        if not any(tensor is each for each in given):
            put([tensor], device)
        return tensor

    return tree_map_only(Tensor, say, result)
