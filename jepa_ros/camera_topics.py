# SPDX-License-Identifier: Apache-2.0
"""What the topics of a camera are called."""


def info_topic(image_topic: str) -> str:
    """Return the topic of the CameraInfo: beside that of the image, as image_transport has it."""
    return image_topic[: image_topic.rfind('/') + 1] + 'camera_info'
