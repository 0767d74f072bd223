# SPDX-License-Identifier: Apache-2.0
"""What the perception node would have published, as a rosbag2 (MCAP) with its topics and types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from jepa_ros.clouds import CloudBytes, encode_futures, encode_latents
from jepa_ros.data.bag_output import BagOutput
from jepa_ros.engine.bundle import Bundle
from jepa_ros.evaluation.offline import Step
from jepa_ros.latents import pool

CLOUD, STRING = 'sensor_msgs/msg/PointCloud2', 'std_msgs/msg/String'


def namespaces(topics: list[str]) -> list[str]:
    """
    Return a namespace for the perception node of each camera: none for a single one, else one each.

    :param topics: of the cameras; `/cam0/image_raw/compressed` gives `/cam0`.
    """
    if len(topics) == 1:
        return ['']
    parts = [[part for part in topic.split('/') if part] for topic in topics]
    short = [
        '/' + '/'.join(p for p in names if p not in ('image', 'image_raw', 'compressed')) for names in parts
    ]
    if len(set(short)) == len(topics) and '/' not in short:
        return short
    return ['/' + '/'.join(names) for names in parts]


class OutputBag:
    """
    One bag of outputs.

    :param path: directory of the bag, as `BagOutput` takes it.
    :raises BagOutputError: something else is there, or it cannot be written.
    """

    def __init__(self, path: Path):
        self._bag = BagOutput(path)
        self._types = self._bag.types

    def camera(self, namespace: str, bundle: Bundle, publish: str) -> CameraOutputs:
        """Return what takes the steps of one camera. :param publish: as the node's parameter of that name."""
        return CameraOutputs(self, f'{namespace}/perception', bundle, publish)

    def add(self, topic: str, msgtype: str, latched: bool = False):
        """Declare a topic of a standard type; returns its connection."""
        return self._bag.add(topic, msgtype, latched)

    def write(self, connection, log_ns: int, message) -> None:
        """Append a message, as rosbags has it."""
        self._bag.write(connection, log_ns, self._types.serialize_cdr(message, message.__msgtype__))

    def cloud(self, cloud: CloudBytes, stamp_ns: int, frame_id: str):
        """Return a cloud as a message."""
        types = self._types.types
        header = types['std_msgs/msg/Header'](
            stamp=types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, 10**9)), frame_id=frame_id
        )
        fields = [
            types['sensor_msgs/msg/PointField'](
                name=f.name, offset=f.offset, datatype=f.datatype, count=f.count
            )
            for f in cloud.fields
        ]
        return types[CLOUD](
            header=header,
            height=cloud.height,
            width=cloud.width,
            fields=fields,
            is_bigendian=False,
            point_step=cloud.point_step,
            row_step=cloud.row_step,
            data=np.frombuffer(cloud.data, np.uint8),
            is_dense=True,
        )

    def string(self, text: str):
        """Return a text as a message."""
        return self._types.types[STRING](data=text)

    def close(self) -> None:
        """Write the index and the metadata."""
        self._bag.close()


class CameraOutputs:
    """The outputs of one camera, each at the time at which the bag received its newest frame."""

    def __init__(self, bag: OutputBag, node: str, bundle: Bundle, publish: str):
        self._bag, self._grid, self._publish = bag, bundle.manifest.grid, publish
        self._latents = bag.add(f'{node}/latents', CLOUD)
        self._futures = bag.add(f'{node}/futures', CLOUD) if bundle.manifest.forecaster else None
        self._model = bag.add(f'{node}/model', STRING, latched=True)
        self._manifest: str | None = json.dumps({**bundle.manifest.to_dict(), 'model': bundle.model_id})

    def see(self, step: Step) -> None:
        """Write the outputs of a step."""
        log_ns, frame_id = step.frame.log_ns, step.frame.frame_id
        if self._manifest is not None:
            self._bag.write(self._model, log_ns, self._bag.string(self._manifest))
            self._manifest = None
        latents = pool(step.latents, self._publish, self._grid)
        self._bag.write(
            self._latents, log_ns, self._bag.cloud(encode_latents(latents), latents.stamp_ns, frame_id)
        )
        if step.futures is not None:
            futures = pool(step.futures, self._publish, self._grid)
            self._bag.write(
                self._futures, log_ns, self._bag.cloud(encode_futures(futures), futures.stamp_ns, frame_id)
            )
