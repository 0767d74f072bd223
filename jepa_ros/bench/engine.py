# SPDX-License-Identifier: Apache-2.0
"""
Encoders of the published sizes on every backend, side by side.

One window of a V-JEPA 2 encoder (Assran et al. 2025: patch 16, tubelet 2, bidirectional) with random weights:
speed does not depend on what they are. All subjects take turns, round after round, so that a machine that
slows down slows all of them. On a GPU the network alone is timed, between CUDA events, with its input there
already; on the CPU a run is timed from arrays to arrays. Every result is compared with torch in float32
first.
"""

import contextlib
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from jepa_ros import host
from jepa_ros.engine import bookkeeping
from jepa_ros.engine.backends import EngineError, open_graph, tensorrt
from jepa_ros.engine.manifest import Architecture
from jepa_ros.errors import JepaError, one_line
from jepa_ros.export.graphs import ClipGraph, write_onnx
from jepa_ros.nets.sizes import size as size_of
from jepa_ros.nets.vit import Encoder, EncoderConfig

PATCH, TUBELET = 16, 2
WARM_UP = 3
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


@dataclass(frozen=True)
class Task:
    """
    What all subjects compute.

    :param module: ClipGraph on the CPU, float32
    :param path: the same as an ONNX file in the precision asked for
    :param frames: uint8 [T, H, W, 3]
    :param precision: fp32, fp16 or bf16
    :param threads: of a run on the CPU
    """

    module: torch.nn.Module
    path: Path
    frames: np.ndarray
    precision: str
    threads: int


@dataclass(frozen=True)
class Subject:
    """
    One way to run the task.

    :param run: computes tokens float32 [slices, N, D] once
    :param measure: computes once and returns milliseconds
    """

    run: Callable[[], np.ndarray]
    measure: Callable[[], float]


