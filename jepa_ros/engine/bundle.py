# SPDX-License-Identifier: Apache-2.0
"""An engine bundle: a directory of graphs with a manifest that says what they are."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from jepa_ros.engine.manifest import ENCODER, FORECASTER, READOUT, BundleError, Manifest
from jepa_ros.errors import one_line
from jepa_ros.paths import find_bundle, find_promotion

MANIFEST = 'manifest.yaml'


@dataclass(frozen=True)
class Bundle:
    """
    A bundle whose files were checked.

    :param path: its directory
    :param manifest: what its graphs are
    :param model_id: uint32 that every cloud made with it carries
    """

    path: Path
    manifest: Manifest
    model_id: int

    @classmethod
    def load(cls, name_or_path) -> 'Bundle':
        """
        Load a bundle and check all of it.

        :param name_or_path: its directory, the name of a bundle that the package ships, or ``promoted``
        :raises BundleError: no manifest, a wrong manifest, a file that is missing, foreign or not as it was
            written, or a promoted bundle that is another one than was audited
        :raises PathError: there is no such bundle
        """
        path = find_bundle(name_or_path)
        manifest = read_manifest(path)
        _check_files(path, manifest)
        bundle = cls(path, manifest, manifest.model_id())
        promotion = find_promotion(name_or_path)
        if promotion is not None and promotion.model_id != bundle.model_id:
            raise BundleError(f'{promotion.path}: expected model {promotion.model_id:08x}, which was '
                              f'audited, found {bundle.model_id:08x} in {path}: audit it again, or delete '
                              'this file')
        return bundle

    @property
    def encoder(self) -> Path:
        """The encoder's graph."""
        return self.path / ENCODER

    @property
    def forecaster(self) -> Path | None:
        """The forecaster's graph, or None: such a bundle has no futures."""
        return self.path / FORECASTER if self.manifest.forecaster else None

    @property
    def readout(self) -> Path | None:
        """The readout's graph, or None."""
        return self.path / READOUT if self.manifest.readout else None


def read_manifest(directory: Path) -> Manifest:
    """
    Read and validate the manifest of a bundle, without looking at its other files.

    :raises BundleError: naming the file, what was expected and what was found
    """
    path = Path(directory) / MANIFEST
    if not path.is_file():
        raise BundleError(f'expected an engine bundle with {MANIFEST}, found none in {directory}')
    try:
        return Manifest.from_dict(yaml.safe_load(path.read_text(encoding='utf-8')))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f'{path}: expected YAML, found {one_line(error)}') from error
    except BundleError as error:
        raise BundleError(f'{path}: {error}') from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """
    Write the manifest of a bundle, in one step: a reader sees the old one or the new one.

    :raises BundleError: the manifest is not valid, or a file it names is missing, foreign or another one
    """
    manifest = Manifest.from_dict(manifest.to_dict())  # what can be written can be read
    _check_files(Path(directory), manifest)
    text = yaml.safe_dump(manifest.to_dict(), sort_keys=False, allow_unicode=True, width=110)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix='.manifest-')
    try:
        with os.fdopen(handle, 'w', encoding='utf-8') as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's are private
        os.replace(temporary, Path(directory) / MANIFEST)
    except BaseException:
        os.unlink(temporary)
        raise


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_files(path: Path, manifest: Manifest) -> None:
    """Check that the files of a bundle are exactly those of its manifest; folders (caches) are its own."""
    found = {entry.name for entry in path.iterdir() if entry.is_file() and not entry.name.startswith('.')}
    foreign = sorted(found - set(manifest.files) - {MANIFEST})
    if foreign:
        raise BundleError(f"{path}: expected only the files of the manifest, found also {', '.join(foreign)}")
    for name, expected in manifest.files.items():
        if name not in found:
            raise BundleError(f'{path / name}: expected a file that the manifest names, found none')
        digest = file_sha256(path / name)
        if digest != expected:
            raise BundleError(f'{path / name}: expected sha256 {expected}, found {digest}: '
                              'the file is damaged or from another bundle')
