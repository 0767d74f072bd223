# SPDX-License-Identifier: Apache-2.0
"""
The cache of TensorRT plans: one file per graph and device, trusted only where everything it depends on is the
same.

A plan file is one line ``jepa_ros plan 1 SHA256``, one line of JSON (the key, see :class:`PlanKey`), and
TensorRT's own bytes; the checksum covers all that follows the first line. Plans lie in ``plans/`` beside the
graph. Where that cannot be written (a bundle of an installed package, a read-only disk), they lie in the
user's cache directory. The environment variable JEPA_PLANS names another directory instead of both.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from jepa_ros.engine.backends.graph import EngineError
from jepa_ros.errors import JepaError

DIRECTORY = 'plans'
CHOSEN = 'JEPA_PLANS'  # names another directory for all plans: a disk that outlives a container
MAGIC = b'jepa_ros plan 1 '

HEARTBEAT = 10.0  # s between two lines in the log while nothing else is heard
POLL = 0.1  # s between two looks at a lock

#: Set by a process that was asked to end: its builds, and its waiting for those of others, raise
# BuildStopped.
ending = threading.Event()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanKey:
    """
    All that a plan depends on.

    :param onnx_sha256: of the graph and its external data, see :func:`graph_sha256`
    :param tensorrt: version of TensorRT
    :param gpu: name of the GPU
    :param compute_capability: for example '8.7'
    :param precision: how TensorRT was told to take the precisions that are written in the graph
    :param shapes: the fewest, usual and most entries of a free length
    """

    onnx_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    shapes: tuple[int, int, int]

    def digest(self) -> str:
        """Return sixteen hexadecimal digits that stand for the key in file names."""
        return hashlib.sha256(_canonical(self)).hexdigest()[:16]

    def differences(self, other: dict) -> list[str]:
        """Return a phrase for every part in which a plan's key, as it was read, is not this one."""
        return [f'{name} {other.get(name)!r} instead of {value!r}'
                for name, value in json.loads(_canonical(self)).items() if other.get(name) != value]


class PlanError(EngineError):
    """A plan that cannot be trusted: foreign, damaged or of another graph, version or GPU."""


class BuildStopped(JepaError):
    """The process was asked to end meanwhile; no other backend is to be tried."""

    def __init__(self, graph: Path):
        super().__init__(f'{graph}: the build of its TensorRT plan was stopped')


def graph_sha256(path: Path) -> str:
    """Return the sha256 of an ONNX file and its external data (files named after it, ``NAME.*``)."""
    digest = hashlib.sha256()
    for part in [path, *sorted(path.parent.glob(f'{path.name}.*'))]:
        with open(part, 'rb') as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def beside(graph: Path) -> Path:
    """Return the cache that belongs to the bundle of a graph alone."""
    return graph.parent / DIRECTORY


def directories(graph: Path) -> tuple[Path, ...]:
    """Return where plans of a graph may lie, best first."""
    if chosen := os.environ.get(CHOSEN):
        return (Path(chosen).expanduser(),)
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    return beside(graph), cache / 'jepa_ros' / DIRECTORY


def find(graph: Path, key: PlanKey) -> bytes | None:
    """
    Return the plan of a graph if a trustworthy one is cached, else None; what is wrong with one is logged.

    :param graph: the ONNX file
    """
    for directory in directories(graph):
        path = directory / _name(graph, key)
        if path.is_file():
            try:
                return read(path, key)
            except (PlanError, OSError) as error:
                _log.warning('%s; it is built anew', error)
    return None


def read(path: Path, key: PlanKey | None = None) -> bytes:
    """
    Return TensorRT's bytes out of a plan file.

    :param key: what it must have been built for; None: anything
    :raises PlanError: it is damaged or was built for something else
    """
    content = Path(path).read_bytes()
    found, start = _check(path, content)
    if key is not None and (differences := key.differences(found)):
        raise PlanError(f'{path}: expected a plan for this graph, TensorRT and GPU, found '
                        f'{", ".join(differences)}')
    return content[start:]


def read_key(path: Path) -> dict:
    """
    Return the key of a plan file, after checking all of it.

    :raises PlanError: it is damaged
    """
    return _check(path, Path(path).read_bytes())[0]


