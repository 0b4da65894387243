"""Saved tensors leave for pinned memory on a stream of their own.

What `torch.autograd.graph.save_on_cpu` does without overlap: here copies out run on
one stream while computation goes on, and copies back start one tensor ahead of the
backward pass, which reads them last to first.
"""

# pyright: reportMissingImports=false
# PyTorch is used where it is installed; it is no requirement.

from typing import Any

import torch
from torch import Tensor

LEAST_BYTES = 1 << 20
"""Smaller tensors stay on the device."""
IN_FLIGHT = 2
"""Tensors whose copies out may be under way; the next one waits for the first."""


class OffloadSavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Context in which autograd's saved tensors are kept in host memory.

    Parameters and their casts that were saved are swapped like any other tensor.
    Without a GPU the copies are synchronous: tests prove values, not overlap.

    Args:
        least_bytes: Tensors smaller than this stay.

    Example:
        >>> import torch
        >>> x = torch.ones(3, requires_grad=True)
        >>> with OffloadSavedTensors(least_bytes=0):
        ...     y = (x * x).sum()
        >>> y.backward()
        >>> x.grad
        tensor([2., 2., 2.])
    """

    def __init__(self, least_bytes: int = LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        self._host: list[Tensor] = []
        self._left: list[Any] = []
        self._leaving: list[tuple[Tensor, Any]] = []
        self._back: dict[int, tuple[Tensor, Any]] = {}
        self._is_cuda = torch.cuda.is_available()
        self._out = torch.cuda.Stream() if self._is_cuda else None
        self._in = torch.cuda.Stream() if self._is_cuda else None
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> int | Tensor:
        nbytes = tensor.numel() * tensor.element_size()
        if nbytes < self._least_bytes or tensor.is_cuda != self._is_cuda:
            return tensor
        dense = tensor.detach().contiguous()
        host = torch.empty(
            dense.shape, dtype=dense.dtype, device="cpu", pin_memory=self._is_cuda
        )
        if self._out is None:
            host.copy_(dense)
            self._left.append(None)
        else:
            self._out.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._out):
                host.copy_(dense, non_blocking=True)
            done = self._out.record_event()
            self._left.append(done)
            # The device's copy must live until it has left; no more than a few may.
            self._leaving.append((dense, done))
            while len(self._leaving) > IN_FLIGHT:
                _, earlier = self._leaving.pop(0)
                torch.cuda.current_stream().wait_event(earlier)
        self._host.append(host)
        return len(self._host) - 1

    def _unpack(self, packed: int | Tensor) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        self._leaving.clear()
        tensor, arrived = self._back.pop(packed, None) or self._fetch(packed)
        if arrived is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(arrived)
            tensor.record_stream(stream)
        # The backward pass reads what was saved last first.
        if packed and packed - 1 not in self._back:
            self._back[packed - 1] = self._fetch(packed - 1)
        return tensor

    def _fetch(self, index: int) -> tuple[Tensor, Any]:
        host = self._host[index]
        if self._in is None:
            return host.clone(), None
        self._in.wait_event(self._left[index])
        with torch.cuda.stream(self._in):
            tensor = host.to("cuda", non_blocking=True)
        return tensor, self._in.record_event()
