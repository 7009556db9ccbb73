"""A CUDA device without a GPU: shapes, types and devices of tensors as they would be, no values.

Tensors are those of torch's FakeTensorMode. That mode alone cannot run a backward pass without a driver: the
autograd engine asks for streams of the device. Here every question of C++ for the device of such a tensor is
answered by `meta`, which has no streams, and Python is told `cuda:0`. Dispatch keys, and so autocast, are those
of CUDA.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda:0")
ROOT = Path(__file__).parents[3]
PRODUCT = tuple(f"{ROOT / name}/" for name in ("codec", "experiments", "quantizers"))
aten = torch.ops.aten
_READS = (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default, aten.equal.default)
_SIZED_BY_VALUES = (aten.nonzero.default, aten.masked_select.default)
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
_JOINING = (aten.stack.default, aten.cat.default)
_UNTRUE = ("aten.any", "aten.lt", "aten.gt", "aten.bitwise_or", "aten.logical_or", "aten.ne")


def on_cuda(value: object) -> bool:
    """Tell tensors of the device."""
    return isinstance(value, FakeTensor) and value.fake_device.type == "cuda"


def _place() -> str:
    """The innermost line of the product, or else of a library, that is being computed."""
    stack = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    ours = [frame for frame in stack if frame.filename.startswith(PRODUCT)]
    frame = (ours or stack)[-1]
    return f"{frame.filename.removeprefix(f'{ROOT}/')}:{frame.lineno} {frame.line}"


class Watch(TorchDispatchMode):
    """Notes what a program does beside computing on the device.

    waits: lines at which the host waits for the device, because it reads a value. copies: lines that copy
    between host and device and wait for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies: list[str] = []

    def forget(self) -> None:
        """Begin anew."""
        self.waits.clear()
        self.copies.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return _device_for_engine(args)
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "meta":
            kwargs["device"] = CUDA  # of another tensor of the device, as C++ was told
        if func in _READS and isinstance(args[0], FakeTensor):
            return self._read(func, *args)
        if func in _SIZED_BY_VALUES and isinstance(args[0], FakeTensor):
            if on_cuda(args[0]):
                self.waits.append(_place())
            return torch.zeros((3, args[0].ndim), dtype=torch.int64, device=args[0].device)
        if func in _INDEXING:
            args = (args[0], self._without_masks(args[1]), *args[2:])
        if func in _JOINING and len(kinds := {tensor.device.type for tensor in args[0]}) > 1:
            # A fake tensor without dimensions passes here; CUDA refuses it.
            raise RuntimeError(f"Expected all tensors to be on the same device, but got {sorted(kinds)}")
        if func is aten._to_copy.default:
            self._copy(args[0], kwargs)
        out = func(*args, **kwargs)
        if isinstance(out, FakeTensor) and out.dtype == torch.bool:
            out.untrue = str(func).startswith(_UNTRUE)  # type: ignore[attr-defined]
        return out

    def _read(self, func: Any, tensor: FakeTensor, *others: FakeTensor) -> Any:
        """A value of a computation in which all goes well."""
        if on_cuda(tensor):
            self.waits.append(_place())
        elif tensor.constant is not None and not others:
            return tensor.constant.item()
        if func is aten.equal.default:
            assert tensor.device == others[0].device, f"{tensor.device} and {others[0].device} are compared"
            return True
        if tensor.dtype == torch.bool:
            return not getattr(tensor, "untrue", False)
        return 1.0 if tensor.dtype.is_floating_point else 1

    def _without_masks(self, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Indices in the place of masks, of which all is true."""
        plain: list[Tensor | None] = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                plain.append(index)
                continue
            if on_cuda(index):
                self.waits.append(_place())
            plain += [torch.zeros(index.numel(), dtype=torch.int64, device=index.device)] * index.ndim
        return plain

    def _copy(self, tensor: Tensor, options: dict[str, Any]) -> None:
        if isinstance(tensor, FakeTensor):
            tensor.constant = None  # a known value would really be copied
        target = options.get("device")
        if target is None or options.get("non_blocking"):
            return
        if torch.device(target).type != tensor.device.type:
            self.copies.append(_place())


def _device_for_engine(args: Sequence[Any]) -> torch.device:
    """The answer to C++."""
    return torch.device("meta") if on_cuda(args[0]) else args[0].device


_dispatch = FakeTensor.__torch_dispatch__


def _dispatch_without_modes(
    cls: type, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Any:
    if func is torch.ops.prim.device.default:
        return _device_for_engine(args)
    return _dispatch(func, types, args, kwargs or {})


def _to_list(self: FakeTensor) -> Any:
    if on_cuda(self):
        _watching().waits.append(_place())
    return np.ones(tuple(self.shape), _numpy_type(self)).tolist()


def _to_numpy(self: FakeTensor, *, force: bool = False) -> np.ndarray:
    if on_cuda(self):
        raise TypeError(f"can't convert {self.device} device type tensor to numpy at {_place()}")
    if self.requires_grad and not force:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")
    return np.zeros(tuple(self.shape), _numpy_type(self))


def _deep_copy(self: FakeTensor, memo: dict[int, Any]) -> Tensor:
    if id(self) not in memo:
        copy = self.detach().clone()
        needed = self.requires_grad
        memo[id(self)] = nn.Parameter(copy, needed) if isinstance(self, nn.Parameter) else copy
        memo[id(self)].requires_grad_(needed)
    return memo[id(self)]


_tensor = torch.tensor


def _new_tensor(data: Any, *, device: torch.device | str | None = None, **options: Any) -> Tensor:
    """torch.tensor, which asks the driver even for a fake tensor."""
    made = _tensor(data, **options)
    return made if device is None else made.to(device)


def _check_random_state(state: Tensor, device: object = None) -> None:
    """Refuse what torch.set_rng_state and torch.cuda.set_rng_state refuse: states are bytes of the host."""
    assert state.device.type == "cpu", f"a state of a generator on {state.device}"
    assert state.dtype == torch.uint8


def _numpy_type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _watching() -> Watch:
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    return next(mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, Watch))


def _apply(self: nn.Module, function: Any, recurse: bool = True) -> nn.Module:
    """nn.Module._apply, which can put no fake tensor in the place of a real one."""
    for child in self.children():
        child._apply(function)
    for name, parameter in self._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = function(parameter)
            self._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = function(buffer)
    return self


@contextmanager
def fake_cuda() -> Iterator[Watch]:
    """Within it, tensors on `CUDA` are fake, and a machine with one GPU is pretended."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # before CUDA is pretended, or it would use the driver
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_tensor, "init_gpu_context", lambda device: None)
        patch.setattr(FakeTensor, "__torch_dispatch__", classmethod(_dispatch_without_modes))
        patch.setitem(fake_tensor._DISPATCH_META_HANDLERS, torch.ops.prim.device.default, _device_for_engine)
        patch.setattr(FakeTensor, "is_meta", property(lambda tensor: tensor.fake_device.type == "meta"))
        patch.setattr(FakeTensor, "is_cuda", property(on_cuda))
        patch.setattr(FakeTensor, "tolist", _to_list)
        patch.setattr(FakeTensor, "numpy", _to_numpy)
        patch.setattr(FakeTensor, "__deepcopy__", _deep_copy)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
        patch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
        patch.setattr(torch.cuda, "set_rng_state", _check_random_state)
        patch.setattr(torch, "tensor", _new_tensor)
        patch.setattr(torch, "set_rng_state", _check_random_state)
        patch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: False)
        for name in ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check"):
            patch.setattr(torch.optim.Optimizer, name, lambda optimizer: None, raising=False)
        watch = Watch()
        with mode, watch, torch.autograd.set_multithreading_enabled(False):
            yield watch
