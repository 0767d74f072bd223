# SPDX-License-Identifier: Apache-2.0
"""
Every published JEPA model in one table: shapes, positions, predictor, licence, and where its weights are.

The numbers come from the authors' repositories: facebookresearch/ijepa (`configs/`, `src/helper.py`),
facebookresearch/jepa (`configs/pretrain/`, `app/vjepa/utils.py`) and facebookresearch/vjepa2 (`src/hub/backbones.py`,
`configs/train/`, `app/vjepa_2_1/models/`). Where two of them disagree, what the weights were trained with counts.
"""

from dataclasses import dataclass

from jepa_ros.errors import JepaError

POSITIONS = ('sincos2d', 'sincos3d', 'rope_tiled', 'rope_rescaled')
NON_COMMERCIAL, MIT = 'CC-BY-NC-4.0', 'MIT'
FILES = 'https://dl.fbaipublicfiles.com'
TEACHER_WIDTH = 1664  # of the ViT-G that taught V-JEPA 2.1's B and L


@dataclass(frozen=True)
class PredictorSpec:
    """
    What a published predictor is.

    :param depth: blocks, `width` wide, with `heads` heads and a feed-forward layer of `4 * width`.
    :param out_width: features of its output: of the encoder's space, or of the teacher's.
    :param kind: `mask` (fills mask tokens) or `action` (V-JEPA 2-AC, frame by frame).
    :param mask_tokens: how many it has; `mask_index` is the one that the authors' code takes by default.
    :param levels: encoder outputs that are joined into its input, features first to last: 1, or 4 in V-JEPA 2.1's g and
        G, where `out_width` counts all four as well (the last of them is the encoder's output).
    :param context_head: it has a second output layer, for context tokens (`predictor_proj_context`).
    :param modality: it has an embedding for images and one for videos.
    :param action_width: numbers of an action, and of a state (`action` only); `extrinsics_width`: of a camera pose.
    """

    depth: int
    width: int
    heads: int
    out_width: int
    kind: str = 'mask'
    mask_tokens: int = 1
    mask_index: int = 0
    levels: int = 1
    context_head: bool = False
    modality: bool = False
    action_width: int = 0
    extrinsics_width: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """
    What a published model is. `dataclasses.replace` makes a small one of it.

    :param family: as in a bundle's manifest; `name`: of the size, unique in its family.
    :param width: D; `depth` blocks with `heads` heads and a feed-forward layer of `mlp_width`.
    :param patch: side of a patch in pixels; `tubelet`: frames of a slice (1: an image model).
    :param image_size: side of the square images it was trained at, in pixels.
    :param frames: of a clip in pretraining; `frame_rate`: of that clip per second (0: an image model).
    :param max_frames: the longest clip it was trained at.
    :param position: one of `POSITIONS`.
    :param taps: blocks whose output has a norm of its own, the last of which is the model's output norm (V-JEPA 2.1);
        empty: one final norm.
    :param weights: which of a file's encoders is the one to use.
    :param source: address of the original file; `hub`: its name on the Hugging Face hub, if it is there.
    """

    family: str
    name: str
    width: int
    depth: int
    heads: int
    mlp_width: int
    patch: int
    tubelet: int
    image_size: int
    frames: int
    frame_rate: float
    max_frames: int
    position: str
    predictor: PredictorSpec
    weights: str
    licence: str
    source: str
    hub: str = ''
    taps: tuple[int, ...] = ()

    @property
    def head_dim(self):
        """E, features of one head."""
        return self.width // self.heads

    @property
    def grid(self):
        """(rows, columns) of a slice at the published image size."""
        return self.image_size // self.patch, self.image_size // self.patch

    @property
    def slices(self):
        """T of a clip of `frames`."""
        return self.frames // self.tubelet

    @property
    def has_image_path(self):
        """A patch embedding for single images beside that for video, and an embedding of which is which."""
        return self.family == 'vjepa2.1'

    @property
    def parameters(self):
        """Trained numbers of the encoder (fixed positions are none)."""
        d, pixels = self.width, 3 * self.patch ** 2
        norm = 2 * d
        block = 2 * norm + 4 * (d * d + d) + 2 * d * self.mlp_width + self.mlp_width + d
        image_path = pixels * d + d + 2 * d if self.has_image_path else 0
        return self.tubelet * pixels * d + d + self.depth * block + max(len(self.taps), 1) * norm + image_path


def _ijepa(name, size, image_size, patch, predictor_depth, file, hub):
    width, depth, heads, mlp_width = size
    return ModelSpec('ijepa', name, width, depth, heads, mlp_width, patch, 1, image_size, 1, 0.0, 1, 'sincos2d',
                     PredictorSpec(predictor_depth, 384, heads, width), 'target_encoder', NON_COMMERCIAL,
                     f'{FILES}/ijepa/{file}', hub)


