# SPDX-License-Identifier: Apache-2.0
"""Decoding, checked against images written out by hand for every encoding."""

import array
import struct
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepa_ros import images
from jepa_ros.images import ImageError, decode_compressed, decode_raw, fit, fit_compressed, fit_raw

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
BYTES_PER_PIXEL = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def picture(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width):
    """A picture that JPEG and colour subsampling keep."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / height, 255 * x / width, np.full_like(x, 90)], axis=-1).astype(np.uint8)


def padded(rows, padding):
    """Return the bytes of rows [H, bytes] with garbage after each, and their step."""
    filled = np.hstack([rows, np.full((len(rows), padding), 0xa5, np.uint8)])
    return filled.tobytes(), filled.shape[1]


@given(size=SIZES, padding=st.integers(0, 7), encoding=st.sampled_from(sorted(BYTES_PER_PIXEL)))
def test_eight_bit_colour_with_any_row_padding(size, padding, encoding):
    pixels = picture(*size, BYTES_PER_PIXEL[encoding])
    data, step = padded(pixels.reshape(size[0], -1), padding)
    expected = {'rgb8': pixels, 'bgr8': pixels[..., ::-1], 'rgba8': pixels[..., :3],
                'bgra8': pixels[..., 2::-1], 'mono8': np.repeat(pixels, 3, axis=2)}[encoding]
    found = decode_raw(encoding, *size, step, False, data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@given(size=SIZES, padding=st.integers(0, 7), big=st.booleans(),
       encoding=st.sampled_from(['mono16', '16UC1']))
def test_sixteen_bit_is_scaled_as_cv_bridge_scales_it(size, padding, big, encoding):
    values = np.random.default_rng(1).integers(0, 65536, size, dtype=np.uint16)
    values.flat[0] = 65535
    rows = values.astype('>u2' if big else '<u2').view(np.uint8)
    data, step = padded(rows, padding)
    grey = np.round(values * (255 / 65535)).astype(np.uint8)
    found = decode_raw(encoding, *size, step, big, data)
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('padding', [0, 3])
def test_float_counts_0_to_1_and_survives_nan(big, padding):
    values = np.array([[0, 0.5, 1], [np.nan, np.inf, -np.inf], [2, -1, 0.2]], '>f4' if big else '<f4')
    data, step = padded(values.view(np.uint8), padding)
    found = decode_raw('32FC1', 3, 3, step, big, data)
    np.testing.assert_array_equal(found[..., 0], [[0, 128, 255], [0, 255, 0], [255, 0, 51]])


@pytest.mark.parametrize('encoding, pattern', [('bayer_rggb8', 'RGGB'), ('bayer_bggr8', 'BGGR'),
                                               ('bayer_gbrg8', 'GBRG'), ('bayer_grbg8', 'GRBG')])
@pytest.mark.parametrize('padding', [0, 5])
def test_bayer_pattern_is_named_by_its_first_row(encoding, pattern, padding):
    colour = {'R': 200, 'G': 100, 'B': 30}
    mosaic = np.tile(np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2), (4, 5))
    data, step = padded(mosaic, padding)
    found = decode_raw(encoding, 8, 10, step, False, data)
    np.testing.assert_array_equal(found, np.broadcast_to([200, 100, 30], (8, 10, 3)))


def yuv_planes(rgb):
    """Return Y, U and V [H, W] as cameras make them (BT.601, limited range)."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return (np.round(plane).astype(np.uint8) for plane in (y, u, v))


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv', 'nv12', 'nv21'])
@pytest.mark.parametrize('padding', [0, 3])
def test_yuv(encoding, padding):
    rgb = smooth(64, 80)
    y, u, v = yuv_planes(rgb)
    if encoding.startswith('nv'):
        first, second = (u, v) if encoding == 'nv12' else (v, u)
        chroma = np.stack([first[::2, ::2], second[::2, ::2]], axis=-1).reshape(32, 80)
        rows = np.vstack([y, chroma])
    else:
        chroma = np.stack([u[:, ::2], v[:, ::2]], axis=-1).reshape(64, 80)
        pair = (y, chroma) if encoding in ('yuv422_yuy2', 'yuyv') else (chroma, y)
        rows = np.stack(pair, axis=-1).reshape(64, 160)
    data, step = padded(rows, padding)
    found = decode_raw(encoding, 64, 80, step, False, data).astype(int)
    assert np.abs(found - rgb).max() <= 8


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda b: array.array('B', b),
                                  lambda b: np.frombuffer(b, np.uint8)])
def test_data_of_every_buffer_type(kind):
    rgb = picture(3, 4)
    np.testing.assert_array_equal(decode_raw('rgb8', 3, 4, 12, False, kind(rgb.tobytes())), rgb)


def test_unpadded_rgb_is_not_copied():
    data = array.array('B', bytes(12))
    image = decode_raw('rgb8', 2, 2, 6, False, data)
    data[0] = 7
    assert image[0, 0, 0] == 7


