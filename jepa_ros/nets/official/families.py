# SPDX-License-Identifier: Apache-2.0
"""
Every published JEPA model in one table: shapes, positions, predictor, licence, and where its weights are.

The numbers come from the authors' repositories: facebookresearch/ijepa (`configs/`, `src/helper.py`),
facebookresearch/jepa (`configs/pretrain/`, `app/vjepa/utils.py`) and facebookresearch/vjepa2
(`src/hub/backbones.py`, `configs/train/`, `app/vjepa_2_1/`). Where two of them disagree, what the weights
were trained with counts.
"""

from dataclasses import dataclass

from jepa_ros.errors import JepaError
from jepa_ros.nets.sizes import SIZES, Size

POSITIONS = ('sincos2d', 'sincos3d', 'rope_tiled', 'rope_rescaled')
SINCOS_2D, SINCOS_3D, ROPE_TILED, ROPE_RESCALED = POSITIONS
NON_COMMERCIAL, MIT = 'CC-BY-NC-4.0', 'MIT'
ACTION_DIM, STATE_DIM, EXTRINSICS_DIM = 7, 7, 6  # of V-JEPA 2-AC: end effector and gripper, likewise, camera
TEACHER_WIDTH = SIZES['gigantic'].width  # of the ViT-G that taught V-JEPA 2.1's B and L
_FILES, _GITHUB = 'https://dl.fbaipublicfiles.com', 'https://github.com/facebookresearch'


def _block_parameters(size):
    """Trained numbers of all blocks of a size."""
    d, m = size.width, size.mlp_width
    return size.depth * (4 * d + 4 * (d * d + d) + 2 * d * m + m + d)


@dataclass(frozen=True)
class PredictorShape:
    """
    What a published predictor is.

    :param size: its own width, depth, heads and feed-forward width.
    :param out_width: features of its output: of the encoder's space, or of the teacher's.
    :param mask_tokens: how many it has; `mask_index` is the one to use, where training reached it
        (`loading.load_official`): the authors' default, except in V-JEPA 2.1.
    :param levels: encoder outputs that are joined into its input, first to last: 1, or 4 in V-JEPA 2.1's g
        and G, where `out_width` counts all four as well (the last of them is the encoder's output).
    :param action_conditioned: it predicts frame by frame from actions and states (V-JEPA 2-AC).
    """

    size: Size
    out_width: int
    mask_tokens: int = 1
    mask_index: int = 0
    levels: int = 1
    action_conditioned: bool = False


@dataclass(frozen=True)
class Model:
    """
    What a published model is. `dataclasses.replace` makes a small one of it.

    :param family: as in a bundle's manifest; `name`: `family-size`.
    :param size: width, depth, heads and feed-forward width of the encoder.
    :param patch: side of a patch in pixels; `tubelet`: frames of a slice (1: an image model).
    :param image_size: side of the square images it was trained at, in pixels.
    :param frames: of the longest clip it was trained at; `rate`: of them per second (0: an image model).
    :param positions: one of `POSITIONS`.
    :param taps: blocks whose output has a norm; the last block's is the model's output. Four in V-JEPA 2.1,
        else one.
    :param modalities: it tells images from video: an embedding for each, and patches of a single frame
        (V-JEPA 2.1).
    :param predictor: `PredictorShape`.
    :param weights: which of a file's encoders the authors evaluate.
    :param page: address of the project; `download`: addresses of the original files; `hub`: names of the same
        weights on the Hugging Face hub.
    """

    family: str
    name: str
    size: Size
    patch: int
    tubelet: int
    image_size: int
    frames: int
    rate: float
    positions: str
    taps: tuple[int, ...]
    modalities: bool
    predictor: PredictorShape
    weights: str
    licence: str
    page: str
    download: tuple[str, ...]
    hub: tuple[str, ...] = ()

    @property
    def rotary(self):
        """Positions turn queries and keys; otherwise they are added to the tokens."""
        return self.positions in (ROPE_TILED, ROPE_RESCALED)

    @property
    def slice_period(self):
        """Seconds between slices in training; None for an image model."""
        return self.tubelet / self.rate if self.rate else None

    @property
    def encoder_parameters(self):
        """Trained numbers of the encoder (added positions are fixed)."""
        width, pixels = self.size.width, 3 * self.patch ** 2
        images = pixels * width + 3 * width if self.modalities else 0
        norms = 2 * width * len(self.taps)
        return self.tubelet * pixels * width + width + _block_parameters(self.size) + norms + images

    @property
    def predictor_parameters(self):
        """Trained numbers of the predictor."""
        shape, width, narrow = self.predictor, self.size.width, self.predictor.size.width
        total = width * narrow + narrow + _block_parameters(shape.size) + (2 + shape.mask_tokens) * narrow
        total += (narrow + 1) * shape.out_width * (2 if self.modalities else 1)
        if shape.levels > 1:
            total += (shape.levels * width + 1) * width
        if self.modalities:
            total += 2 * narrow
        if shape.action_conditioned:
            total += (ACTION_DIM + STATE_DIM + EXTRINSICS_DIM + 3) * narrow
        return total