def _vjepa(name, size, image_size, file):
    width, depth, heads, mlp_width = size
    # Its predictor takes the encoder's number of heads (app/vjepa/utils.py). Clips: every 4th frame of 30 per second.
    return ModelSpec('vjepa', name, width, depth, heads, mlp_width, 16, 2, image_size, 16, 7.5, 16, 'sincos3d',
                     PredictorSpec(12, 384, heads, width, mask_tokens=2), 'target_encoder', NON_COMMERCIAL,
                     f'{FILES}/jepa/{file}')


def _vjepa2(name, size, image_size, file, hub='', predictor=None, weights='target_encoder'):
    width, depth, heads, mlp_width = size
    predictor = predictor or PredictorSpec(12, 384, 12, width, mask_tokens=10, mask_index=1)
    return ModelSpec('vjepa2', name, width, depth, heads, mlp_width, 16, 2, image_size, 16, 4.0, 64, 'rope_tiled',
                     predictor, weights, MIT, f'{FILES}/vjepa2/{file}', hub)


def _vjepa21(name, size, taps, distilled, file):
    width, depth, heads, mlp_width = size
    shared = {'mask_tokens': 8, 'mask_index': 1, 'context_head': True, 'modality': True}
    predictor = (PredictorSpec(12, 384, 12, TEACHER_WIDTH, **shared) if distilled else
                 PredictorSpec(24, 384, 12, len(taps) * width, levels=len(taps), **shared))
    return ModelSpec('vjepa2.1', name, width, depth, heads, mlp_width, 16, 2, 384, 16, 4.0, 64, 'rope_rescaled',
                     predictor, 'ema_encoder' if distilled else 'target_encoder', MIT, f'{FILES}/vjepa2/{file}',
                     taps=taps)


_B, _L, _H = (768, 12, 12, 3072), (1024, 24, 16, 4096), (1280, 32, 16, 5120)
_G16, _G22, _GG = (1408, 40, 16, 6144), (1408, 40, 22, 6144), (1664, 48, 26, 8192)  # I-JEPA's giant has 16 heads

MODELS = (
    _ijepa('vith14', _H, 224, 14, 12, 'IN1K-vit.h.14-300e.pth.tar', 'facebook/ijepa_vith14_1k'),
    _ijepa('vith16_448', _H, 448, 16, 12, 'IN1K-vit.h.16-448px-300e.pth.tar', 'facebook/ijepa_vith16_1k'),
    _ijepa('vitg16', _G16, 224, 16, 16, 'IN22K-vit.g.16-600e.pth.tar', 'facebook/ijepa_vitg16_22k'),
    _vjepa('vitl16', _L, 224, 'vitl16/vitl16.pth.tar'),
    _vjepa('vith16', _H, 224, 'vith16/vith16.pth.tar'),
    _vjepa('vith16_384', _H, 384, 'vith16-384/vith16-384.pth.tar'),
    _vjepa2('vitl', _L, 256, 'vitl.pt', 'facebook/vjepa2-vitl-fpc64-256'),
    _vjepa2('vith', _H, 256, 'vith.pt', 'facebook/vjepa2-vith-fpc64-256'),
    _vjepa2('vitg', _G22, 256, 'vitg.pt', 'facebook/vjepa2-vitg-fpc64-256'),
    _vjepa2('vitg_384', _G22, 384, 'vitg-384.pt', 'facebook/vjepa2-vitg-fpc64-384'),
    _vjepa2('vitg_ac', _G22, 256, 'vjepa2-ac-vitg.pt', weights='encoder', predictor=PredictorSpec(
        24, 1024, 16, 1408, 'action', mask_tokens=0, action_width=7, extrinsics_width=6)),
    _vjepa21('vitb', _B, (2, 5, 8, 11), True, 'vjepa2_1_vitb_dist_vitG_384.pt'),
    _vjepa21('vitl', _L, (5, 11, 17, 23), True, 'vjepa2_1_vitl_dist_vitG_384.pt'),
    _vjepa21('vitg', _G22, (9, 19, 29, 39), False, 'vjepa2_1_vitg_384.pt'),
    _vjepa21('vitG', _GG, (11, 23, 37, 47), False, 'vjepa2_1_vitG_384.pt'),
)


def find(family, name):
    """
    Look up a published model.

    :param family: one of the manifest's families; `name`: of its size.
    :raises JepaError: with what there is.
    """
    names = [model.name for model in MODELS if model.family == family]
    if not names:
        families = ', '.join(dict.fromkeys(model.family for model in MODELS))
        raise JepaError(f'the family of official weights must be one of {families}, found {family!r}')
    for model in MODELS:
        if (model.family, model.name) == (family, name):
            return model
    raise JepaError(f'the model of family {family} must be one of {", ".join(names)}, found {name!r}')
