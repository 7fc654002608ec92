"""Memory and a stream of an NVIDIA GPU, through the driver's library.

``libcuda.so.1`` is part of every GPU driver, and its C interface (CUDA driver API, stable since CUDA 4) is the same for
every CUDA version above it. TensorRT uses the primary context of the same device, so addresses are shared.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DeviceError

_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class CudaMemory:
    """The first GPU that this process sees, a stream on it, and named buffers that grow on demand.

    ``close`` frees everything. Any failure raises DeviceError with the driver's message.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise DeviceError(f"the NVIDIA driver's {_LIBRARY} can't be loaded: {error}") from error
        for name, argtypes in _FUNCTIONS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = argtypes, c_int
        device, context, stream = c_int(), c_void_p(), c_void_p()
        self._buffers: dict[str, tuple[int, int]] = {}  # address and size in bytes
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(device), 0)
        self._device = device.value
        self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self._context: c_void_p | None = context
        self.make_current()
        self._call("cuStreamCreate", byref(stream), 0)
        self._stream = stream

    @property
    def device_name(self) -> str:
        """Product name that the driver reports."""
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        return name.value.decode()

    @property
    def stream(self) -> int:
        """Handle of the stream, for other libraries."""
        return self._stream.value or 0

    def make_current(self) -> None:
        """Makes this GPU's context current in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def reserve(self, name: str, size_bytes: int) -> int:
        """Address of the buffer ``name``, which has at least this size; growing loses its content."""
        address, has_bytes = self._buffers.get(name, (0, 0))
        if has_bytes < size_bytes or not address:
            self._free(name)
            pointer = c_uint64()
            self._call("cuMemAlloc_v2", byref(pointer), max(1, size_bytes))
            address = pointer.value
            self._buffers[name] = address, size_bytes
        return address

    def upload(self, name: str, array: Array) -> int:
        """Copies an array to the buffer ``name`` and returns its address. The array must live until ``synchronize``."""
        assert array.flags.c_contiguous, "only a contiguous array is one copy"
        address = self.reserve(name, array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, self._stream)
        return address

    def download(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        """A new array to which the buffer ``name`` is copied; it holds the values after ``synchronize``."""
        array = np.empty(shape, dtype)
        address, _ = self._buffers[name]
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, self._stream)
        return array

    def synchronize(self) -> None:
        """Waits for all work of the stream."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Frees buffers and stream; any later call is an error."""
        if self._context is None:
            return
        self.make_current()
        for name in list(self._buffers):
            self._free(name)
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)
        self._context = None

    def _free(self, name: str) -> None:
        address, _ = self._buffers.pop(name, (0, 0))
        if address:
            self._call("cuMemFree_v2", address)

    def _call(self, name: str, *args: Any) -> None:
        code = getattr(self._library, name)(*args)
        if code:
            text = c_char_p()
            self._library.cuGetErrorString(code, byref(text))
            raise DeviceError(f"{name} failed on the GPU: {(text.value or b'unknown error').decode()} ({code})")
