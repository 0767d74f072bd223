# SPDX-License-Identifier: Apache-2.0
"""The probe: the published pooler, order, and a covariance that is one."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the train extra)')

from jepa_ros.errors import JepaError  # noqa: E402
from jepa_ros.nets.probe import MIN_STD, AttentivePooler, Probe  # noqa: E402

DIM, HEADS = 24, 3
TIMES = torch.tensor([[-0.2, -0.1, 0.0]])


@torch.no_grad()
def test_the_pooler_is_the_published_one():
    """
    Against transformers' V-JEPA 2 pooler with the same weights (it is called without times, as the published
    one is).
    """
    transformers = pytest.importorskip(
        'transformers', reason='transformers is not installed (the parity tests)'
    )
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        hidden_size=DIM, num_attention_heads=HEADS, num_pooler_layers=2, attn_implementation='sdpa'
    )
    theirs, ours = (
        VJEPA2AttentivePooler(config).eval(),
        AttentivePooler(DIM, HEADS, depth=3, timed=False).eval(),
    )
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    cross = theirs.cross_attention_layer
    for block, layer in zip(ours.blocks, theirs.self_attention_layers):
        attn = layer.self_attn
        block.attn.qkv.weight.copy_(torch.cat([p.weight for p in (attn.q_proj, attn.k_proj, attn.v_proj)]))
        block.attn.qkv.bias.copy_(torch.cat([p.bias for p in (attn.q_proj, attn.k_proj, attn.v_proj)]))
        block.attn.proj.load_state_dict(attn.out_proj.state_dict())
    pairs = [(ours, cross), *zip(ours.blocks, theirs.self_attention_layers)]
    for mine, other in pairs:
        mine.norm1.load_state_dict(other.layer_norm1.state_dict())
        mine.norm2.load_state_dict(other.layer_norm2.state_dict())
        mine.mlp[0].load_state_dict(other.mlp.fc1.state_dict())
        mine.mlp[2].load_state_dict(other.mlp.fc2.state_dict())
    ours.q.load_state_dict(cross.cross_attn.q_proj.state_dict())
    keys, values = cross.cross_attn.k_proj, cross.cross_attn.v_proj
    ours.kv.weight.copy_(torch.cat((keys.weight, values.weight)))
    ours.kv.bias.copy_(torch.cat((keys.bias, values.bias)))
    ours.query.copy_(theirs.query_tokens[0, 0])
    tokens = torch.randn(2, 3, 5, DIM)
    assert torch.allclose(ours(tokens, None), theirs(tokens.flatten(1, 2)), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize('pooling', ['linear', 'attentive'])
def test_a_probe_can_tell_the_order_of_slices(pooling):
    """The control of shuffled frames needs a probe that notices."""
    torch.manual_seed(1)
    probe = Probe(DIM, slices=3, outputs=4, classes=True, pooling=pooling, depth=2)
    tokens = torch.randn(2, 3, 5, DIM)
    logits, shuffled = probe(tokens, TIMES.expand(2, -1)), probe(tokens[:, [2, 0, 1]], TIMES.expand(2, -1))
    assert logits.shape == (2, 4) and (logits - shuffled).abs().max() > 1e-3 * logits.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('outputs', [1, 2, 5])
def test_a_vectors_covariance_is_symmetric_and_positive_whatever_it_is_fed(outputs):
    torch.manual_seed(2)
    probe = Probe(DIM, slices=3, outputs=outputs, classes=False, pooling='linear')
    torch.nn.init.normal_(probe.head.proj.weight)
    for scale in (0.0, 1.0, 10.0):
        mean, covariance = probe(scale * torch.randn(4, 3, 5, DIM), TIMES.expand(4, -1))
        assert mean.shape == (4, outputs) and covariance.shape == (4, outputs, outputs)
        assert torch.equal(covariance, covariance.mT)
        assert torch.linalg.eigvalsh(covariance.double()).min() > 0.5 * MIN_STD**2


def test_an_unknown_pooling_is_named():
    with pytest.raises(JepaError, match="linear, attentive, found 'mean'"):
        Probe(DIM, 3, 2, True, pooling='mean')
