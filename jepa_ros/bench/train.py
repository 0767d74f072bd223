# SPDX-License-Identifier: Apache-2.0
"""
``jepa bench train``: a pretraining step of the trainer against a plain loop over transformers' V-JEPA 2
modules.

Both do the same work on the same clips and masks, in turns: the target encoder on all tokens, encoder and
predictor on what the masks leave (both drop tokens before the encoder), L1, backward, clipped gradients,
AdamW, the target's moving average. The plain loop is what one would write first: it makes its batch when it
needs it, and runs eagerly.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

TARGET = 0.05  # share of the time that may be spent waiting for data
RATE, MOMENTUM = 1e-4, 0.999


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--size', default='tiny', help='of the encoder (default: %(default)s)')
    parser.add_argument(
        '--depth', type=int, default=6, help="transformer blocks; 0: the size's own (default: %(default)s)"
    )
    parser.add_argument('--image-size', type=int, default=96, help='side in pixels (default: %(default)s)')
    parser.add_argument('--frames', type=int, default=16, help='of a clip (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=12, help='clips in a step (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=6, help='of a turn (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=4, help='turns of each (default: %(default)s)')
    parser.add_argument(
        '--workers',
        type=int,
        default=0,
        help='processes that make batches; 0: a thread (default: %(default)s)',
    )
    parser.add_argument('--float32', action='store_true', help='no bfloat16')
    parser.add_argument('--compile', action='store_true', help="compile the trainer's blocks")
    parser.add_argument(
        '--threads', type=int, default=0, help='on the CPU; 0: as torch chooses (default: %(default)s)'
    )


def run(args: argparse.Namespace) -> dict:
    """
    Measure and print.

    :raises JepaError: for sizes that make no whole tokens.
    """
    import torch

    from jepa_ros.training import config as configuration
    from jepa_ros.training.trainer import Trainer

    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix='jepa_bench_') as folder:
        _record(Path(folder))
        trainer = Trainer(
            configuration.from_dict(_values(args)), Path(folder) / 'run', [folder], Path(folder) / 'cache'
        )
        ours, plain = Ours(trainer), Plain(trainer)
        work = ours.flops()
        print(
            f'{args.size} encoder, {len(trainer.model.encoder.blocks)} blocks, {args.frames} frames of '
            f'{args.image_size}x{args.image_size}, {args.batch} clips and {work / 1e9:.0f} GFLOP a step, '
            f'{_precision(args)}, {trainer.place.device}; {args.rounds} turns of {args.steps} steps each\n'
        )
        turns = {ours: [], plain: []}
        matrix = []
        for number in range(args.rounds + 1):  # the first of each warms up
            matrix.append(matrix_rate(trainer.place.device, trainer.place.computes_in_bf16(trainer.config.bf16)))
            for subject, measured in turns.items():
                measured.append(subject.turn(number * args.steps, args.steps))
        trainer.place.close()
    figures = _figures(args, work, matrix[1:], {type(of).__name__: turns[of][1:] for of in turns})
    _print(figures)
    return figures


def _values(args):
    """The run's configuration: a bidirectional encoder, as transformers has it."""
    return {
        'stages': ['pretraining'],
        'bf16': not args.float32,
        'compile': args.compile,
        'data': {
            'train': ['train.mp4'],
            'validation': ['validation.mp4'],
            'slices': args.frames // 2,
            'workers': args.workers,
        },
        'encoder': {'size': args.size, 'depth': args.depth, 'image_size': [args.image_size] * 2, 'window': 0},
        'predictor': {'width': 96, 'depth': 4, 'heads': 3},
        'masks': {'long_scale': 0.5},
        'pretraining': {
            'steps': 10**6,
            'batch': args.batch,
            'rate': RATE,
            'rate_end': RATE,
            'warmup': 0,
            'ema': [MOMENTUM, MOMENTUM],
        },
    }


