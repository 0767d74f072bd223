# SPDX-License-Identifier: Apache-2.0
"""Where the package's own files lie: configurations, engine bundles, recordings."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from jepa_ros.errors import JepaError, one_line

PROMOTED = 'promoted'  # name of the bundle that an audit made the default
DEFAULT_BUNDLE = 'conveyor_vjepa'  # what it is until one did


class PathError(JepaError):
    """A file that was named, or that the package needs, is not there."""


def share_directory() -> Path:
    """
    Return the directory that holds config, launch, models and recordings.

    A source tree comes first, because an editable installation leaves copies of these files in the ament
    index that grow stale; then the ament index, then the prefix of the Python installation.

    :raises PathError: none of the three holds the package's files
    """
    source = Path(__file__).resolve().parent.parent
    prefixes = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if prefix]
    shares = [Path(prefix) / 'share' / 'jepa_ros' for prefix in [*prefixes, sys.prefix]]
    for directory in [source, *shares]:
        if (directory / 'package.xml').is_file():
            return directory
    raise PathError('expected the installed files of jepa_ros (package.xml) in the source tree, in '
                    f'AMENT_PREFIX_PATH or under {sys.prefix}/share, found none: install the package again')


def find_bundle(name_or_path) -> Path:
    """
    Return the directory of an engine bundle.

    :param name_or_path: a path to a bundle, the name of one that the package ships, or ``promoted``: what an
        audit made the default, :data:`DEFAULT_BUNDLE` as long as none did
    :raises PathError: there is none; the message lists the bundles that are shipped, or says where the
        promotion points in vain
    """
    promotion = find_promotion(name_or_path)
    if promotion is not None:
        return promotion.bundle
    name = DEFAULT_BUNDLE if str(name_or_path) == PROMOTED else name_or_path
    return _find(name, 'models', 'an engine bundle', lambda path: (path / 'manifest.yaml').is_file())


@dataclass(frozen=True)
class Promotion:
    """
    Which bundle an audit made the default: what ``models/promoted`` says.

    :param path: of that file
    :param bundle: directory of the bundle
    :param model_id: that it had when it was audited
    :param audit: the record that decided, as a path or a name for people
    :param audit_sha256: of the record
    :param date: of the promotion
    """

    path: Path
    bundle: Path
    model_id: int
    audit: str
    audit_sha256: str
    date: str


def find_promotion(name_or_path=PROMOTED) -> Promotion | None:
    """
    Return the promotion that a name or a path stands for.

    :param name_or_path: ``promoted``, or the path of such a file
    :returns: None where it is neither, or nothing was promoted yet
    :raises PathError: the file is none, or its bundle is not there
    """
    path = Path(name_or_path).expanduser()
    if str(name_or_path) == PROMOTED and not path.exists():
        path = share_directory() / 'models' / PROMOTED
    if path.name != PROMOTED or not path.is_file():
        return None
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding='utf-8'))
        found = Promotion(path, path.parent / said['bundle'], int(said['model_id']), str(said['audit']),
                          str(said['audit_sha256']), str(said['date']))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise PathError(f'{path}: expected a promoted bundle as `jepa audit --promote` writes it, found '
                        f'{one_line(error)}') from error
    if not (found.bundle / 'manifest.yaml').is_file():
        raise PathError(f'{path}: expected the promoted bundle {found.bundle}, found none there: put it '
                        'back, or delete this file')
    return found


def find_config(name_or_path) -> Path:
    """
    Return a configuration file.

    :param name_or_path: a path to a file, or the name of one under the package's ``config``
    :raises PathError: there is neither; the message lists what is there
    """
    return _find(name_or_path, 'config', 'a configuration', Path.is_file)


def find_recording(name_or_path) -> Path:
    """
    Return a recording (a video file or a bag).

    :param name_or_path: a path, or the name of one under the package's ``recordings``
    :raises PathError: there is neither; the message lists what is there
    """
    return _find(name_or_path, 'recordings', 'a recording', lambda path: path.suffix not in ('', '.md'))


def _find(name_or_path, folder: str, what: str, belongs) -> Path:
    """Return ``name_or_path`` if it exists, else the entry of that name (its suffix may be left out)."""
    path = Path(name_or_path).expanduser()
    if str(name_or_path) and path.exists():
        return path
    home = share_directory() / folder
    known = sorted(entry for entry in home.iterdir() if belongs(entry)) if home.is_dir() else []
    for entry in known:
        if str(name_or_path) in (entry.name, entry.stem):
            return entry
    names = ', '.join(entry.name for entry in known) or 'none'
    raise PathError(f"expected {what} as a path or one of those shipped ({names}), found '{name_or_path}'")
