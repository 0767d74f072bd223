# SPDX-License-Identifier: Apache-2.0
"""
Futures of the published predictors: the right mask tokens, of nothing but the context, in torch and in ONNX.
"""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

import tiny_official as tiny  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.official.futures import OfficialForecaster  # noqa: E402

SLICES, HORIZONS = 2, 2  # 4 in all: what a V-JEPA 1 of 8 frames has positions for
FAMILIES = ['vjepa-vitl16', 'vjepa2-vitl', 'vjepa2.1-vitb', 'vjepa2.1-vitg']


def built(name, horizons=HORIZONS, slices=SLICES):
    """A forecaster, and a window's context."""
    model = tiny.tiny(name, image_size=32)
    forecaster = OfficialForecaster(tiny.networks(model)[1], slices, horizons)
    generator, width = torch.Generator().manual_seed(3), model.size.width * model.predictor.levels
    return forecaster, torch.randn(slices, forecaster.tokens, width, generator=generator)


def ask(forecaster, context, *horizons):
    period = forecaster.slice_period
    times = torch.arange(1 - len(context), 1) * period
    return forecaster(context, times, torch.tensor(horizons, dtype=torch.float32) * period)


@torch.no_grad()
@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('mask_index', [0, 1])
def test_futures_are_mask_tokens_behind_the_window(name, mask_index):
    forecaster, context = built(name)
    forecaster.predictor.mask_index = mask_index  # as the loader chooses it
    n = forecaster.tokens
    seen, later = torch.arange(SLICES * n)[None], torch.arange(SLICES * n, (SLICES + HORIZONS) * n)[None]
    expected = forecaster.predictor(context.flatten(0, 1)[None], seen, later, mask_index=mask_index)
    futures = ask(forecaster, context, 1, 2)
    assert futures.shape == (2, n, forecaster.out_width) and futures.std() > 0.1
    assert torch.allclose(futures.flatten(0, 1), expected[0], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1, 6), min_size=1, max_size=5))
@torch.no_grad()
def test_a_horizon_is_the_nearest_whatever_else_is_asked_for(horizons):
    forecaster, context = built('vjepa2-vitl', horizons=3)
    whole = ask(forecaster, context, 1, 2, 3)
    for horizon, future in zip(horizons, ask(forecaster, context, *horizons)):
        distances = [abs(horizon - offered) for offered in (1, 2, 3)]
        # Two, halfway between them.
        nearest = [whole[i] for i in range(3) if distances[i] <= min(distances) + 1e-5]
        assert any(torch.equal(future, each) for each in nearest)


@torch.no_grad()
@pytest.mark.parametrize('name', FAMILIES)
def test_every_token_of_the_context_counts(name):
    forecaster, context = built(name)
    before = ask(forecaster, context, 1, 2)
    assert not torch.allclose(before[0], before[1], atol=1e-2)
    for index in range(SLICES):
        changed = context.clone()
        changed[index, 1] += 1
        assert (ask(forecaster, changed, 1, 2) - before).abs().amax((1, 2)).min() > 1e-3


@torch.no_grad()
def test_frames_of_the_future_do_not_leak():
    """
    V-JEPA 1's window is the first part of its clip: encoded without the rest, whose frames may be anything.
    """
    model = tiny.tiny('vjepa-vitl16', image_size=32)
    encoder, predictor = tiny.networks(model)
    forecaster = OfficialForecaster(predictor, SLICES, HORIZONS)
    seen = torch.arange(SLICES * forecaster.tokens)[None]
    frames, others = tiny.frames_of(model, batch=1), tiny.frames_of(model, batch=1, seed=9)
    others[:, :, : SLICES * model.tubelet] = frames[:, :, : SLICES * model.tubelet]

    def futures(clip, ids):
        tokens = encoder(clip, ids=ids)[:, : seen.shape[1]]
        return ask(forecaster, tokens[0].unflatten(0, (SLICES, -1)), 1, 2)

    assert torch.equal(futures(frames, seen), futures(others, seen))
    # What it would be otherwise.
    assert not torch.allclose(futures(frames, None), futures(others, None), atol=1e-2)


@torch.no_grad()
def test_one_horizon_is_the_published_anticipation_and_several_are_filled_together():
    """
    facebookresearch/vjepa2, evals/action_anticipation_frozen, fills the one slice that it asks for alone.
    """
    (alone, context), (together, _) = built('vjepa2-vitl', horizons=1), built('vjepa2-vitl', horizons=2)
    n = alone.tokens
    seen, later = torch.arange(SLICES * n)[None], torch.arange(SLICES * n, (SLICES + 1) * n)[None]
    expected = alone.predictor(context.flatten(0, 1)[None], seen, later)[0]
    assert torch.allclose(ask(alone, context, 1)[0], expected, atol=1e-5)
    assert not torch.allclose(ask(together, context, 1)[0], expected, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize('name', FAMILIES)
def test_the_graph_gives_what_torch_gives_for_any_number_of_horizons(name, tmp_path):
    onnx = pytest.importorskip('onnx', reason='onnx is not installed (the train extra)')
    onnxruntime = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    from jepa_ros.export.graphs import OPSET, OfficialForecastGraph, write_onnx

    forecaster, context = built(name)
    period = 2 * forecaster.slice_period  # the user's frames come half as often as those of training
    graph, path = OfficialForecastGraph(forecaster, period).eval(), tmp_path / 'forecaster.onnx'
    times = torch.tensor([-period, 0.0])
    write_onnx(
        graph,
        {'context': context, 'times': times, 'dt': torch.tensor([period, 2 * period])},
        ['futures'],
        path,
    )

    model = onnx.load(path)
    kinds = {node.op_type for node in model.graph.node}
    assert model.opset_import[0].version == OPSET and 'LayerNormalization' in kinds
    assert not kinds & {
        'TopK',
        'Sort',
        'Sin',
        'Cos',
        'ScatterND',
    }  # nothing sorted, positions folded to constants
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    assert [each.name for each in session.get_inputs()] == ['context', 'times', 'dt']
    other = context.flip(0)
    expected = forecaster.fill(other)
    for asked in ((1,), (2, 1, 2), (2, 1)):
        dt = torch.tensor(asked) * period
        (futures,) = session.run(None, {'context': other.numpy(), 'times': times.numpy(), 'dt': dt.numpy()})
        assert torch.allclose(torch.from_numpy(futures), expected[torch.tensor(asked) - 1], atol=1e-4)


@pytest.mark.parametrize(
    'name, slices, horizons, message',
    [
        ('ijepa-vitg16', 1, 1, 'need a video model'),
        ('vjepa2-vitl', 0, 1, 'found 0 and 1'),
        ('vjepa2-vitl', 2, 0, 'found 2 and 0'),
        ('vjepa-vitl16', 4, 1, 'knows 4 slices'),
    ],
)
def test_what_has_no_futures_says_so(name, slices, horizons, message):
    with pytest.raises(JepaError, match=message):
        OfficialForecaster(tiny.networks(tiny.tiny(name))[1], slices, horizons)


@torch.no_grad()
def test_rotary_windows_may_be_longer_than_the_clips_of_training():
    forecaster, context = built('vjepa2-vitl', slices=6, horizons=3)
    assert torch.isfinite(ask(forecaster, context, 3)).all()
    assert forecaster.seconds == (0.5, 1.0, 1.5)
