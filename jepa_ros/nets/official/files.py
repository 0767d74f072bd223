# SPDX-License-Identifier: Apache-2.0
"""
Files of weights to dictionaries of tensors. Nothing in a file is executed: `torch.load(weights_only=True)` or
safetensors.
"""

import hashlib
import json
import pickle
import zipfile
from pathlib import Path

import torch

from jepa_ros.errors import JepaError

INDEXES = ('model.safetensors.index.json', 'pytorch_model.bin.index.json')
WHOLE = ('model.safetensors', 'pytorch_model.bin')


def gather(paths):
    """
    The files of one model, whatever names it.

    :param paths: a file, a folder as on the Hugging Face hub, or a list of the shards of one model.
    :returns: (files, config): sorted list of Path; the config.json beside them as a dict, or None.
    :raises JepaError: for what is missing, empty, or an index that names something outside its folder.
    """
    if isinstance(paths, (list, tuple)):
        files = [Path(path) for path in paths]
    elif Path(paths).is_dir():
        files = _of_folder(Path(paths))
    elif str(paths).endswith('.index.json'):
        files = _of_index(Path(paths))
    else:
        files = [Path(paths)]
    if not files:
        raise JepaError('weights must be at least one file, found none')
    for file in files:
        if not file.is_file():
            raise JepaError(f'{file} must be a file of weights, found none of that name')
        if not file.stat().st_size:
            raise JepaError(f'{file} must hold weights, found an empty file')
    beside = files[0].parent / 'config.json'
    return sorted(files), _json(beside) if beside.is_file() else None


def _of_folder(folder):
    for name in INDEXES:
        if (folder / name).is_file():
            return _of_index(folder / name)
    for name in WHOLE:
        if (folder / name).is_file():
            return [folder / name]
    raise JepaError(
        f'{folder} must hold {WHOLE[0]}, {WHOLE[1]} or an index of shards, found '
        f'{", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"}'
    )


def _of_index(index):
    table = _json(index).get('weight_map')
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise JepaError(f'{index} must hold a weight_map of names to files, found none')
    names = sorted(set(table.values()))
    for name in names:
        if Path(name).name != name:
            raise JepaError(f'{index} must name files beside it, found {name!r}')
    return [index.parent / name for name in names]


def _json(path):
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise JepaError(f'{path} must be JSON, found {error}') from None
    if not isinstance(value, dict):
        raise JepaError(f'{path} must hold a JSON object, found {type(value).__name__}')
    return value


def read(file):
    """
    What a file holds, on the CPU, mapped into memory where its format allows it: a full checkpoint with the
    state of its optimiser is several times as large as what is used of it.

    :param file: Path of a .safetensors, .pt, .pth, .pth.tar or .bin.
    :returns: dict.
    :raises JepaError: naming the file, when it is truncated, of another format, or a pickle that wants to run
        code.
    """
    if file.suffix == '.safetensors':
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError, ValueError) as error:
            raise JepaError(f'{file} must be a whole safetensors file, found {_short(error)}') from None
    try:
        content = torch.load(file, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        raise JepaError(
            f'{file} must hold tensors alone, found a pickle that asks for more than that, which is never '
            f'executed, or no pickle: {_short(error)}'
        ) from None
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        raise JepaError(f'{file} must be a whole torch checkpoint, found {_short(error)}') from None
    if not isinstance(content, dict):
        raise JepaError(f'{file} must hold a dictionary of weights, found {type(content).__name__}')
    return content


def _short(error):
    lines = str(error).strip().splitlines()
    wanted = [line for line in lines if 'GLOBAL' in line] or lines or [type(error).__name__]
    return f'"{wanted[0].strip()[:160]}"'


def sha256(files):
    """
    Digest of the weights: of the file where there is one, else of the lines `digest  name` of the shards in
    order.

    :param files: list of Path.
    :returns: hexadecimal string.
    """
    digests = []
    for file in files:
        digest = hashlib.sha256()
        with open(file, 'rb') as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        digests.append(digest.hexdigest())
    if len(files) == 1:
        return digests[0]
    lines = ''.join(f'{digest}  {file.name}\n' for digest, file in zip(digests, files))
    return hashlib.sha256(lines.encode()).hexdigest()