def bench(size: str, image_size: int, frames: int, precision: str, names: list[str], rounds: int,
          threads: int = 0, seed: int = 0) -> dict:
    """
    Measure one size.

    :param names: of :data:`SUBJECTS`
    :param rounds: turns of every subject
    :param threads: of a run on the CPU; 0: one per core
    :returns: size, gflop, matrix_gflop_s (the best of products measured in the same rounds), and for every
        subject a row: name; either milliseconds (median, and the lowest), gflop_s, of_matrix_rate, ratio (how
        many times as fast as the first subject), cosine (lowest of any token) and error (largest absolute)
        against torch in float32, or ``not_measured``, why
    :raises JepaError: an unknown subject or size
    """
    for name in names:
        if name not in SUBJECTS:
            raise JepaError(f"expected subjects of {', '.join(SUBJECTS)}, found '{name}'")
    threads = threads or host.cores()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    config = EncoderConfig(size, image_size=(image_size, image_size), patch=PATCH, tubelet=TUBELET)
    module = ClipGraph(Encoder(config), torch.arange(1 - frames // TUBELET, 1) * 0.5).eval()
    pixels = torch.randint(0, 256, (frames, image_size, image_size, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix='jepa_bench_') as folder, torch.inference_mode():
        expected = module(pixels).numpy()
        path = _export(module, pixels, precision, Path(folder))
        task = Task(module, path, pixels.numpy(), precision, threads)
        subjects, rows = {}, []
        for name in names:
            row = {'name': name}
            rows.append(row)
            try:
                subjects[name] = subject = SUBJECTS[name](task)
                row.update(_differences(expected, subject.run()))
            except JepaError as error:
                subjects.pop(name, None)
                row['not_measured'] = str(error)
        product_gflop, product = matrix_product('cuda' if has_gpu() else 'cpu', precision)
        measures = {name: subject.measure for name, subject in subjects.items()}
        times = _take_turns({None: product, **measures}, rounds)
    rate = 1e3 * product_gflop / min(times.pop(None))
    gflop = window_gflop(size, image_size, frames)
    first = median(next(iter(times.values()), [0.0]))
    for row in rows:
        if row['name'] in times:
            taken = times[row['name']]
            middle = median(taken)
            row.update(milliseconds=middle, lowest_ms=min(taken), gflop_s=1e3 * gflop / middle,
                       ratio=first / middle, of_matrix_rate=1e3 * gflop / middle / rate)
    return {'size': size, 'image_size': image_size, 'frames': frames, 'precision': precision, 'gflop': gflop,
            'matrix_gflop_s': rate, 'rounds': rounds, 'threads': threads, 'subjects': rows}


def window_gflop(size: str, image_size: int, frames: int) -> float:
    """Return the cost of one window (GFLOP)."""
    of = size_of(size)
    tokens = frames // TUBELET * (image_size // PATCH) ** 2
    architecture = Architecture(of.depth, of.heads, of.mlp_width)
    return bookkeeping.gflop(architecture, of.width, 3 * TUBELET * PATCH ** 2, tokens)


def matrix_product(device: str, precision: str) -> tuple[float, Callable[[], float]]:
    """
    Return the GFLOP of a large square matrix product by torch, and what times one.

    A GPU's networks stay below its rate. On a CPU other libraries have faster products than torch's, and
    OpenVINO computes in bfloat16 where it may: shares above 1 are possible there.

    :param device: cpu or cuda
    """
    n = 8192 if device == 'cuda' else 1024
    a, b = (torch.randn(n, n, device=device).to(DTYPES[precision]) for _ in range(2))
    return 2 * n ** 3 / 1e9, (_on_cuda if device == 'cuda' else _on_host)(lambda: a @ b)


def has_gpu() -> bool:
    """Whether torch can compute on a GPU."""
    return torch.cuda.is_available()


def _export(module, pixels, precision: str, folder: Path) -> Path:
    path = folder / 'encoder.onnx'
    write_onnx(module, {'frames': pixels}, ['tokens'], path)
    if precision == 'fp32':
        return path
    from jepa_ros.export.precision import convert
    converted = folder / precision / path.name
    converted.parent.mkdir()
    convert(path, converted, precision)
    return converted


def _take_turns(measures: dict, rounds: int) -> dict[str | None, list[float]]:
    times = {name: [] for name in measures}
    for turn in range(WARM_UP + rounds):
        for name, measure in measures.items():
            taken = measure()
            if turn >= WARM_UP:
                times[name].append(taken)
    return times


def _differences(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    products = (expected * found).sum(-1)
    norms = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    return {'cosine': float((products / norms).min()), 'error': float(np.abs(expected - found).max())}


def _on_host(run: Callable) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - began)

    return measure


def _on_cuda(run: Callable) -> Callable[[], float]:
    """Time what is put on torch's stream."""
    def measure() -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    return measure


def _torch(device: str, compiled: bool) -> Callable[[Task], Subject]:
    def open_subject(task: Task) -> Subject:
        if device == 'cuda':
            _need_gpu()
        module = copy.deepcopy(task.module).to(device)
        frames = torch.from_numpy(task.frames).to(device)
        cast = (torch.autocast(device, DTYPES[task.precision]) if task.precision != 'fp32'
                else contextlib.nullcontext())
        function = torch.compile(module) if compiled else module

        def run():
            with cast:
                return function(frames)

        try:
            run()
        except Exception as error:  # torch.compile needs a compiler, and raises what it likes
            raise EngineError(f'expected torch to run, found {one_line(error)[:200]}') from error
        return Subject(lambda: run().float().cpu().numpy(), (_on_cuda if device == 'cuda' else _on_host)(run))

    return open_subject


def _graph(backend: str) -> Callable[[Task], Subject]:
    """Subjects that compute on the CPU."""
    def open_subject(task: Task) -> Subject:
        graph, feeds = open_graph(task.path, backend, task.threads), {'frames': task.frames}

        def run():
            return graph.run(feeds)['tokens']

        return Subject(run, _on_host(run))

    return open_subject


def _tensorrt(task: Task) -> Subject:
    graph, feeds = tensorrt.prepare(task.path), {'frames': task.frames}
    return Subject(lambda: graph.run(feeds)['tokens'], graph.timer(feeds))


def _onnxruntime_cuda(task: Task) -> Subject:
    """ONNX Runtime on torch's stream, with inputs and outputs on the GPU."""
    _need_gpu()
    import onnxruntime
    graph = open_graph(task.path, 'onnxruntime-cuda')  # says what is missing
    provider = ('CUDAExecutionProvider',
                {'use_tf32': '0', 'user_compute_stream': str(torch.cuda.current_stream().cuda_stream)})
    session = onnxruntime.InferenceSession(str(task.path), providers=[provider])
    frames, binding = torch.from_numpy(task.frames).cuda(), session.io_binding()
    binding.bind_input('frames', 'cuda', 0, np.uint8, frames.shape, frames.data_ptr())
    binding.bind_output('tokens', 'cuda')
    kept = graph, frames

    def run():
        session.run_with_iobinding(binding)
        return kept

    return Subject(lambda: graph.run({'frames': task.frames})['tokens'], _on_cuda(run))


def _need_gpu() -> None:
    if not has_gpu():
        raise EngineError('no GPU that torch can use')


#: The first of either device is what the others are compared with.
SUBJECTS: dict[str, Callable[[Task], Subject]] = {
    'torch-cpu': _torch('cpu', False),
    'torch-compile-cpu': _torch('cpu', True),
    'onnxruntime-cpu': _graph('onnxruntime-cpu'),
    'openvino-f32': _graph('openvino-f32'),
    'openvino': _graph('openvino'),
    'torch-cuda': _torch('cuda', False),
    'torch-compile-cuda': _torch('cuda', True),
    'onnxruntime-cuda': _onnxruntime_cuda,
    'tensorrt': _tensorrt,
}
ON_GPU = ('torch-cuda', 'torch-compile-cuda', 'onnxruntime-cuda', 'tensorrt')
ON_CPU = ('torch-cpu', 'onnxruntime-cpu', 'openvino-f32', 'openvino')