def _record(folder):
    """
    Two short videos of moving noise, which the trainer reads as any others, through its cache of decoded
    frames.
    """
    import cv2

    for name, seed in (('train', 0), ('validation', 1)):
        rng = np.random.default_rng(seed)
        ground = cv2.resize(rng.integers(0, 255, (30, 60, 3), np.uint8), (640, 240))
        writer = cv2.VideoWriter(str(folder / f'{name}.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 20, (320, 240))
        for shift in range(160):
            writer.write(np.ascontiguousarray(ground[:, shift : shift + 320]))
        writer.release()


class Ours:
    """The trainer's update, its batches made ahead."""

    def __init__(self, trainer):
        self.stage, self.workers = trainer.stages[0], trainer.config.data.workers
        self.update = trainer.begin(self.stage, 0, None, None)

    def turn(self, first, steps):
        """:returns: (seconds, seconds of them waiting for data)."""
        from jepa_ros.data.loader import ClipLoader

        with ClipLoader(self.stage.batch, first, first + steps + 1, self.workers) as batches:
            self.update(first, next(batches))  # a run starts its loader once
            waited, began = batches.waited, time.perf_counter()
            for step, batch in enumerate(batches, first + 1):
                self.update(step, batch)
            return time.perf_counter() - began, batches.waited - waited

    def flops(self):
        """Floating point operations of the matrix products of one step, forward and backward."""
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):  # counted whatever the device
            self.update(0, self.stage.batch(0))
        return counter.get_total_flops()


class Plain:
    """A plain loop over transformers' modules."""

    def __init__(self, trainer):
        import torch
        from transformers import VJEPA2Config, VJEPA2Model

        from jepa_ros.nets import sizes

        config, of = trainer.config, sizes.size(trainer.config.encoder.size)
        model = VJEPA2Model(
            VJEPA2Config(
                crop_size=config.encoder.image_size[0],
                patch_size=16,
                tubelet_size=2,
                frames_per_clip=2 * config.data.slices,
                hidden_size=of.width,
                num_attention_heads=of.heads,
                mlp_ratio=of.mlp_width / of.width,
                num_hidden_layers=len(trainer.model.encoder.blocks),
                pred_hidden_size=config.predictor.width,
                pred_num_hidden_layers=config.predictor.depth,
                pred_num_attention_heads=config.predictor.heads,
                pred_mlp_ratio=4.0,
            )
        )
        self.encoder, self.predictor = (
            module.to(trainer.place.device) for module in (model.encoder, model.predictor)
        )
        self.target = copy.deepcopy(self.encoder).requires_grad_(False)
        self.parameters = [*self.encoder.parameters(), *self.predictor.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=RATE, betas=(0.9, 0.95), weight_decay=0.04)
        self.batch, self.place, self.bf16 = trainer.stages[0].batch, trainer.place, config.bf16

    def turn(self, first, steps):
        """:returns: (seconds, seconds of them making batches)."""
        self.step(self.batch(first))
        making, began = 0.0, time.perf_counter()
        for step in range(first + 1, first + steps + 1):
            since = time.perf_counter()
            batch = self.batch(step)
            making += time.perf_counter() - since
            self.step(batch)
        return time.perf_counter() - began, making

    def step(self, batch):
        """:param batch: as the stage's `batch` gives it."""
        import torch
        import torch.nn.functional as F

        from jepa_ros.training import model as models

        frames, *_, context_ids, target_ids = batch
        frames, context, hidden = (
            torch.from_numpy(array).to(self.place.device)
            for array in (frames, context_ids[:, 0], target_ids[:, 0, 0])
        )
        with self.place.autocast(self.bf16):
            video = models.normalise(frames).transpose(1, 2)
            with torch.no_grad():
                targets = self.target(video).last_hidden_state
                targets = F.layer_norm(targets.float(), targets.shape[-1:])
            tokens = self.encoder.embeddings(video)
            x = tokens.gather(1, context[..., None].expand(-1, -1, tokens.shape[-1]))
            for layer in self.encoder.layer:
                x = layer(x, context)[0]
            x = self.encoder.layernorm(x)
            # The predictor picks the context out of all tokens.
            whole = torch.zeros_like(tokens).to(x.dtype).scatter(1, context[..., None].expand_as(x), x)
            predicted = self.predictor(whole, [context], [hidden]).last_hidden_state
            wanted = targets.gather(1, hidden[..., None].expand(-1, -1, targets.shape[-1]))
            loss = F.l1_loss(predicted, wanted)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for module in (self.encoder, self.predictor):
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            for target, online in zip(self.target.parameters(), self.encoder.parameters()):
                target.lerp_(online, 1 - MOMENTUM)
        return loss.item()


def matrix_rate(device, bf16, side=2048, seconds=0.5):
    """The rate of large matrix products in the precision that is trained in, operations per second."""
    import torch

    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)

    def wait():
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    a @ a
    wait()
    count, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        a @ a
        wait()
        count += 1
    return 2 * side**3 * count / elapsed


def _figures(args, work, matrix, turns):
    """:param turns: dict of subject to its (seconds, seconds for data) of every turn."""
    rows, rate = [], statistics.median(matrix)
    for name, measured in turns.items():
        seconds, data = (statistics.median(of) for of in zip(*measured))
        rows.append(
            {
                'subject': name.lower(),
                'clips_per_second': args.steps * args.batch / seconds,
                'waiting': data / seconds,
                'of_matrix_rate': args.steps * work / (seconds - data) / rate,
                'seconds': [of for of, _ in measured],
            }
        )
    ratios = [plain[0] / ours[0] for ours, plain in zip(*turns.values())]
    return {
        'settings': {key: value for key, value in vars(args).items() if isinstance(value, (int, str, bool))},
        'gflop_per_step': work / 1e9,
        'matrix_gflop_s': rate / 1e9,
        'subjects': rows,
        'ratio_to_plain': statistics.median(ratios),
        'ratios': ratios,
    }


def _print(figures):
    print(f'{"loop":<26}{"clips/s":>9}{"of matrix rate":>16}{"waiting for data":>18}')
    names = {'ours': 'jepa train', 'plain': 'plain, transformers'}
    for row in figures['subjects']:
        print(
            f'{names[row["subject"]]:<26}{row["clips_per_second"]:>9.1f}{row["of_matrix_rate"]:>16.0%}'
            f'{row["waiting"]:>18.1%}'
        )
    spread = f'{min(figures["ratios"]):.2f} to {max(figures["ratios"]):.2f}'
    waiting = figures['subjects'][0]['waiting']
    print(
        f'\nratio: {figures["ratio_to_plain"]:.2f} times the clips of the plain loop ({spread} over turns)\n'
        f'matrix products reach {figures["matrix_gflop_s"]:.0f} GFLOP/s here; the share of that rate leaves '
        f'out time for data\nwaiting for data: {"below" if waiting < TARGET else "NOT below"} the '
        f'{TARGET:.0%} that are the target'
    )


def _precision(args):
    return 'float32' if args.float32 else 'bfloat16 where autocast allows'
