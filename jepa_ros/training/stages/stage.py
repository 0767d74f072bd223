# SPDX-License-Identifier: Apache-2.0
"""What the trainer's loop asks of a stage."""

from jepa_ros.training import schedules


class Stage:
    """
    One stage of a run. Steps count from 0 within the stage.

    :param config: `config.Config`.
    :param model: `model.Model`; what a stage trains is part of it, so that checkpoints hold it.
    :param clips: `clips.Clips`.
    :param place: `parallel.Place`: the device, and this process's share of a batch.

    Attributes: `values`, the section of the configuration with the stage's name (a `config.Stage`);
    `modules`, what is trained, each module's gradient being clipped by itself; `frozen`, modules that are
    used as they are, or moved by `after_update`.
    """

    name = ''
    # True where `batch` reads recordings: it is then made by data.workers processes, and must pickle.
    decodes = False
    advice = 'the encoder stands still in this stage: begin with one that has not collapsed'  # once it has

    def __init__(self, config, model, clips, place):
        self.config, self.model, self.clips, self.place = config, model, clips, place
        self.values = getattr(config, self.name)
        self.modules, self.frozen = [], []

    def prepare(self, step, progress, stop):
        """
        Work before the first step of this process.

        :param step: 0, or where a resumed run goes on.
        :param progress: `rich.progress.Progress`; `stop`: Event that asks to leave early.
        """

    def batch(self, step):
        """
        What `loss` takes, from (seed, stage, step, clip index) alone.

        Random numbers of the batch come from the batch as a whole, those of a clip from its index in it, so
        that every process can make its own share (`place.rows`) of the same batch.

        :returns: tuple of arrays with one row per clip of this process, and of other values, the same for all
            clips.
        """
        raise NotImplementedError

    def sources(self, step):
        """
        Paths of the recordings in the batch of a step, of all processes: they are named when it is not
        finite.
        """
        return []

    def loss(self, *batch):
        """
        :param batch: as `batch` gives it, arrays being tensors on the device; perhaps a part of its rows.
        :returns: scalar tensor, and dict of more figures (floats or scalar tensors; NaN where there is none).
        """
        raise NotImplementedError

    def after_update(self, step):
        """What follows an update of the weights. :returns: dict of figures for the log."""
        return {}

    def move_target(self, step):
        """Let the target encoder follow the encoder: `after_update` where that is trained."""
        momentum = schedules.momentum(step, self.values)
        self.model.update_target(momentum)
        return {'momentum': momentum}

    def validate(self):
        """
        Every process calls it, and gets the same figures.

        :returns: dict of split (`train_clips`, `validation`) to dict of figures; `std` and `rank` are
            watched.
        """
        return {}

    def score(self, figures):
        """
        :param figures: the validation split's.
        :returns: what makes a checkpoint the best one, None for nothing.
        """
        return None
