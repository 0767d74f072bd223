#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
TensorRT for RTX from PyPI: it parses and builds without a GPU, and so stands in for TensorRT in tests.

  python test/tensorrt_rtx.py FOLDER     download it into a folder; make test-tensorrt does that

Two packages are needed: one carries the Python API, the other, an ONNX Runtime plugin, the libraries. They
are NVIDIA's, under NVIDIA's licence: the folder is never committed.
"""

import ctypes
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

PACKAGES = ('onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0', 'tensorrt-rtx-cu13-bindings==1.7.1.116')
LIBRARIES = ('libtensorrt_rtx.so.1', 'libtensorrt_onnxparser_rtx.so.1')
FOLDER, REFUSAL = 'JEPA_TENSORRT_RTX', 'unavailable'


def install(folder: Path) -> str | None:
    """
    Put the packages into a folder that belongs to no environment.

    :returns: None, or why they cannot be had; the same is written into the folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REFUSAL).unlink(missing_ok=True)
    if platform.machine() != 'x86_64' or sys.platform != 'linux':
        refusal = f'its libraries exist for x86-64 Linux only, found {platform.machine()} {sys.platform}'
    else:
        command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
                   '--no-deps', '--only-binary', ':all:', '--upgrade', '--target', folder, *PACKAGES]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if result.returncode == 0:
            return None
        errors = [line for line in result.stderr.splitlines() if line.startswith('ERROR')]
        refusal = (errors or result.stderr.splitlines() or ['pip failed'])[-1]
    (folder / REFUSAL).write_text(refusal)
    return refusal


def load():
    """
    Import the module that stands in for ``tensorrt``.

    :returns: the module, or a sentence that says why there is none
    """
    if FOLDER not in os.environ:
        return 'TensorRT for RTX is not installed: make test-tensorrt'
    folder = Path(os.environ[FOLDER])
    if (folder / REFUSAL).is_file():
        return f'TensorRT for RTX cannot be had: {(folder / REFUSAL).read_text()}'
    for name in LIBRARIES:  # loaded by path, they are found by name when the Python module asks for them
        path, = folder.glob(f'onnxruntime_ep_nv_tensorrt_rtx/{name}.*')
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module('tensorrt_rtx_bindings')


if __name__ == '__main__':
    said = install(Path(sys.argv[1]))
    print(f'TensorRT for RTX: {said or "installed"}', flush=True)
