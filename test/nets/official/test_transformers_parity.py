# SPDX-License-Identifier: Apache-2.0
"""Our networks against transformers' I-JEPA and V-JEPA 2, weights carried over in both directions."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')
transformers = pytest.importorskip('transformers', reason='transformers is not installed (the test extra)')

import tiny_official as tiny  # noqa: E402

from jepa_ros.nets.official import keys, positions  # noqa: E402

pytestmark = pytest.mark.filterwarnings('ignore')
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    """The default dtype of the test: tables of positions are as exact as it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


def hf_vjepa2(model, frames):
    size, narrow = model.size, model.predictor.size
    return transformers.VJEPA2Model(
        transformers.VJEPA2Config(
            crop_size=model.image_size,
            patch_size=model.patch,
            frames_per_clip=frames,
            tubelet_size=model.tubelet,
            hidden_size=size.width,
            num_attention_heads=size.heads,
            num_hidden_layers=size.depth,
            mlp_ratio=size.mlp_width / size.width,
            pred_hidden_size=narrow.width,
            pred_num_attention_heads=narrow.heads,
            pred_num_hidden_layers=narrow.depth,
            pred_num_mask_tokens=model.predictor.mask_tokens,
            pred_zero_init_mask_tokens=False,
        )
    ).eval()


def hf_ijepa(model):
    size = model.size
    return transformers.IJepaModel(
        transformers.IJepaConfig(
            image_size=model.image_size,
            patch_size=model.patch,
            hidden_size=size.width,
            layer_norm_eps=1e-6,
            num_attention_heads=size.heads,
            num_hidden_layers=size.depth,
            intermediate_size=size.mlp_width,
        )
    ).eval()


def difference(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert theirs.std() > 0.1  # weights for which everything is nearly zero would agree with anything
    return (ours - theirs).abs().max().item()


def hf_ijepa_with(model, encoder):
    """Weights in the published spelling, into a model of the installed transformers."""
    theirs, state = hf_ijepa(model), keys.to_hf(encoder.state_dict(), None, model)
    theirs.load_state_dict({name: state[next(iter(keys.hf_spelling({name: None}, model)))]
                            for name in theirs.state_dict()}, strict=True)
    assert len(state) == len(theirs.state_dict())
    return theirs


@pytest.mark.parametrize(
    'size',
    [
        dict(),
        dict(width=64, depth=2, heads=2, narrow=60, image_size=80, frames=4),
        dict(width=66, depth=2, heads=1, narrow=48, image_size=32, frames=10),
    ],
)
def test_v_jepa_2_encoder_and_predictor(size, dtype):
    model = tiny.tiny('vjepa2-vitl', **size)
    encoder, predictor = tiny.networks(model)
    theirs = hf_vjepa2(model, model.frames)
    theirs.load_state_dict(keys.to_hf(encoder.state_dict(), predictor.state_dict(), model), strict=True)
    frames, (context, target) = tiny.frames_of(model), tiny.sparse_ids(encoder.config)
    with torch.no_grad():
        expected = theirs(frames.transpose(1, 2), context_mask=[context], target_mask=[target])
        latents = encoder(frames)
        assert difference(latents, expected.last_hidden_state) < tiny.BOUND[dtype]
        kept = latents.gather(1, context[..., None].expand(-1, -1, latents.shape[-1]))
        predicted = predictor(kept, context, target)
        assert difference(predicted, expected.predictor_output.last_hidden_state) < tiny.BOUND[dtype]


def test_weights_of_transformers_v_jepa_2_become_ours(dtype):
    model = tiny.tiny('vjepa2-vitg')
    theirs = tiny.random_weights(hf_vjepa2(model, model.frames), seed=5)
    encoder, predictor = tiny.networks(model)
    for module, state in zip((encoder, predictor), keys.from_hf(theirs.state_dict(), model)):
        module.load_state_dict(state, strict=True)
    frames = tiny.frames_of(model)
    everything = torch.arange(encoder.config.slices * encoder.config.tokens).expand(2, -1)
    with torch.no_grad():
        expected = theirs(frames.transpose(1, 2))
        latents = encoder(frames)
        assert difference(latents, expected.last_hidden_state) < tiny.BOUND[dtype]
        again = predictor(latents, everything, everything)
        assert difference(again, expected.predictor_output.last_hidden_state) < tiny.BOUND[dtype]


def test_v_jepa_2_takes_other_clip_lengths_and_a_lone_frame(dtype):
    model = tiny.tiny('vjepa2-vitl', frames=4)
    encoder, predictor = tiny.networks(model)
    theirs = hf_vjepa2(model, 4)
    theirs.load_state_dict(keys.to_hf(encoder.state_dict(), predictor.state_dict(), model), strict=True)
    for count in (1, 2, 12):
        frames = tiny.frames_of(model, frames=count)
        with torch.no_grad():
            expected = theirs(frames.transpose(1, 2), skip_predictor=True).last_hidden_state
            assert difference(encoder(frames), expected) < tiny.BOUND[dtype]


@pytest.mark.parametrize('size', [dict(image_size=56), dict(width=64, depth=2, heads=2, image_size=112)])
def test_i_jepa_encoder(size, dtype):
    model = tiny.tiny('ijepa-vith14', **size)
    encoder, _ = tiny.networks(model)
    theirs, frames = hf_ijepa_with(model, encoder), tiny.frames_of(model)
    with torch.no_grad():
        expected = theirs(frames[:, :, 0]).last_hidden_state
        assert difference(encoder(frames), expected) < tiny.BOUND[dtype]


def test_weights_of_transformers_i_jepa_become_ours(dtype):
    model = tiny.tiny('ijepa-vitg16')
    theirs = tiny.random_weights(hf_ijepa(model), seed=5)
    encoder, _ = tiny.networks(model)
    state, nothing = keys.from_hf(theirs.state_dict(), model)
    assert nothing is None
    encoder.load_state_dict(state, strict=True)
    frames = tiny.frames_of(model)
    with torch.no_grad():
        assert difference(encoder(frames), theirs(frames[:, :, 0]).last_hidden_state) < tiny.BOUND[dtype]


@pytest.mark.parametrize('image_size', [(64, 64), (32, 96), (96, 48)])
def test_i_jepa_at_other_image_sizes(image_size, dtype):
    model = tiny.tiny('ijepa-vitg16')
    native, _ = tiny.networks(model)
    theirs, frames = hf_ijepa_with(model, native), tiny.frames_of(model, image_size=image_size)
    encoder, _ = tiny.networks(model, image_size=image_size)
    table = positions.resize_added(native.pos_embed, 1, native.config.grid, 1, encoder.config.grid)
    encoder.load_state_dict({**native.state_dict(), 'pos_embed': table})
    with torch.no_grad():
        expected = theirs(frames[:, :, 0], interpolate_pos_encoding=True).last_hidden_state
        assert difference(encoder(frames), expected) < tiny.BOUND[dtype]
