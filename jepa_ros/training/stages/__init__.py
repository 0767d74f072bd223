# SPDX-License-Identifier: Apache-2.0
"""
The stages of a run: what is trained, on what, with which loss. `trainer` runs them in the order of the key
`stages`.

A new stage is a module here with a subclass of `stage.Stage`, a row in `STAGES`, and a section of the same
name in `config.Config`.
"""

import importlib

STAGES = {
    'pretraining': 'Pretraining',
    'distillation': 'Distillation',
    'heads': 'Heads',
    'actions': 'Actions',
}


def build(config, model, clips, place):
    """
    The stages of a run, in order; those of no steps are left out.

    :param config: `config.Config`; `model`: `model.Model`; `clips`: `clips.Clips`; `place`: `parallel.Place`.
    :returns: list of `stage.Stage`.
    """
    stages = []
    for name in config.stages:
        if getattr(config, name).steps:
            module = importlib.import_module(f'{__name__}.{name}')
            stages.append(getattr(module, STAGES[name])(config, model, clips, place))
    return stages
