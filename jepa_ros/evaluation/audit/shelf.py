# SPDX-License-Identifier: Apache-2.0
"""What an audit keeps as soon as it is done, so that the same command goes on where one stopped."""

from __future__ import annotations

import json
from pathlib import Path

from jepa_ros.evaluation import page


class Shelf:
    """
    One JSON file for each thing that is kept, named for people and by a key of everything that it depends on.

    :param folder: made when something is put into it.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def get(self, name: str, key: str) -> dict | None:
        """Return what was kept under a name and a key; None where there is none, or none that can be read."""
        try:
            return json.loads(self._path(name, key).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None

    def put(self, name: str, key: str, values: dict) -> None:
        """Keep values. :raises PageError: they cannot be written."""
        page.write(self._path(name, key), json.dumps(values) + '\n')

    def _path(self, name: str, key: str) -> Path:
        return self._folder / f'{name}-{key[:16]}.json'
