# SPDX-License-Identifier: Apache-2.0
"""
A GPU that is none: stands in for ``cuda.bindings.driver`` and ``tensorrt`` where a test needs no card.

The stream is lazy, as a real one is: nothing happens before somebody waits for it, so that a missing wait or
a buffer that is freed or overwritten too early shows. A plan is the ONNX file itself, and ONNX Runtime
computes it on the addresses that the backend has set.
"""

import ctypes
import enum
from types import SimpleNamespace

import numpy as np
import onnxruntime

from jepa_ros.engine.backends import tensorrt
from jepa_ros.engine.backends.gpu import Gpu


class Machine:
    """
    Puts a faked GPU with a faked TensorRT into this machine; what it offers can be changed.

    :param monkeypatch: pytest's
    """

    def __init__(self, monkeypatch):
        monkeypatch.delenv('JEPA_PLANS', raising=False)
        self.driver = FakeDriver()
        self.trt = FakeTensorRT(self.driver)
        monkeypatch.setattr(tensorrt, 'library', lambda: self.trt)
        monkeypatch.setattr(tensorrt, 'open_gpu', lambda: Gpu(self.driver))


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


OK = Result.CUDA_SUCCESS


class FakeDriver:
    """
    The functions of ``cuda.bindings.driver`` that the backend calls.

    :ivar live: sizes of all memory by address
    :ivar launches: how often a recorded graph was started
    :ivar can_capture: whether recording works
    """

    CUdevice_attribute = SimpleNamespace(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR='major',
                                         CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR='minor')
    CUstream_flags = SimpleNamespace(CU_STREAM_NON_BLOCKING=SimpleNamespace(value=1))
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)
    CUmemorytype = SimpleNamespace(CU_MEMORYTYPE_DEVICE=2)
    CUDA_MEMCPY2D = SimpleNamespace
    CUdeviceptr = int

    def __init__(self, name='Fake Orin', capability=(8, 7)):
        self.name, self.capability = name, capability
        self.live, self._memory = {}, {}
        self.queue, self.recording = [], None
        self.launches, self.captures, self.can_capture = 0, 0, True

    def enqueue(self, work) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def at(self, address: int, size: int) -> int:
        """Return an address after checking that so much memory is there."""
        assert any(start <= address and address + size <= start + n for start, n in self.live.items())
        return address

    def cuInit(self, flags):
        return (OK,)

    def cuDeviceGet(self, ordinal):
        return OK, 0

    def cuDevicePrimaryCtxRetain(self, device):
        return OK, 'context'

    def cuCtxSetCurrent(self, context):
        return (OK,)

    def cuDeviceGetName(self, length, device):
        return OK, self.name.encode().ljust(length, b'\0')

    def cuDeviceGetAttribute(self, attribute, device):
        return OK, self.capability[attribute == 'minor']

    def cuStreamCreate(self, flags):
        return OK, 7

    def cuStreamDestroy(self, stream):
        return (OK,)

    def cuStreamSynchronize(self, stream):
        assert self.recording is None
        work, self.queue = self.queue, []
        for item in work:
            item()
        return (OK,)

    def cuMemAlloc(self, size):
        memory = ctypes.create_string_buffer(b'\xff' * size, size)  # what was there before
        address = ctypes.addressof(memory)
        self.live[address], self._memory[address] = size, memory
        return OK, address

    def cuMemHostAlloc(self, size, flags):
        return self.cuMemAlloc(size)

    def cuMemFree(self, address):
        self.cuStreamSynchronize(7)
        del self.live[address], self._memory[address]
        return (OK,)

    cuMemFreeHost = cuMemFree

    def cuMemsetD8Async(self, address, value, size, stream):
        self.enqueue(lambda: ctypes.memset(self.at(address, size), value, size))
        return (OK,)

    def cuMemcpyHtoDAsync(self, target, source, size, stream):
        self.enqueue(lambda: ctypes.memmove(self.at(target, size), self.at(source, size), size))
        return (OK,)

    cuMemcpyDtoHAsync = cuMemcpyHtoDAsync

    def cuMemcpy2DAsync(self, copy, stream):
        assert copy.srcMemoryType == copy.dstMemoryType == 2 and copy.dstPitch >= copy.WidthInBytes

        def work():
            for row in range(copy.Height):
                ctypes.memmove(self.at(copy.dstDevice + row * copy.dstPitch, copy.WidthInBytes),
                               self.at(copy.srcDevice + row * copy.srcPitch, copy.WidthInBytes),
                               copy.WidthInBytes)

        self.enqueue(work)
        return (OK,)

    def cuStreamBeginCapture(self, stream, mode):
        self.recording = []
        return (OK,)

    def cuStreamEndCapture(self, stream):
        recorded, self.recording = self.recording, None
        if not self.can_capture:
            return Result.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        return OK, recorded

    def cuGraphInstantiate(self, recorded, flags):
        self.captures += 1
        return OK, recorded

    def cuGraphDestroy(self, recorded):
        return (OK,)

    cuGraphExecDestroy = cuEventDestroy = cuEventSynchronize = cuGraphDestroy

    def cuGraphLaunch(self, recorded, stream):
        self.launches += 1
        self.queue += recorded
        return (OK,)

    def cuEventCreate(self, flags):
        return OK, object()

    def cuEventRecord(self, event, stream):
        return (OK,)

    def cuEventElapsedTime(self, begin, end):
        self.cuStreamSynchronize(7)
        return OK, 0.25


