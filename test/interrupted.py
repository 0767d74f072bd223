# SPDX-License-Identifier: Apache-2.0
"""A training run that is cut off."""

import pytest


def run_until(run, step):
    """Run, and fall over right after the checkpoint of a step, as if the machine had been switched off."""
    save = run.save

    def save_and_stop(name):
        save(name)
        if run.step == step:
            raise KeyboardInterrupt

    run.save = save_and_stop
    with pytest.raises(KeyboardInterrupt):
        run.run()