@dataclass(frozen=True)
class ClipShape:
    """
    What a network is built for; `config` of an official network, as `EncoderConfig` is of our own.

    :param model: `Model`; `image_size`: (height, width) in pixels; `frames`: of a clip.
    """

    model: Model
    image_size: tuple[int, int]
    frames: int

    @classmethod
    def of(cls, model, image_size=None, frames=None):
        """
        Fill in what is not said with the model's own.

        :param image_size: side, or (height, width), in pixels; `frames`: a multiple of the tubelet, or one.
        :raises JepaError: for sizes that are no multiples of the patch or the tubelet.
        """
        sides = image_size or model.image_size
        height, width = (sides, sides) if isinstance(sides, int) else sides
        frames = model.frames if frames is None else frames
        if min(height, width) < model.patch or height % model.patch or width % model.patch:
            raise JepaError(f'image_size of {model.name} must be multiples of its patch ({model.patch}), '
                            f'found {height}x{width}')
        if frames < 1 or frames % model.tubelet and frames != 1 or model.tubelet == 1 and frames != 1:
            takes = f'a multiple of {model.tubelet}, or 1' if model.tubelet > 1 else '1'
            raise JepaError(f'frames of {model.name} must be {takes}, found {frames}')
        return cls(model, (height, width), frames)

    @property
    def patch(self):
        """Side of a patch in pixels."""
        return self.model.patch

    @property
    def tubelet(self):
        """Frames of a slice."""
        return self.model.tubelet

    @property
    def grid(self):
        """(rows, columns) of the tokens of one slice."""
        return self.image_size[0] // self.model.patch, self.image_size[1] // self.model.patch

    @property
    def tokens(self):
        """N, tokens of one slice."""
        return self.grid[0] * self.grid[1]

    @property
    def slices(self):
        """T; a lone frame is one slice."""
        return -(-self.frames // self.model.tubelet)

    @property
    def slice_period(self):
        """Seconds between slices in training; None for an image model."""
        return self.model.slice_period


_GIANT_16 = Size(1408, 40, 16, 6144)  # I-JEPA's; from V-JEPA 2 on giant has 22 heads


def _narrow(depth, heads):
    return Size(384, depth, heads, 1536)


def _ijepa(name, size, image_size, patch, predictor_depth, files, hub):
    predictor = PredictorShape(_narrow(predictor_depth, size.heads), size.width)
    return Model('ijepa', f'ijepa-{name}', size, patch, 1, image_size, 1, 0.0, SINCOS_2D, (size.depth - 1,),
                 False, predictor, 'target_encoder', NON_COMMERCIAL, f'{_GITHUB}/ijepa',
                 tuple(f'{_FILES}/ijepa/{file}' for file in files),
                 tuple(f'facebook/ijepa_{each}' for each in hub))


def _vjepa(name, size, image_size, file):
    # Its predictor has the encoder's number of heads (app/vjepa/utils.py); clips take every 4th frame of 30
    # per second.
    predictor = PredictorShape(_narrow(12, size.heads), size.width, mask_tokens=2, mask_index=1)
    return Model('vjepa', f'vjepa-{name}', size, 16, 2, image_size, 16, 7.5, SINCOS_3D, (size.depth - 1,),
                 False, predictor, 'target_encoder', NON_COMMERCIAL, f'{_GITHUB}/jepa',
                 (f'{_FILES}/jepa/{file}',))


def _vjepa2(name, size, image_size, file, hub=(), frames=64, weights='target_encoder', predictor=None):
    predictor = predictor or PredictorShape(_narrow(12, 12), size.width, mask_tokens=10, mask_index=1)
    return Model('vjepa2', f'vjepa2-{name}', size, 16, 2, image_size, frames, 4.0, ROPE_TILED,
                 (size.depth - 1,), False, predictor, weights, MIT, f'{_GITHUB}/vjepa2',
                 (f'{_FILES}/vjepa2/{file}',), hub)


def _vjepa21(name, size, taps, distilled, file):
    levels = 1 if distilled else len(taps)
    depth, out_width = (12, TEACHER_WIDTH) if distilled else (24, levels * size.width)
    # Training numbers its mask tokens by clip length and all clips have one length, so that the first was
    # trained and the others are still zero (app/vjepa_2_1/wrappers.py, zero_init_mask_tokens); the code's
    # default is a zero one.
    predictor = PredictorShape(_narrow(depth, 12), out_width, mask_tokens=8, mask_index=0, levels=levels)
    return Model('vjepa2.1', f'vjepa2.1-{name}', size, 16, 2, 384, 64, 4.0, ROPE_RESCALED, taps, True,
                 predictor, 'ema_encoder' if distilled else 'target_encoder', MIT, f'{_GITHUB}/vjepa2',
                 (f'{_FILES}/vjepa2/{file}',))


_AC = PredictorShape(Size(1024, 24, 16, 4096), SIZES['giant'].width, mask_tokens=0, action_conditioned=True)

MODELS = {model.name: model for model in (
    _ijepa('vith14', SIZES['huge'], 224, 14, 12,
           ('IN1K-vit.h.14-300e.pth.tar', 'IN22K-vit.h.14-900e.pth.tar'),
           ('vith14_1k', 'vith14_22k')),
    _ijepa('vith16_448', SIZES['huge'], 448, 16, 12, ('IN1K-vit.h.16-448px-300e.pth.tar',), ('vith16_1k',)),
    _ijepa('vitg16', _GIANT_16, 224, 16, 16, ('IN22K-vit.g.16-600e.pth.tar',), ('vitg16_22k',)),
    _vjepa('vitl16', SIZES['large'], 224, 'vitl16/vitl16.pth.tar'),
    _vjepa('vith16', SIZES['huge'], 224, 'vith16/vith16.pth.tar'),
    _vjepa('vith16_384', SIZES['huge'], 384, 'vith16-384/vith16-384.pth.tar'),
    _vjepa2('vitl', SIZES['large'], 256, 'vitl.pt', ('facebook/vjepa2-vitl-fpc64-256',)),
    _vjepa2('vith', SIZES['huge'], 256, 'vith.pt', ('facebook/vjepa2-vith-fpc64-256',)),
    _vjepa2('vitg', SIZES['giant'], 256, 'vitg.pt', ('facebook/vjepa2-vitg-fpc64-256',)),
    _vjepa2('vitg_384', SIZES['giant'], 384, 'vitg-384.pt', ('facebook/vjepa2-vitg-fpc64-384',)),
    _vjepa2('vitg_ac', SIZES['giant'], 256, 'vjepa2-ac-vitg.pt', frames=8, weights='encoder', predictor=_AC),
    _vjepa21('vitb', SIZES['base'], (2, 5, 8, 11), True, 'vjepa2_1_vitb_dist_vitG_384.pt'),
    _vjepa21('vitl', SIZES['large'], (5, 11, 17, 23), True, 'vjepa2_1_vitl_dist_vitG_384.pt'),
    _vjepa21('vitg', SIZES['giant'], (9, 19, 29, 39), False, 'vjepa2_1_vitg_384.pt'),
    _vjepa21('vitG', SIZES['gigantic'], (11, 23, 37, 47), False, 'vjepa2_1_vitG_384.pt'),
)}


def find(name, size=None):
    """
    Look up a published model.

    :param name: a key of `MODELS`; or with `size`, its family.
    :raises JepaError: with what there is.
    """
    if size is None:
        if name not in MODELS:
            raise JepaError(f'a published model must be one of {", ".join(MODELS)}, found {name!r}')
        return MODELS[name]
    sizes = [model.name.removeprefix(f'{name}-') for model in MODELS.values() if model.family == name]
    if not sizes:
        families = ', '.join(dict.fromkeys(model.family for model in MODELS.values()))
        raise JepaError(f'the family of published weights must be one of {families}, found {name!r}')
    if size not in sizes:
        raise JepaError(f'the model of family {name} must be one of {", ".join(sizes)}, found {size!r}')
    return MODELS[f'{name}-{size}']