class FakeTensorRT:
    """
    The part of the module ``tensorrt`` that the backend uses.

    :param driver: whose memory its engines compute on
    :ivar builds: how many plans were built
    :ivar refuse: plans that this runtime does not accept
    """

    TensorIOMode = SimpleNamespace(INPUT='in', OUTPUT='out')
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32='TF32')

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)

    class IProgressMonitor:
        pass

    def __init__(self, driver: FakeDriver, version='10.3.0'):
        self.__version__, self.driver = version, driver
        self.builds, self.refuse, self.profiles, self.timing_caches = 0, set(), [], []
        self.during_build = lambda: None

    @staticmethod
    def nptype(dtype):
        return dtype

    def Builder(self, log):
        return _Builder(self, log)

    def OnnxParser(self, network, log):
        return _Parser(network)

    def Runtime(self, log):
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: self._load(log, plan))

    def _load(self, log, plan):
        if plan in self.refuse or not plan.startswith(b'plan:'):
            log.log(self.ILogger.ERROR, 'the plan is of another version')
            return None
        return _Engine(self.driver, plan[5:])


class _Config:
    def __init__(self, owner):
        self._owner, self.cleared, self.progress_monitor = owner, [], None
        self.clear_flag = self.cleared.append
        self.add_optimization_profile = owner.profiles.append

    def create_timing_cache(self, content):
        if content == b'damaged':
            raise RuntimeError('cannot deserialise')
        return content

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self._owner.timing_caches.append(cache)
        return True

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: b'timed')


class _Builder:
    def __init__(self, owner, log):
        self._owner, self._log = owner, log

    def create_network(self, flags):
        assert flags == 1 << 1
        return SimpleNamespace(content=None)

    def create_builder_config(self):
        return _Config(self._owner)

    def create_optimization_profile(self):
        profile = SimpleNamespace(shapes={})
        profile.set_shape = lambda name, *shapes: profile.shapes.update({name: shapes})
        return profile

    def build_serialized_network(self, network, config):
        assert config.cleared == ['TF32']
        monitor = config.progress_monitor
        monitor.phase_start('Building engine', None, 2)
        monitor.phase_start('an inner phase', 'Building engine', 9)
        monitor.step_complete('an inner phase', 3)
        self._owner.during_build()
        monitor.step_complete('Building engine', 0)
        if not monitor.step_complete('Building engine', 1):
            return None
        monitor.phase_finish('Building engine')
        if b'unbuildable' in network.content:
            self._log.log(self._owner.ILogger.ERROR, 'no implementation for node 5')
            return None
        self._owner.builds += 1
        return b'plan:' + network.content


class _Parser:
    def __init__(self, network):
        self._network, self._errors = network, []

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index):
        return SimpleNamespace(desc=lambda: self._errors[index])

    def parse_from_file(self, path):
        with open(path, 'rb') as stream:
            self._network.content = stream.read()
        try:
            session = onnxruntime.InferenceSession(self._network.content, providers=['CPUExecutionProvider'])
        except Exception as error:
            self._errors.append(str(error))
            return False
        inputs = [SimpleNamespace(name=n.name, shape=[d if isinstance(d, int) else -1 for d in n.shape])
                  for n in session.get_inputs()]
        self._network.num_inputs, self._network.get_input = len(inputs), inputs.__getitem__
        return True


_DTYPES = {'tensor(float)': np.float32, 'tensor(uint8)': np.uint8}


class _Engine:
    """An engine and its own execution context."""

    def __init__(self, driver, content):
        self._driver = driver
        self._session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
        self._inputs = {node.name: node for node in self._session.get_inputs()}
        self._nodes = self._inputs | {node.name: node for node in self._session.get_outputs()}
        self.num_io_tensors = len(self._nodes)
        self._shapes, self._addresses = {}, {}

    def create_execution_context(self):
        return SimpleNamespace(set_input_shape=self.set_input_shape, get_tensor_shape=self._shape_now,
                               set_tensor_address=self._addresses.__setitem__,
                               execute_async_v3=self.execute)

    def get_tensor_name(self, index):
        return list(self._nodes)[index]

    def get_tensor_mode(self, name):
        return 'in' if name in self._inputs else 'out'

    def get_tensor_dtype(self, name):
        return _DTYPES[self._nodes[name].type]

    def get_tensor_shape(self, name):
        return tuple(n if isinstance(n, int) else -1 for n in self._nodes[name].shape)

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        return True

    def _shape_now(self, name):
        """As TensorRT: -1 where the inputs do not say, or contradict each other."""
        free = {}
        for node in self._inputs.values():
            for dim, n in zip(node.shape, self._shapes.get(node.name, node.shape)):
                if isinstance(dim, str) and isinstance(n, int):
                    free[dim] = n if free.get(dim, n) == n else -1
        return tuple(n if isinstance(n, int) else free.get(n, -1) for n in self._nodes[name].shape)

    def _array(self, name):
        shape, dtype = self._shape_now(name), np.dtype(self.get_tensor_dtype(name))
        size = int(np.prod(shape)) * dtype.itemsize
        address = self._driver.at(self._addresses[name], size)
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)

    def execute(self, stream):
        assert stream == 7

        def work():
            feeds = {name: self._array(name) for name in self._inputs}
            for node, value in zip(self._session.get_outputs(), self._session.run(None, feeds)):
                self._array(node.name)[:] = value

        self._driver.enqueue(work)
        return True
