"""A GPU that is none: its tensors say that they are not on the CPU, and are computed there.

What a GPU refuses, it refuses: tensors of two devices in one operation, arrays of NumPy made of its
own, and, as Apple's do, float64. It has no other precision, speed or memory than the CPU. It is a
backend of PyTorch from its import on: import it in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretend"


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, _Backend())

GPU = torch.device(NAME, 0)

BETWEEN_DEVICES = {"_to_copy", "copy_"}
"""Operations whose tensors may be on two devices."""

BY_INDEX = {"index", "index_put_", "_index_put_impl_"}
"""Operations whose indices may be on the CPU."""


class PretendTensor(Tensor):
    """A tensor of the pretended GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        with torch.inference_mode(False):  # in which views of other tensors are refused
            made = torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                layout=held.layout,
                device=GPU,
            )
        made.held = held
        return made

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise TypeError("can't convert pretend:0 device type tensor to numpy")

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.numpy()

    def __repr__(self, **options: Any) -> str:
        return f"PretendTensor({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), options=None):
        return _compute(function, args, options or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), options=None):
        return _compute(function, args, options or {})


def _tensors(given: Any) -> list[Tensor]:
    """Return the tensors in arguments and their lists, several times as fast as PyTorch does."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, (list, tuple)):
        return [tensor for one in given for tensor in _tensors(one)]
    return []


def _compute(function: Any, args: Any, options: dict[str, Any]) -> Any:
    device, given = options.get("device"), _tensors([*args, *options.values()])
    own = [x for x in given if isinstance(x, PretendTensor)]
    named = device is not None and torch.device(device).type == NAME
    if not own and not named:
        return function(*args, **options)
    name = function.overloadpacket.__name__
    checked = given[:1] if name in BY_INDEX else [x for x in given if x.dim()]
    on_gpu = {isinstance(x, PretendTensor) for x in checked}
    if len(on_gpu) > 1 and name not in BETWEEN_DEVICES:
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device")
    if name == "copy_":
        here = isinstance(args[0], PretendTensor)
    else:
        here = bool(own) if device is None else named
    if device is not None:
        options = options | {"device": torch.device("cpu")}
    plain = tree_map(lambda x: x.held if isinstance(x, PretendTensor) else x, (args, options))
    result = function(*plain[0], **plain[1])
    if own and torch.Tag.inplace_view in function.tags:  # the shape is the wrapper's, too
        with torch._C._DisableTorchDispatch():
            function(*args, **options)
    known = {id(x.held): x for x in own}

    def wrapped(x: Any) -> Any:
        if not here or not isinstance(x, Tensor):
            return x
        if x.dtype == torch.float64 and x.dim():
            raise TypeError(f"{name}: the device has no float64")
        return known[id(x)] if id(x) in known else PretendTensor(x)

    return tree_map(wrapped, result)


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """Have a GPU for as long as it lasts."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes them there, and moves them
    try:
        with _Pretending():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
