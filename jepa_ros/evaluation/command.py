# SPDX-License-Identifier: Apache-2.0
"""Measure what a bundle is worth: on recordings, or in the simulated cell with the arm at work."""

import argparse
import importlib
import importlib.util

#: Each is a module with `configure(parser)` and `run(args)`, as the commands of `jepa` are.
WHAT = {
    'forecast': (
        'jepa_ros.evaluation.forecast_command',
        'on recordings: skill of the futures, error of the readout',
    ),
    'rollout': (
        'jepa_ros.evaluation.rollout_command',
        'in the simulated cell: how often the arm takes the bin, against other contenders',
    ),
    'violations': (
        'jepa_ros.evaluation.violations_command',
        'on pairs of possible and impossible clips: which surprises more',
    ),
}


def configure(parser):
    """Declare the arguments of every kind of evaluation."""
    kinds = parser.add_subparsers(dest='what', required=True, metavar='WHAT')
    for name, (module, text) in WHAT.items():
        if importlib.util.find_spec(module) is None:
            continue
        kind = kinds.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command = importlib.import_module(module)
        command.configure(kind)
        kind.set_defaults(evaluate=command.run)


def run(args) -> int:
    """Run the one that was asked for; returns the exit code."""
    return args.evaluate(args)
