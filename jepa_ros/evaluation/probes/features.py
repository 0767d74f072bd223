# SPDX-License-Identifier: Apache-2.0
"""Features of clips, computed once and kept on disk by encoder, settings, sequence and variant of the frames."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from jepa_ros.evaluation.offline import decode
from jepa_ros.evaluation.probes.encoders import ClipEncoder
from jepa_ros.evaluation.probes.noise import noisy
from jepa_ros.evaluation.probes.orders import order
from jepa_ros.evaluation.probes.scores import ProbeError
from jepa_ros.evaluation.probes.settings import Settings
from jepa_ros.evaluation.probes.tracks import Track
from jepa_ros.images import ImageError
from jepa_ros.latents import Futures, pool

VERSION = 1  # of what is kept


class FeatureStore:
    """
    Features of one encoder.

    :param encoder: see `encoders`.
    :param folder: of the cache; may be deleted at any time.
    """

    def __init__(self, encoder: ClipEncoder, settings: Settings, folder: str | Path):
        self.encoder, self.settings = encoder, settings
        self._folder = Path(folder) / encoder.key / f'{VERSION}-{settings.key()}'

    def moments(self, track: Track) -> np.ndarray:
        """Positions of the newest frames of a sequence's clips, int64 [M], the same for every encoder."""
        settings = self.settings
        return track.moments(settings.span, settings.stride, settings.reach)

    def prepare(
        self,
        tracks: Iterable[Track],
        variants: Iterable[str],
        tick: Callable[[int], None] = lambda done: None,
    ) -> None:
        """
        Compute what is missing.

        :param variants: an order of `settings.VARIANTS`, alone or with one of `settings.NOISES`: 'true+light'.
        :param tick: called after each sequence with how many are done.
        """
        variants = tuple(variants)
        by_source: dict[int, list[Track]] = {}
        for track in tracks:
            by_source.setdefault(id(track.source), []).append(track)
        done = 0
        for group in by_source.values():
            missing = {
                track: [variant for variant in variants if not self._path(track, variant).exists()]
                for track in group
                if len(self.moments(track))
            }
            frames = self._frames([track for track, wanted in missing.items() if wanted])
            for track in group:
                if missing.get(track):
                    self._compute(track, missing[track], *frames)
                done += 1
                tick(done)

    def load(self, tracks: Iterable[Track], variant: str, name: str) -> np.ndarray:
        """
        Return one array over all clips of some sequences.

        :param name: context float16 [M, T, n, D], newest float16 [M, 1, N, D], futures float16 [M, K, N, D], or
            times float32 [M, T] (s, of the context).
        """
        parts = [self._read(self._path(track, variant), name) for track in tracks if len(self.moments(track))]
        if not parts:
            raise ProbeError(
                f'expected sequences longer than {self.settings.span + self.settings.reach:g} s, found none'
            )
        return np.concatenate(parts)

    def _path(self, track: Track, variant: str) -> Path:
        about = f'{track.source.key}|{track.first}|{track.stop}'
        name = hashlib.sha256(about.encode()).hexdigest()[:16]
        return self._folder / f'{name}-{variant}.npz'

    def _chosen(self, track: Track) -> list[np.ndarray]:
        stamps = track.stamps_ns
        return [self.encoder.choose(stamps, int(at), self.settings.span) for at in self.moments(track)]

    def _frames(self, tracks: list[Track]):
        """Decode every frame that a clip needs, as the node does: {position in the recording: image}, geometry."""
        wanted = {track.first + int(p) for track in tracks for chosen in self._chosen(track) for p in chosen}
        images, geometry = {}, None
        if wanted:
            recording, last = tracks[0].source.recording, max(wanted)
            for position, frame in enumerate(recording.frames()):
                if position in wanted:
                    try:
                        images[position], geometry = decode(frame, self.encoder.manifest.image_size)
                    except ImageError:
                        continue  # the frame before it stands in
                if position >= last:
                    break
        return images, geometry

    def _compute(self, track: Track, variants: list[str], images: dict[int, np.ndarray], geometry) -> None:
        found: dict[str, dict[str, list]] = {variant: {} for variant in variants}
        for number, chosen in enumerate(self._chosen(track)):
            recorded = np.stack([_nearest(images, track.first + int(p)) for p in chosen])
            for variant in variants:
                frames, stamps = self._shown(recorded, variant, track, number), track.stamps_ns[chosen]
                for name, array in self._features(frames, stamps, geometry).items():
                    found[variant].setdefault(name, []).append(array)
        for variant, rows in found.items():
            self._write(self._path(track, variant), {name: np.stack(parts) for name, parts in rows.items()})

    def _features(self, frames: np.ndarray, stamps_ns: np.ndarray, geometry) -> dict[str, np.ndarray]:
        """Encode one clip."""
        settings, grid = self.settings, self.encoder.manifest.grid
        slices, at, futures = self.encoder.encode(frames, stamps_ns, geometry)
        offsets = (at - at[-1]) / 1e9
        instants = -np.arange(settings.slices)[::-1] * settings.span / settings.slices
        picked = np.abs(offsets - instants[:, None]).argmin(1)
        found = {
            'context': _pooled(slices[picked], grid, settings.coarse).astype(np.float16),
            'newest': _pooled(slices[-1:], grid, settings.fine).astype(np.float16),
            'times': offsets[picked].astype(np.float32),
        }
        if futures is not None:
            found['futures'] = _pooled(futures, grid, settings.fine).astype(np.float16)
        return found

    def _shown(self, frames: np.ndarray, variant: str, track: Track, number: int) -> np.ndarray:
        shown, _, noise = variant.partition('+')
        if noise:  # first, so that each frame has its own, wherever it is shown
            frames = noisy(frames, noise, self.settings.noise, self._draw(noise, track, number))
        return frames[order(shown, len(frames), self._draw(shown, track, number))]

    def _draw(self, what: str, track: Track, number: int) -> np.random.Generator:
        """Which clip it is and nothing else decides what is drawn, so that all encoders meet the same."""
        names = (zlib.crc32(name.encode()) for name in (what, track.name))
        return np.random.default_rng([self.settings.seed, *names, number])

    def _write(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'.{path.stem}.{os.getpid()}.npz')
        np.savez(part, **arrays)
        part.replace(path)

    def _read(self, path: Path, name: str) -> np.ndarray:
        try:
            with np.load(path) as arrays:
                return arrays[name]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ProbeError(
                f'{path}: expected features with {name}, found {error}: delete the file'
            ) from error


def _nearest(images: dict[int, np.ndarray], position: int) -> np.ndarray:
    """Return a frame, or where it did not decode the nearest that did."""
    if position in images:
        return images[position]
    if not images:
        raise ProbeError('expected at least one frame that decodes, found none')
    return images[min(images, key=lambda other: abs(other - position))]


def _pooled(tokens: np.ndarray, grid: tuple[int, int], coarse: tuple[int, int]) -> np.ndarray:
    """Average tokens [K, N, D] to at most `coarse` blocks."""
    if grid[0] <= coarse[0] and grid[1] <= coarse[1]:
        return tokens
    # `pool` takes any slices with the tokens of a grid; times and places do not matter here.
    nowhere = np.zeros((tokens.shape[1], 2), np.float32)
    return pool(Futures(0, np.zeros(len(tokens)), tokens, nowhere, 0), 'grid', grid, coarse).tokens