def test_last_row_may_lack_its_padding():
    rgb = picture(3, 4)
    data, step = padded(rgb.reshape(3, -1), 4)
    np.testing.assert_array_equal(decode_raw('rgb8', 3, 4, step, False, data[:-4]), rgb)


@pytest.mark.parametrize('arguments, words', [
    (('rgb9', 2, 2, 6, False, bytes(12)), 'expected an encoding of rgb8, .*nv21, found .rgb9.'),
    (('rgb8', 2, 2, 6, False, bytes(11)), r'expected 12 bytes \(2 rows of 6\).*found 11'),
    (('rgb8', 2, 2, 5, False, bytes(12)), 'step of at least 6 bytes.*found 5'),
    (('rgb8', 0, 2, 6, False, b''), 'image with pixels'),
    (('mono16', 2, 0, 0, False, b''), 'image with pixels'),
    (('yuv422', 2, 3, 6, False, bytes(12)), 'even width and height.*3x2'),
    (('nv12', 3, 2, 2, False, bytes(12)), 'even width and height'),
    (('nv12', 4, 4, 4, False, bytes(16)), 'expected 24 bytes .* found 16'),
    (('bayer_rggb8', 1, 2, 2, False, bytes(2)), 'at least 2x2 pixels'),
])
def test_what_cannot_be_decoded_says_why(arguments, words):
    with pytest.raises(ImageError, match=words):
        decode_raw(*arguments)


@given(encoding=st.sampled_from(images.ENCODINGS), height=st.integers(0, 9), width=st.integers(0, 9),
       step=st.integers(0, 60), big=st.booleans(), data=st.binary(max_size=400))
def test_any_message_decodes_or_raises_image_error(encoding, height, width, step, big, data):
    try:
        image = decode_raw(encoding, height, width, step, big, data)
    except ImageError:
        return
    assert image.shape == (height, width, 3) and image.dtype == np.uint8


@settings(max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), padding=st.integers(0, 3),
       encoding=st.sampled_from(images.ENCODINGS), seed=st.integers(0, 99))
