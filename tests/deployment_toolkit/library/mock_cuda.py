"""A mock of the NVIDIA driver's library, for machines without a GPU. Its device memory is memory of this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

INVALID_CONTEXT, OUT_OF_MEMORY, INVALID_VALUE = 201, 2, 1
TEXTS = {
    INVALID_CONTEXT: b"invalid device context",
    OUT_OF_MEMORY: b"out of memory",
    INVALID_VALUE: b"invalid argument",
}
CONTEXT, STREAM = 0xC0, 0x57


class MockFunction:
    """A function of a C library; it converts its arguments to their declared types."""

    def __init__(self, run: Callable[..., int]) -> None:
        self.argtypes: tuple[Any, ...] | None = None
        self.restype: Any = None
        self._run = run

    def __call__(self, *args: Any) -> int:
        assert self.argtypes is not None and self.restype is ctypes.c_int, "not declared before it is called"
        assert len(args) == len(self.argtypes)
        for argtype, arg in zip(self.argtypes, args, strict=True):
            argtype.from_param(arg)
        return self._run(*(getattr(arg, "value", arg) if isinstance(arg, ctypes.c_void_p) else arg for arg in args))


class MockDriver:
    """The functions of the CUDA driver API that the project uses, by name. ``live`` is the allocated memory."""

    def __init__(self, device_name: str = "Mock GPU", memory_bytes: int = 2**30) -> None:
        self.live: dict[int, Any] = {}
        self.uploaded_bytes = 0
        self._device_name, self._memory_bytes = device_name, memory_bytes
        self._current: int | None = None
        self._pending: list[Callable[[], Any]] = []
        for name in (name for name in dir(type(self)) if name.startswith("cu")):
            setattr(self, name, MockFunction(getattr(self, name)))

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: int) -> int:
        text.value = self._device_name.encode()
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> int:
        context._obj.value = CONTEXT
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: int) -> int:
        self._current = None
        return 0

    def cuCtxSetCurrent(self, context: int | None) -> int:
        self._current = context
        return 0 if context == CONTEXT else INVALID_CONTEXT

    def cuMemAlloc_v2(self, pointer: Any, size: int) -> int:
        if self._current != CONTEXT:
            return INVALID_CONTEXT
        if size < 1:
            return INVALID_VALUE
        if sum(map(ctypes.sizeof, self.live.values())) + size > self._memory_bytes:
            return OUT_OF_MEMORY
        memory = ctypes.create_string_buffer(size)
        pointer._obj.value = ctypes.addressof(memory)
        self.live[ctypes.addressof(memory)] = memory
        return 0

    def cuMemFree_v2(self, pointer: int) -> int:
        return 0 if self.live.pop(pointer, None) is not None else INVALID_VALUE

    def cuMemcpyHtoDAsync_v2(self, device: int, host: int, size: int, stream: int) -> int:
        self.uploaded_bytes += size
        return self._copy(device, host, device, size, stream)

    def cuMemcpyDtoHAsync_v2(self, host: int, device: int, size: int, stream: int) -> int:
        return self._copy(host, device, device, size, stream)

    def cuStreamCreate(self, stream: Any, flags: int) -> int:
        stream._obj.value = STREAM
        return 0

    def cuStreamDestroy_v2(self, stream: int) -> int:
        return 0 if stream == STREAM else INVALID_VALUE

    def cuStreamSynchronize(self, stream: int) -> int:
        while self._pending:
            self._pending.pop(0)()
        return 0

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = TEXTS[code]
        return 0

    def enqueue(self, stream: int, work: Callable[[], Any]) -> None:
        """Work of a stream runs in order, when the stream is synchronised."""
        assert stream == STREAM
        self._pending.append(work)

    def _copy(self, target: int, source: int, device: int, size: int, stream: int) -> int:
        if device not in self.live or size > ctypes.sizeof(self.live[device]):
            return INVALID_VALUE
        self.enqueue(stream, lambda: ctypes.memmove(target, source, size))
        return 0
