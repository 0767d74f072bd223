# SPDX-License-Identifier: Apache-2.0
"""What test_trainer_parallel starts through torchrun: runs one after the other in the same processes."""

import json
import sys
from pathlib import Path

from jepa_ros import processes
from jepa_ros.training import config as configuration
from jepa_ros.training.trainer import Trainer


def main(task):
    """
    :param task: dict with the videos, the cache, and for every run its values, folder and where it is cut
        off.
    """
    for run in task['runs']:
        trainer = Trainer(configuration.from_dict(run['values']), run['out'], [task['videos']], task['cache'])
        trainer.resume()
        if run['until']:
            save = trainer.save

            def save_and_stop(name, trainer=trainer, save=save, until=run['until']):
                save(name)
                if trainer.step == until:
                    raise KeyboardInterrupt

            trainer.save = save_and_stop
        try:
            trainer.run()
        except KeyboardInterrupt:
            pass
    trainer.place.close()


if __name__ == '__main__':
    main(json.loads(Path(sys.argv[1]).read_text()))
    processes.leave(0)