def test_fit_raw_is_decode_then_fit_bit_for_bit(height, width, padding, encoding, seed):
    if encoding in images._YUV422 or encoding in images._YUV420 or encoding in images._BAYER:
        height, width = 2 * height, 2 * width
    step = 4 * width + padding
    size = step * (height + height // 2)
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()
    arguments = (encoding, height, width, step, False, data)
    for size in [(32, 48), (7, 5)]:
        image, geometry = fit_raw(*arguments, size)
        expected, expected_geometry = fit(decode_raw(*arguments), size)
        assert geometry == expected_geometry
        np.testing.assert_array_equal(image, expected)


def test_fit_of_the_shared_sizes_bit_for_bit():
    # the integer and fractional shrinking of real cameras, which OpenCV does on different paths
    for height, width in [(480, 640), (720, 1280), (96, 128), (64, 64)]:
        for encoding, channels in BYTES_PER_PIXEL.items():
            data = picture(height, width, channels).tobytes()
            arguments = (encoding, height, width, width * channels, False, data)
            expected, _ = fit(decode_raw(*arguments), (96, 128))
            np.testing.assert_array_equal(fit_raw(*arguments, (96, 128))[0], expected)


def test_fitting_a_vga_frame_costs_less_than_a_millisecond():
    data = picture(480, 640).tobytes()
    costs = []
    for _ in range(20):
        begun = time.thread_time()
        fit_raw('rgb8', 480, 640, 1920, False, data, (96, 128))
        costs.append(time.thread_time() - begun)
    assert min(costs) < 1e-3


def test_fitted_image_has_memory_of_its_own():
    data = bytearray(96 * 128 * 3)
    image, _ = fit_raw('rgb8', 96, 128, 384, False, data, (96, 128))
    data[0] = 9
    assert image[0, 0, 0] == 0


def test_fit_shrinks_by_area_and_grows_linearly():
    stripes = np.zeros((4, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    np.testing.assert_array_equal(fit(stripes, (2, 4))[0], np.full((2, 4, 3), 100))
    step = np.zeros((2, 2, 3), np.uint8)
    step[:, 1] = 200
    grown = fit(step, (8, 8))[0][0, :, 0]
    assert (np.diff(grown.astype(int)) >= 0).all() and len(set(grown.tolist())) > 2


@given(width=st.integers(1, 2000), height=st.integers(1, 2000), rows=st.integers(1, 200),
       columns=st.integers(1, 200))
def test_crop_is_centred_inside_and_of_the_right_aspect(width, height, rows, columns):
    crop = images.centre_crop(width, height, (rows, columns))
    assert 0 <= crop.x and 0 <= crop.y
    assert abs(width - crop.crop_width - 2 * crop.x) <= 1 and abs(height - crop.crop_height - 2 * crop.y) <= 1
    assert crop.crop_width == width or crop.crop_height == height
    # within half a pixel of the exact aspect, or one pixel at least
    assert (abs(crop.crop_width - crop.crop_height * columns / rows) <= 0.5 + 1e-9 or crop.crop_width == 1
            or abs(crop.crop_height - crop.crop_width * rows / columns) <= 0.5 + 1e-9
            or crop.crop_height == 1)


@given(width=st.integers(1, 2000), height=st.integers(1, 2000),
       points=st.lists(st.tuples(st.floats(-1, 2), st.floats(-1, 2)), min_size=1, max_size=5))
def test_geometry_maps_there_and_back(width, height, points):
    geometry = images.centre_crop(width, height, (96, 128))
    there = geometry.to_received(np.array(points))
    np.testing.assert_allclose(geometry.from_received(there), points, atol=1e-6)


def test_geometry_of_a_wide_image():
    geometry = images.centre_crop(1280, 720, (96, 128))
    assert (geometry.x, geometry.y, geometry.crop_width, geometry.crop_height) == (160, 0, 960, 720)
    np.testing.assert_allclose(geometry.to_received([[0, 0], [1, 1], [0.5, 0.5]]),
                               [[0.125, 0], [0.875, 1], [0.5, 0.5]])
    assert geometry.to_received(np.zeros((1, 2), np.float32)).dtype == np.float32


@pytest.mark.parametrize('format', ['jpeg', 'jpg', 'rgb8; jpeg compressed bgr8', ''])
def test_jpeg_with_any_format_string(format):
    rgb = smooth(48, 64)
    found = decode_compressed(images.encode_jpeg(rgb), format)
    assert np.abs(found.astype(int) - rgb).max() <= 12


def test_png_is_exact():
    rgb = picture(9, 7)
    data = cv2.imencode('.png', rgb[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data, 'rgb8; png compressed bgr8'), rgb)


def test_grey_jpeg_and_array_data():
    grey = smooth(32, 32)[..., 0]
    data = array.array('B', cv2.imencode('.jpg', grey)[1].tobytes())
    found = decode_compressed(data, 'mono8; jpeg compressed ')
    assert found.shape == (32, 32, 3) and np.abs(found[..., 1].astype(int) - grey).max() <= 8


def test_fit_compressed_is_decode_then_fit_bit_for_bit():
    data = images.encode_jpeg(smooth(123, 210))
    image, geometry = fit_compressed(data, 'jpg', (32, 48))
    expected, expected_geometry = fit(decode_compressed(data), (32, 48))
    np.testing.assert_array_equal(image, expected)
    assert geometry == expected_geometry


@pytest.mark.parametrize('kind', ['.jpg', '.png'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(kind, share):
    # OpenCV alone returns a picture with a grey lower half for most of these
    data = cv2.imencode(kind, smooth(120, 160))[1].tobytes()
    with pytest.raises(ImageError, match='whole|JPEG or PNG'):
        decode_compressed(data[:int(share * len(data))], 'jpeg')


def test_the_thumbnail_s_end_marker_does_not_count():
    data = images.encode_jpeg(smooth(120, 160))
    thumbnail = images.encode_jpeg(smooth(16, 16))
    header = b'\xff\xe1' + struct.pack('>H', 2 + len(thumbnail)) + thumbnail
    whole = data[:2] + header + data[2:]
    assert decode_compressed(whole).shape == (120, 160, 3)
    with pytest.raises(ImageError, match='cut short'):
        decode_compressed(whole[:-200])


def test_padding_after_a_jpeg_is_left_alone():
    data = images.encode_jpeg(smooth(20, 30))
    assert decode_compressed(data + bytes(1000)).shape == (20, 30, 3)


@pytest.mark.parametrize('data', [b'', b'\xff\xd8', b'GIF89a' + bytes(30), bytes(100)])
def test_other_bytes_are_named(data):
    with pytest.raises(ImageError, match='JPEG'):
        decode_compressed(data, 'jpeg')


def test_damage_in_the_header_is_named():
    data = cv2.imencode('.png', smooth(20, 30))[1].tobytes()
    with pytest.raises(ImageError, match='damaged'):
        decode_compressed(data[:16] + bytes(10) + data[26:], 'png')


def test_a_damaged_chunk_length_costs_no_memory():
    # OpenCV alone allocates the 3.3 GB that this chunk announces, and takes seconds over it
    begun = time.thread_time()
    with pytest.raises(ImageError, match='cut short'):
        decode_compressed(b'\x89PNG\r\n\x1a\n\xc4\xca\xff\xd9IEND', 'png')
    assert time.thread_time() - begun < 0.5


@given(data=st.binary(max_size=200), head=st.sampled_from([b'', b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n']))
def test_any_bytes_decode_or_raise_image_error(data, head):
    try:
        assert decode_compressed(head + data + b'\xff\xd9IEND').ndim == 3
    except ImageError as error:
        assert 'expected' in str(error)
