# SPDX-License-Identifier: Apache-2.0
"""
The little that the TensorRT backend asks of CUDA: memory, one stream, graphs and events.

Through NVIDIA's own ``cuda.bindings`` and its driver API: that needs the driver alone (``libcuda.so.1``), on
a desktop and on a Jetson, and no CUDA toolkit of a fitting version.
"""

import ctypes
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from jepa_ros.engine.backends.graph import EngineError
from jepa_ros.errors import one_line

DRIVER = 'libcuda.so.1'


def has_driver() -> bool:
    """Whether an NVIDIA driver is installed; quick, so that a machine without one pays nothing."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def open_gpu() -> 'Gpu':
    """
    Open the first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses).

    :raises EngineError: no driver, no ``cuda.bindings``, or no GPU
    """
    if not has_driver():
        raise EngineError(f'expected an NVIDIA GPU with its driver ({DRIVER}), found none')
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise EngineError(f"expected cuda.bindings ('pip install cuda-bindings'), found {error}") from error
    return Gpu(driver)


@dataclass(frozen=True)
class Buffer:
    """
    Memory of an address.

    :param address: on the GPU or, for pinned memory, on the host
    :param size: bytes
    """

    address: int
    size: int

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return pinned host memory as an array, without a copy."""
        count = int(np.prod(shape))
        view = (ctypes.c_uint8 * self.size).from_address(self.address)
        return np.frombuffer(view, dtype, count).reshape(shape)


class Gpu:
    """
    One GPU with one stream; every call is ordered on that stream.

    :param driver: the module ``cuda.bindings.driver``
    :ivar name: for example 'Orin'
    :ivar compute_capability: for example '8.7'
    :ivar stream: handle of the stream
    :raises EngineError: CUDA finds no GPU, or a call fails
    """

    def __init__(self, driver):
        self._driver = driver
        self._call('cuInit', 0)
        device = self._call('cuDeviceGet', 0)
        self._context = self._call('cuDevicePrimaryCtxRetain', device)
        self.name = self._call('cuDeviceGetName', 256, device).split(b'\0')[0].decode()
        attributes = driver.CUdevice_attribute
        self.compute_capability = '.'.join(
            str(self._call('cuDeviceGetAttribute', attribute, device))
            for attribute in (attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                              attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR))
        self.make_current()
        self._stream = self._call('cuStreamCreate', driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
        self.stream = int(self._stream)

    def make_current(self) -> None:
        """Make this GPU that of the calling thread."""
        self._call('cuCtxSetCurrent', self._context)

    def allocate(self, size: int) -> Buffer:
        """Allocate zeros on the GPU; they live as long as the process or until :meth:`free`."""
        buffer = Buffer(int(self._call('cuMemAlloc', size)), size)
        self.fill_zero(buffer)
        return buffer

    def allocate_pinned(self, size: int) -> Buffer:
        """Allocate host memory that the GPU can copy from and to by itself."""
        return Buffer(int(self._call('cuMemHostAlloc', size, 0)), size)

    def free(self, buffer: Buffer) -> None:
        """Free memory of the GPU."""
        self._call('cuMemFree', buffer.address)

    def free_pinned(self, buffer: Buffer) -> None:
        """Free pinned host memory."""
        self._call('cuMemFreeHost', buffer.address)

    def fill_zero(self, buffer: Buffer) -> None:
        """Overwrite memory of the GPU with zeros."""
        self._call('cuMemsetD8Async', buffer.address, 0, buffer.size, self._stream)

    def upload(self, target: Buffer, source: Buffer, size: int) -> None:
        """Copy from pinned memory to the GPU."""
        self._call('cuMemcpyHtoDAsync', target.address, source.address, size, self._stream)

    def download(self, target: Buffer, source: Buffer, size: int) -> None:
        """Copy from the GPU to pinned memory."""
        self._call('cuMemcpyDtoHAsync', target.address, source.address, size, self._stream)

    def copy_rows(self, target: Buffer, offset: int, pitch: int, source: Buffer, width: int,
                  rows: int) -> None:
        """
        Copy rows within the GPU.

        :param offset: of the first row in the target (bytes)
        :param pitch: from one row of the target to the next (bytes)
        :param width: of a row (bytes); the source's rows follow one another
        """
        memory = self._driver.CUmemorytype.CU_MEMORYTYPE_DEVICE
        copy = self._driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = memory
        copy.srcDevice, copy.srcPitch = self._driver.CUdeviceptr(source.address), width
        copy.dstDevice, copy.dstPitch = self._driver.CUdeviceptr(target.address + offset), pitch
        copy.WidthInBytes, copy.Height = width, rows
        self._call('cuMemcpy2DAsync', copy, self._stream)

    def synchronise(self) -> None:
        """Wait until all that was asked for is done."""
        self._call('cuStreamSynchronize', self._stream)

    def capture(self, work) -> 'CapturedGraph':
        """
        Record what ``work()`` asks of the stream, without doing it.

        :raises EngineError: the work holds something that cannot be recorded
        """
        modes = self._driver.CUstreamCaptureMode
        self._call('cuStreamBeginCapture', self._stream, modes.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        try:
            work()
        finally:
            recorded = self._call('cuStreamEndCapture', self._stream)
        try:
            return CapturedGraph(self, self._call('cuGraphInstantiate', recorded, 0))
        finally:
            self._call('cuGraphDestroy', recorded)

    @contextmanager
    def timed(self):
        """Time what is asked for inside: yields a list that afterwards holds the milliseconds it took."""
        begin, end = (self._call('cuEventCreate', 0) for _ in range(2))
        milliseconds = []
        try:
            self._call('cuEventRecord', begin, self._stream)
            yield milliseconds
            self._call('cuEventRecord', end, self._stream)
            self._call('cuEventSynchronize', end)
            milliseconds.append(self._call('cuEventElapsedTime', begin, end))
        finally:
            self._call('cuEventDestroy', begin)
            self._call('cuEventDestroy', end)

    def __del__(self):
        with suppress(Exception):  # at the end of the process CUDA may be gone before us
            self._call('cuStreamDestroy', self._stream)

    def _call(self, name: str, *arguments):
        try:
            status, *values = getattr(self._driver, name)(*arguments)
        except (RuntimeError, OSError) as error:  # the driver's library lacks the function, or does not load
            raise EngineError(f'expected CUDA to work, found {name}: {one_line(error)}') from error
        if int(status):
            raise EngineError(f'expected CUDA to work, found {name}: {status.name}')
        return values[0] if values else None


class CapturedGraph:
    """Work of a stream that one call starts; made by :meth:`Gpu.capture`."""

    def __init__(self, gpu: Gpu, executable):
        self._gpu, self._executable = gpu, executable

    def launch(self) -> None:
        """Start the work on the GPU's stream."""
        self._gpu._call('cuGraphLaunch', self._executable, self._gpu._stream)

    def destroy(self) -> None:
        """Release it."""
        self._gpu._call('cuGraphExecDestroy', self._executable)
