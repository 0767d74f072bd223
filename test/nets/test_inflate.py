# SPDX-License-Identifier: Apache-2.0
"""A video encoder that starts from image weights sees a still picture as the image encoder does."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.inflate import inflate_from_image, with_details  # noqa: E402
from jepa_ros.nets.vit import Encoder, EncoderConfig, normalise_output  # noqa: E402

SMALL = {'size': 'tiny', 'depth': 3, 'image_size': (32, 48), 'patch': 16}


@pytest.fixture(params=['linear', 'hierarchical', 'convolutional'])
def image(request):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**SMALL, tubelet=1, window=1, stem=request.param)).eval()
    for parameter in encoder.parameters():  # larger than at the start of training, so that attention chooses
        parameter.data.mul_(3.0 if parameter.ndim == 2 else 1.0)
    return encoder


def inflated(image, tubelet, window):
    of = EncoderConfig(**SMALL, tubelet=tubelet, window=window, stem=image.config.stem)
    video = Encoder(of).eval()
    video.load_state_dict(inflate_from_image(image.state_dict(), tubelet))
    return video


@torch.no_grad()
@pytest.mark.parametrize('tubelet', [2, 4])
def test_a_still_video_gives_the_images_latents_where_attention_stays_in_a_slice(image, tubelet):
    picture = torch.randn(2, 3, 1, 32, 48)
    times = torch.tensor([[0.0, 0.1, 0.2]]).expand(2, -1)
    expected = image(picture, times[:, :1])
    still = inflated(image, tubelet, window=1)(picture.expand(-1, -1, 3 * tubelet, -1, -1), times)
    assert (still.unflatten(1, (3, -1)) - expected[:, None]).abs().max() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize('window', [0, 3])
def test_and_nearly_so_where_it_spans_slices_which_turn_the_features_of_time(image, window):
    picture, times = torch.randn(2, 3, 1, 32, 48), torch.tensor([[0.0, 0.1, 0.2]]).expand(2, -1)
    expected = normalise_output(image(picture, times[:, :1]))
    still = normalise_output(inflated(image, 2, window)(picture.expand(-1, -1, 6, -1, -1), times)).unflatten(
        1, (3, -1)
    )
    other = normalise_output(image(torch.randn(2, 3, 1, 32, 48), times[:, :1]))
    near, far = ((latents - expected[:, None]).square().mean() for latents in (still, other[:, None]))
    assert 1e-8 < near < 0.02 * far


def test_what_is_no_image_encoder_is_named(image):
    video = inflated(image, 2, 3).state_dict()
    with pytest.raises(
        JepaError, match=r'expected the weights of an image encoder.*found \(\d+, 3, 2, \d+, \d+\)'
    ):
        inflate_from_image(video, 2)
    with pytest.raises(JepaError, match='no such weight'):
        inflate_from_image({}, 2)


@torch.no_grad()
def test_an_encoder_with_a_hierarchical_stem_starts_one_with_convolutions():
    of = [EncoderConfig(**SMALL, tubelet=2, window=3, stem=stem) for stem in ('hierarchical', 'convolutional')]
    torch.manual_seed(1)
    before, after = (Encoder(config).eval() for config in of)
    given = before.state_dict()
    assert with_details(given, before) is given
    after.load_state_dict(with_details(given, after))
    assert with_details(after.state_dict(), after).keys() == after.state_dict().keys()
    frames = torch.randn(1, 3, 4, 32, 48)
    tokens, started = (encoder.embed(frames) for encoder in (before, after))
    assert 0 < (started - tokens).square().mean() < 0.1 * tokens.square().mean()  # the convolutions begin small
    for part in after.patch_embed.details[-1].parameters():
        part.zero_()
    assert torch.allclose(after.embed(frames), tokens, atol=1e-6)
