#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Random weights in the layout of the published files, to try `jepa export --family` without a download.

  python tools/random_official_weights.py vjepa2-vitl /tmp/vitl.pt
  jepa export /tmp/vitl.pt --family vjepa2 --model vitl --image-size 256 --frames 16

The file is as large as the published weights in float32. Its latents mean nothing.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jepa_ros.nets.official import keys  # noqa: E402
from jepa_ros.nets.official.encoder import OfficialEncoder  # noqa: E402
from jepa_ros.nets.official.families import MODELS, find  # noqa: E402
from jepa_ros.nets.official.predictor import ActionPredictor, OfficialPredictor  # noqa: E402

PREFIXES = {'ijepa': 'module.'}  # those of the training's wrappers; the video models have one more


def write(model, path, seed=0):
    """
    Write the weights of a model, drawn as its training began.

    :param model: `families.Model`.
    :param path: file to write.
    """
    torch.manual_seed(seed)
    predictor = ActionPredictor if model.predictor.action_conditioned else OfficialPredictor
    prefix, content = PREFIXES.get(model.family, 'module.backbone.'), {}
    for part, kind in ((model.weights, OfficialEncoder), ('predictor', predictor)):
        state = keys.to_official(kind(model).state_dict(), model, part if part == 'predictor' else 'encoder')
        # `to_official` may give a part of a larger tensor, which would be saved whole
        content[part] = {prefix + name: value.clone() for name, value in state.items()}
    torch.save({**content, 'epoch': 0}, path)


def main():
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', choices=MODELS, metavar='MODEL', help=', '.join(MODELS))
    parser.add_argument('path', type=Path, help='file to write')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    write(find(args.model), args.path, args.seed)
    print(f'{args.path}: {args.path.stat().st_size / 1e9:.2f} GB')


if __name__ == '__main__':
    main()