def obtain(graph: Path, key: PlanKey, build: Callable[[Path], bytes],
           usable: Callable[[bytes], bool] = bool) -> tuple[bytes, str]:
    """
    Return the plan of a graph: the cached one, or a new one, which is then cached.

    Of several processes that need the same plan one builds it and the others wait for it.

    :param graph: the ONNX file
    :param build: makes TensorRT's bytes; is given the cache directory, for the timing cache
    :param usable: whether TensorRT accepts a plan; a cached one that it does not accept is built anew
    :returns: the plan, and 'cached' or 'built'
    :raises EngineError: it cannot be built, or a new one is not usable
    :raises BuildStopped: see :data:`ending`
    """
    def cached():
        plan = find(graph, key)
        if plan is not None and not usable(plan):
            _log.warning('%s: TensorRT refuses the cached plan; it is built anew', graph)
            return None
        return plan

    if (plan := cached()) is not None:
        return plan, 'cached'
    directory = writable_directory(graph)
    with _locked(directory / f'.{_name(graph, key)}.lock', graph):
        if (plan := cached()) is not None:  # another process has built it meanwhile
            return plan, 'cached'
        plan = build(directory)
        if not usable(plan):
            raise EngineError(f'{graph}: expected TensorRT to accept the plan that it has just built, found '
                              'it refused')
        try:
            write(directory / _name(graph, key), key, plan)
            _remove_outdated(graph, key)
        except OSError as error:  # a full disk: it took minutes, and serves until the process ends
            _log.warning('%s: the plan could not be kept, and will be built again: %s', graph, error)
    return plan, 'built'


def write(path: Path, key: PlanKey, plan: bytes) -> None:
    """Write a plan file in one step: a reader sees the old one or the new one."""
    rest = _canonical(key) + b'\n'
    digest = hashlib.sha256(rest)
    digest.update(plan)
    write_atomically(path, MAGIC + digest.hexdigest().encode() + b'\n' + rest, plan)


def write_atomically(path: Path, *parts: bytes) -> None:
    """Write a file in one step."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}-')
    try:
        with os.fdopen(handle, 'wb') as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's are private
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def writable_directory(graph: Path) -> Path:
    """
    Return the directory for new plans of a graph, made if it is not there.

    :raises EngineError: none of the two can be written
    """
    refusals = []
    for directory in directories(graph):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError as error:
            refusals.append(str(error))
    raise EngineError('expected a directory for TensorRT plans that can be written, found '
                      f'{"; ".join(refusals)}')


def cached_plans(graph: Path) -> list[Path]:
    """Return the plan files of all graphs of this name and of any device; others' too in a shared cache."""
    return [path for directory in directories(graph) if directory.is_dir()
            for path in sorted(directory.glob(f'{graph.stem}-*.plan'))]


def _name(graph: Path, key: PlanKey) -> str:
    return f'{graph.stem}-{key.digest()}.plan'


def _canonical(key: PlanKey) -> bytes:
    return json.dumps(asdict(key), sort_keys=True).encode()


def _check(path: Path, content: bytes) -> tuple[dict, int]:
    """Return the key in a plan file and where the plan begins, if the file is whole."""
    first, second = content.find(b'\n'), -1
    if content.startswith(MAGIC) and first > 0:
        second = content.find(b'\n', first + 1)
    if second < 0:
        raise PlanError(f'{path}: expected a plan file of jepa_ros, found something else')
    expected = content[len(MAGIC):first].decode('ascii', 'replace')
    digest = hashlib.sha256(memoryview(content)[first + 1:]).hexdigest()
    if digest != expected:
        raise PlanError(f'{path}: expected sha256 {expected}, found {digest}: the plan is damaged')
    return json.loads(content[first + 1:second]), second + 1


def _remove_outdated(graph: Path, key: PlanKey) -> None:
    """Remove plans beside a graph that were built from another one of its name: they are of no use."""
    for path in cached_plans(graph):
        with contextlib.suppress(OSError):
            if path.parent == beside(graph) and _sha256_in_header(path) != key.onnx_sha256:
                path.unlink()


def _sha256_in_header(path: Path) -> str | None:
    """Return the graph's sha256 in a plan's header, unchecked, or None."""
    with open(path, 'rb') as stream, contextlib.suppress(ValueError, AttributeError):
        stream.readline(256)
        return json.loads(stream.readline(4096)).get('onnx_sha256')
    return None


@contextlib.contextmanager
def _locked(path: Path, graph: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel releases it when its holder ends, however that happens."""
    with open(path, 'ab') as stream:
        due = time.monotonic()
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= due:
                    due += HEARTBEAT
                    _log.warning('another process builds the TensorRT plan of %s: waiting for it', graph.name)
                if ending.wait(POLL):
                    raise BuildStopped(graph) from None
        yield
