# SPDX-License-Identifier: Apache-2.0
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sensor_msgs.msg import CompressedImage, Image
from stage import compressed, picture, raw

from jepa_ros.clouds import CloudError
from jepa_ros.images import ImageError, decode_raw, fit
from jepa_ros.latents import Futures, Latents
from jepa_ros.nodes import messages
from jepa_ros.nodes.messages import ImageReader, byte_array, find_cv_bridge, to_ns, to_stamp

pytestmark = pytest.mark.ros

SIZE = (96, 128)


@given(st.integers(0, 2**31 - 1), st.integers(0, 999_999_999))
def test_stamps_there_and_back(seconds, nanoseconds):
    stamp = to_stamp(seconds * 1_000_000_000 + nanoseconds)
    assert (stamp.sec, stamp.nanosec) == (seconds, nanoseconds)
    assert to_ns(stamp) == seconds * 1_000_000_000 + nanoseconds


@given(arrays(np.float32, (3, 5), elements=st.floats(-10, 10, width=32)), st.integers(1, 2**60),
       st.integers(0, 2**32 - 1))
def test_latents_there_and_back(tokens, stamp, model):
    positions = np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)
    surprise = np.array([0, np.nan, 1], np.float32)
    latents = Latents(stamp, tokens, positions, np.zeros(3, np.float32), surprise, model)
    message = messages.latents_message(latents, 'camera')
    read = messages.read_latents(message)
    assert message.header.frame_id == 'camera' and (read.stamp_ns, read.model) == (stamp, model)
    for name in ('tokens', 'positions', 'times', 'surprise'):
        np.testing.assert_array_equal(getattr(read, name), getattr(latents, name))


def test_futures_there_and_back_and_broken_ones_are_refused():
    tokens = np.random.default_rng(0).random((2, 3, 4), np.float32)
    futures = Futures(5, np.array([0.1, 0.2], np.float32), tokens, np.zeros((3, 2), np.float32), 7)
    message = messages.futures_message(futures, '')
    np.testing.assert_array_equal(messages.read_futures(message).tokens, futures.tokens)
    message.data = message.data[:-4]
    with pytest.raises(CloudError, match='bytes'):
        messages.read_futures(message)


@given(st.binary(max_size=100))
def test_byte_array_holds_the_bytes(data):
    assert byte_array(data).tobytes() == data
    assert byte_array(np.frombuffer(data, np.uint8)).typecode == 'B'


class CvBridgeError(TypeError):
    pass


class FakeCvBridge:
    """
    ROS 2's cv_bridge as far as the reader needs it, with the faults that were recorded of the real one:
    KeyError for an encoding it does not know, cv2.error (here RuntimeError) for empty data, wrong pixels
    where padding is no multiple of the pixel size.
    """

    calls = 0
    types = {'rgb8': ('uint8', 3), 'bgr8': ('uint8', 3), 'mono8': ('uint8', 1), '16UC1': ('uint16', 1)}

    def encoding_to_dtype_with_channels(self, encoding):
        return self.types[encoding]

    def imgmsg_to_cv2(self, message, desired_encoding='passthrough'):
        type(self).calls += 1
        if not len(message.data):
            raise RuntimeError('OpenCV: (-215:Assertion failed) !_src.empty()')
        dtype, channels = self.types[message.encoding]
        if message.encoding == '16UC1':
            raise CvBridgeError('[16UC1] is not a color format')
        pixels = np.frombuffer(message.data, dtype).reshape(message.height, -1, channels)[:, :message.width]
        grey = pixels.repeat(3, axis=2)
        return {'rgb8': pixels, 'bgr8': pixels[..., ::-1], 'mono8': grey}[message.encoding]

    def cv2_to_imgmsg(self):
        pass


@pytest.fixture
def bridge(monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', types.SimpleNamespace(CvBridge=FakeCvBridge))
    FakeCvBridge.calls = 0
    return find_cv_bridge()


def image(encoding, data, width, height, step):
    return Image(encoding=encoding, width=width, height=height, step=step, data=byte_array(data))


@pytest.mark.parametrize('encoding, channels', [('rgb8', 3), ('bgr8', 3), ('mono8', 1)])
def test_cv_bridge_of_ros_is_used_and_ours_agrees_with_it(bridge, encoding, channels):
    pixels = picture(3)[..., :channels].copy()
    message = image(encoding, pixels, 160, 120, 160 * channels)
    theirs, geometry = ImageReader(bridge)(message, SIZE)
    assert FakeCvBridge.calls == 1
    ours, same = ImageReader()(message, SIZE)
    np.testing.assert_array_equal(theirs, ours)
    assert geometry == same


def test_padded_rows_are_read_by_ours(bridge):
    pixels = np.zeros((120, 160 * 3 + 5), np.uint8)
    pixels[:, :480] = picture(1).reshape(120, 480)
    read, _ = ImageReader(bridge)(image('rgb8', pixels, 160, 120, 485), SIZE)
    assert FakeCvBridge.calls == 0
    np.testing.assert_array_equal(read, fit(picture(1), SIZE)[0])


def test_what_cv_bridge_refuses_is_read_by_ours(bridge):
    depth = np.arange(160 * 120, dtype=np.uint16)
    read, _ = ImageReader(bridge)(image('16UC1', depth, 160, 120, 320), SIZE)
    np.testing.assert_array_equal(read, fit(decode_raw('16UC1', 120, 160, 320, False, depth), SIZE)[0])


@pytest.mark.parametrize('message, sentence', [
    (image('yuv9000', bytes(10), 2, 2, 4), "found 'yuv9000'"),  # KeyError of cv_bridge
    (image('rgb8', b'', 2, 2, 6), 'found 0'),  # cv2.error of cv_bridge
    (CompressedImage(format='jpeg', data=byte_array(b'\xff\xd8\xff\xe0 ...')), 'JPEG'),  # None of cv_bridge
    (CompressedImage(format='jpeg', data=byte_array(b'')), 'expected a JPEG or PNG image, found 0 bytes')])
def test_every_fault_becomes_one_sentence(bridge, message, sentence):
    for reader in (ImageReader(bridge), ImageReader()):
        with pytest.raises(ImageError, match=sentence):
            reader(message, SIZE)


def test_bridge_that_gives_no_image_is_not_believed(bridge, monkeypatch):
    for nothing in (None, np.zeros((2, 2), np.uint8), np.zeros((120, 160, 3), np.uint16)):
        monkeypatch.setattr(bridge, 'imgmsg_to_cv2', lambda *_, nothing=nothing: nothing)
        read, _ = ImageReader(bridge)(raw(2, 1), SIZE)
        np.testing.assert_array_equal(read, fit(picture(2), SIZE)[0])


@pytest.mark.parametrize('module', [None, types.SimpleNamespace(), types.SimpleNamespace(CvBridge=object)])
def test_cv_bridge_of_ros_1_or_none_is_done_without(monkeypatch, module):
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)  # None makes the import fail
    assert find_cv_bridge() is None


def test_compressed_images_are_read(bridge):
    read, geometry = ImageReader(bridge)(compressed(1, 1), SIZE)
    assert np.abs(read.astype(int) - fit(picture(1), SIZE)[0]).mean() < 3
    assert (geometry.width, geometry.height) == (160, 120)
