"""A `cuda` device without a GPU: tensors on it have shapes, dtypes and a device, but no values.

CPU tensors are real. Tensors on `cuda` are torch's fake tensors, so the real code runs on them, forward and
backward, and an operation that CUDA refuses for its devices is refused here. Whatever makes the host wait for
the device, or copies between both, is recorded with the line of the code that asked for it, and answered
with a plausible value: a scalar that the host reads is 1, True, or False for `any`; of what it copies,
integers are 0 and other numbers random.

A fake device says nothing of kernels, numbers, memory or speed.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda:0")
ROOT = f"{Path(__file__).parents[3]}/"
_ASKED = torch.device(
    "meta"
)  # what torch's C++ is told that asks for a device: at `cuda` it looks for a driver
CAPABILITY = (9, 0)  # of an H100

aten = torch.ops.aten
# Operations that take indices, or a value, from the host.
_INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
_TAKES_A_HOST_SCALAR = (
    aten.fill_.Tensor,
    aten.fill.Tensor,
    aten.masked_fill.Tensor,
    aten.masked_fill_.Tensor,
    aten.where.self,
)
# Functions that autocast computes in half precision, in float32, and in the widest type of their arguments.
LOWER = frozenset(
    {
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "linear",
        "matmul",
        "__matmul__",
        "__rmatmul__",
        "bmm",
        "mm",
        "mv",
        "baddbmm",
        "addmm",
        "addbmm",
        "addmv",
        "einsum",
        "prelu",
        "multi_dot",
        "scaled_dot_product_attention",
        "bilinear",
    }
)
FLOAT32 = frozenset(
    {
        "__pow__",
        "__rpow__",
        "__rdiv__",
        "acos",
        "asin",
        "cosh",
        "cosine_embedding_loss",
        "cdist",
        "cosine_similarity",
        "cross_entropy",
        "cumprod",
        "cumsum",
        "dist",
        "erfinv",
        "exp",
        "expm1",
        "group_norm",
        "hinge_embedding_loss",
        "kl_div",
        "l1_loss",
        "layer_norm",
        "log",
        "log10",
        "log_softmax",
        "log1p",
        "log2",
        "mse_loss",
        "nll_loss",
        "norm",
        "normalize",
        "pdist",
        "pow",
        "prod",
        "reciprocal",
        "rsqrt",
        "sinh",
        "smooth_l1_loss",
        "soft_margin_loss",
        "softmax",
        "softmin",
        "softplus",
        "sum",
        "renorm",
        "tan",
    }
)
WIDEST = frozenset(
    {
        "addcdiv",
        "addcmul",
        "atan2",
        "cat",
        "cross",
        "dot",
        "grid_sample",
        "index_put",
        "scatter_add",
        "stack",
        "tensordot",
    }
)
# Operations that CUDA computes differently each time, by torch's documentation of
# use_deterministic_algorithms: those that then raise, and those that then take another way.
HAS_NO_DETERMINISTIC_FORM = frozenset(
    {
        "_ctc_loss_backward",
        "_embedding_bag",
        "adaptive_max_pool2d_backward",
        "avg_pool3d_backward",
        "grid_sampler_2d_backward",
        "histc",
        "kthvalue",
        "median",
        "nll_loss2d_forward",
        "put_",
        "reflection_pad1d_backward",
        "reflection_pad2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
    }
)
NONDETERMINISTIC = HAS_NO_DETERMINISTIC_FORM | {
    "_cudnn_rnn_backward",
    "convolution_backward",
    "cumsum",
    "embedding_dense_backward",
    "index_add_",
    "index_copy_",
    "index_put_",
    "replication_pad1d_backward",
    "scatter_",
    "scatter_add_",
    "scatter_reduce_",
}
_ANY = (aten.any.default, aten.any.dim, aten.any.dims)
_HOST_READS = (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default)
_COPIES = (aten._to_copy.default, aten.copy_.default)


class WrongDevice(RuntimeError):
    """An operation on tensors of both devices, which CUDA refuses."""


class Contact(NamedTuple):
    """A contact of host and device.

    kind: `read` of a value, `to host`, `to device`, `shape` of a result, or `event`. waits: whether the host
    waits for all that the device was given. where: the file and function.
    """

    kind: str
    where: str
    line: int
    waits: bool


class FakeCUDA(TorchDispatchMode):
    """The device, and the record of its contacts with the host, in order.

    operations: names of all that it was given, such as `conv1d`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.contacts: list[Contact] = []
        self.operations: set[str] = set()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    def waits(self) -> Counter[str]:
        """How often the host has waited for the device, by kind and place."""
        return Counter(f"{contact.kind}: {contact.where}" for contact in self.contacts if contact.waits)

    def record(self, kind: str, waits: bool = True) -> None:
        """Note a contact, at the innermost line of the product that led to it."""
        self.contacts.append(Contact(kind, *_place(), waits))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return _ASKED
        if (asked := kwargs.get("device")) is not None and torch.device(asked).type in ("meta", "cuda"):
            kwargs["device"] = CUDA
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if not on_device and kwargs.get("device") != CUDA:
            return func(*args, **kwargs)
        self.operations.add(func.overloadpacket.__name__)
        if torch.is_inference_mode_enabled() and func not in _HOST_READS and _is_composite(func):
            # Without autograd, functions come here whole that otherwise come as the operations they call.
            with self:
                return func.decompose(*args, **kwargs)
        if func in _COPIES:
            return self._copied(func, args, kwargs)
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type != "cuda":
            raise WrongDevice(f"a random generator of the CPU draws on cuda, at {_place()[0]}")
        if func in _HOST_READS:
            self.record("read")
            return _answer(args[0])
        self._check_devices(func, tensors)
        if func is aten.equal.default:
            self.record("read")
            return True
        if func is aten.nonzero.default:
            self.record("shape")
            return self._new((min(3, args[0].numel()), args[0].ndim), torch.int64)
        if func in _INDEXING:
            args = self._without_masks(func, args)
        with self._fake:
            made = func(*args, **kwargs)
        if func in _ANY:
            made._is_any = True
        return made

    def _without_masks(self, func: Any, args: Sequence[Any]) -> Sequence[Any]:
        """Arguments with places in place of boolean masks, whose number the host has to wait for."""
        indices: list[Any] = []
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                indices.append(index)
                continue
            if func is aten.index.Tensor or args[2].ndim or len(args[1]) > 1:  # else it is a masked fill
                self.record("shape")
            indices += [self._new((min(3, index.numel()),), torch.int64) for _ in range(index.ndim)]
        return (args[0], indices, *args[2:])

    def _new(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        with self._fake:
            return torch.empty(shape, dtype=dtype, device=CUDA)

    def _copied(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """A copy within the device, or between both."""
        source = args[1] if func is aten.copy_.default else args[0]
        if func is aten.copy_.default:
            to_device = isinstance(args[0], FakeTensor)
            waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        else:
            target = kwargs.get("device")
            to_device = isinstance(source, FakeTensor) if target is None else torch.device(target) == CUDA
            waits = not kwargs.get("non_blocking", False)
        if to_device and isinstance(source, FakeTensor):
            with self._fake:
                return func(*args, **kwargs)
        if to_device:
            # From memory that is not pinned the copy is staged, and the host waits for what went before.
            self.record("to device", waits or not source.is_pinned())
            if func is aten.copy_.default:
                source.expand(args[0].shape)
                return args[0]
            return self._new(source.shape, kwargs.get("dtype") or source.dtype)
        self.record("to host", waits)
        if func is aten.copy_.default:
            return args[0].copy_(_values(args[0].shape, args[0].dtype))
        return _values(source.shape, kwargs.get("dtype") or source.dtype)

    def _check_devices(self, func: Any, tensors: Sequence[Tensor]) -> None:
        """Refuse tensors of both devices where CUDA does. Raises WrongDevice."""
        hosts = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        if not hosts or func.namespace == "prim" or func in (aten.lift_fresh.default, aten.lift.default):
            return
        if func in _INDEXING and all(tensor.dtype in (torch.int64, torch.bool) for tensor in hosts):
            self.record("to device")  # of the indices
            return
        scalar = all(tensor.ndim == 0 for tensor in hosts)
        binary = torch.Tag.pointwise in func.tags and len(tensors) == 2 and "_foreach" not in func.name()
        if scalar and (binary or func in _TAKES_A_HOST_SCALAR):
            return  # passed as an argument of the kernel
        raise WrongDevice(
            f"expected all tensors on one device, but {func} at {_place()[0]} gets tensors of shapes "
            f"{[tuple(tensor.shape) for tensor in hosts]} on cpu among those on cuda"
        )


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operation is defined by others alone."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


class _Calls(TorchFunctionMode):
    """What torch decides before it comes to operations: where new tensors are made, and autocast.

    torch's own autocast asks in C++ where each tensor is, which cannot be answered with `cuda`.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in ("tensor", "as_tensor", "new_tensor"):
            device = kwargs.pop("device", args[0].device if name == "new_tensor" else None)
            if name == "new_tensor":
                func, args = torch.tensor, args[1:]
            made = func(*args, **kwargs)
            return made if device is None else made.to(_with_index(device))
        if name == "to":  # without an index it asks the driver for the current device
            args = tuple(_with_index(value) for value in args)
            kwargs = {key: _with_index(value) for key, value in kwargs.items()}
        if torch.is_autocast_enabled("cuda"):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, FakeTensor)]
            if any(tensor.is_floating_point() for tensor in tensors):
                args, kwargs = _cast(name, tensors, args, kwargs)
                with torch.autocast("cuda", enabled=False):
                    return func(*args, **kwargs)
        return func(*args, **kwargs)


def _with_index(value: Any) -> Any:
    """`cuda:0` for `cuda`; anything else as it is."""
    return CUDA if value == "cuda" or value == torch.device("cuda") else value


def _cast(
    name: str, tensors: Sequence[Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Arguments of an operation in the precision that CUDA's autocast gives them, by torch's documented
    lists. Raises AssertionError for an LSTM, which cuDNN computes in fp16 whatever the precision is."""
    assert name not in ("lstm", "gru"), f"a recurrent layer under autocast, at {_place()[0]}"
    if name in LOWER:
        dtype = torch.get_autocast_dtype("cuda")
    elif name in FLOAT32 or (name in WIDEST and any(tensor.dtype == torch.float32 for tensor in tensors)):
        dtype = torch.float32
    else:
        return args, kwargs

    def change(value: Any) -> Any:
        if not isinstance(value, FakeTensor) or not value.is_floating_point():
            return value
        return value if value.dtype == torch.float64 else value.to(dtype)

    return tree_map(change, (tuple(args), dict(kwargs)))


@contextmanager
def fake_cuda() -> Iterator[FakeCUDA]:
    """Within it, `cuda` is a fake device, and torch.cuda says that there is one GPU."""
    device = FakeCUDA()
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        for target, name, value in _patches(device):
            stack.enter_context(patch.object(target, name, value))
        stack.enter_context(
            patch.dict(fake_tensor._DISPATCH_META_HANDLERS, {torch.ops.prim.device.default: lambda _: _ASKED})
        )
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(device)
        stack.enter_context(_Calls())
        yield device


def _patches(device: FakeCUDA) -> list[tuple[Any, str, Any]]:
    """What stands in for the driver, and for methods that look at memory which is not there."""

    class Event:
        """An event: waiting for one does not wait for what the device was given after it."""

        def __init__(self, **_: Any) -> None:
            pass

        def record(self, stream: Any = None) -> None:
            pass

        def synchronize(self) -> None:
            device.record("event", waits=False)

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        pinned._pinned = True
        return pinned

    def numpy(tensor: Tensor, *, force: bool = False) -> Any:
        raise TypeError(f"can't convert a cuda tensor to numpy, at {_place()[0]}: copy it to the host first")

    def tolist(tensor: Tensor) -> Any:
        device.record("read")
        return torch.full(tuple(tensor.shape), _answer(tensor), dtype=tensor.dtype).tolist()

    class Properties:
        major, minor = CAPABILITY
        name, total_memory, multi_processor_count = "fake", 80 * 2**30, 132

    dispatch = FakeTensor.__torch_dispatch__

    def torch_dispatch(cls: type, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _ASKED if func is torch.ops.prim.device.default else dispatch(func, types, args, kwargs or {})

    cuda = torch.cuda
    random_state = torch.zeros(16, dtype=torch.uint8)
    return [
        (fake_tensor, "init_gpu_context", lambda _: None),
        (FakeTensor, "__torch_dispatch__", classmethod(torch_dispatch)),
        (FakeTensor, "is_meta", False),
        (FakeTensor, "is_cuda", True),
        (FakeTensor, "is_cpu", False),
        (FakeTensor, "numpy", numpy),
        (FakeTensor, "tolist", tolist),
        (Tensor, "pin_memory", pin_memory),
        (Tensor, "is_pinned", lambda tensor, *_: getattr(tensor, "_pinned", False)),
        (nn.Module, "_apply", _apply),
        (torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None),
        (cuda, "_lazy_init", lambda: None),
        (cuda, "Event", Event),
        (cuda, "is_available", lambda: True),
        (cuda, "device_count", lambda: 1),
        (cuda, "current_device", lambda: 0),
        (cuda, "set_device", lambda _: None),
        (cuda, "synchronize", lambda *_: device.record("event")),
        (cuda, "empty_cache", lambda: None),
        (cuda, "is_bf16_supported", lambda including_emulation=True: True),
        (cuda, "get_device_capability", lambda *_: CAPABILITY),
        (cuda, "get_device_properties", lambda *_: Properties),
        (cuda, "get_rng_state", lambda *_: random_state.clone()),
        (cuda, "set_rng_state", lambda *_: None),
        (torch.amp.grad_scaler.torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
    ]


def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` with new parameters: torch's puts the values into the old ones, which fake tensors
    do not allow."""
    if recurse:
        for child in module.children():
            child._apply(change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                changed = change(parameter)
            module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


def _answer(tensor: Tensor) -> Any:
    """The value of a scalar that the host reads: all is in order, and nothing is anywhere out of order."""
    if tensor.dtype == torch.bool:
        return not getattr(tensor, "_is_any", False)
    return 1.0 if tensor.is_floating_point() else 1


def _values(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The values of a tensor that the host copies: numbers from 0.5 to 1.5, and 0 for integers, which may be
    indices."""
    if not dtype.is_floating_point:
        return torch.zeros(tuple(shape), dtype=dtype)
    return (0.5 + torch.rand(tuple(shape), generator=torch.Generator().manual_seed(0))).to(dtype)


def _place() -> tuple[str, int]:
    """File and function, and line, of the innermost frame in this repository, but for this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(ROOT) and code.co_filename != __file__:
            return f"{code.co_filename.removeprefix(ROOT)} {code.co_qualname}", frame.f_lineno
        frame = frame.f_back
    return "?", 0
