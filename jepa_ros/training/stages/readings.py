# SPDX-License-Identifier: Apache-2.0
"""What a readout says of validation clips: how far it is off, and by which factor its covariance is wrong."""

import numpy as np
import torch

from jepa_ros.gaussian import ELLIPSE, INSIDE

FEWEST = 20  # labels at a horizon, below which it does not count in the calibration


class Readings:
    """
    Points, covariances and attributes of a readout beside the labels, summed up over batches.

    A Gaussian that is fitted by likelihood to errors with long tails is too wide where most of them lie: the
    share of the labels in its 90 % ellipse is larger than that. A controller decides by the ellipse, so the
    covariance is scaled until it holds what it says, with a factor that is log-linear in the horizon.
    """

    def __init__(self):
        self._dt, self._distance, self._error, self._log_area = [], [], [], []
        self._attributes = []

    def add(self, head, futures, dt, label):
        """
        :param head: the `nets.readout.PointReadout`; `futures`: float [M, N, D]; `dt`: float [M], s.
        :param label: float [M, 2 + A], the point and its attributes, NaN where there is none.
        """
        votes = head(futures, dt, votes=True)
        dt, point, covariance, label = (part.cpu() for part in (dt, *head.moments(votes), label))
        known = ~label[:, :2].isnan().any(-1)
        if votes.mean is not None:
            off = (votes.mean.cpu() - label[:, 2:]) / head.attributes.unit.cpu()
            self._attributes.append(off[known & ~off.isnan().any(-1)].square().double())
        off = (label[:, :2] - point)[known].double()
        covariance = covariance[known].double()
        self._dt.append(dt[known].double())
        self._distance.append((off * torch.linalg.solve(covariance, off)).sum(-1))
        self._error.append(off.norm(dim=-1))
        self._log_area.append(torch.linalg.det(covariance).log())

    def calibration(self):
        """
        :returns: float64 [2], ln of the factor on the covariance at dt 0 and its slope per second; zeros without
            labels enough.
        """
        dt, distance, *_ = self._all()
        horizons, logs = [], []
        nominal = (dt / 0.05).round()  # frames of validation clips are as even as the recording's
        for value in nominal.unique():
            of = nominal == value
            if of.sum() >= FEWEST:
                horizons.append(dt[of].mean())
                logs.append((distance[of].quantile(INSIDE) / ELLIPSE).log())
        if not logs:
            return torch.zeros(2, dtype=torch.float64)
        slope, start = np.polyfit(horizons, logs, 1) if len(logs) > 1 else (0.0, logs[0])
        return torch.tensor([float(start), float(slope)], dtype=torch.float64)

    def figures(self, calibration):
        """
        :param calibration: float [2].
        :returns: dict of the negative log likelihood of the labels (`readout_likelihood`, nats, without the
            constant), the median distance of the points from them (`readout_error`, 0..1 of the image), the share of them in the
            90 % ellipse (`inside`), and the size that this ellipse needs for it, as a standard deviation
            (`readout_std`, 0..1 of the image, geometric mean); with attributes `attribute_error`, their root mean
            square error in units of the spread of the training labels (1: nothing is known of them); nothing
            without labels.
        """
        dt, distance, error, log_area = self._all()
        if not len(dt):
            return {}
        start, slope = calibration.cpu().double()
        log_factor = start + slope * dt
        distance = distance / log_factor.exp()
        figures = {
            'readout_likelihood': float((0.5 * (distance + log_area) + log_factor).mean()),
            'readout_error': float(error.median()),
            'inside': float((distance <= ELLIPSE).double().mean()),
            'readout_std': float((0.25 * log_area + 0.5 * log_factor).mean().exp()),
        }
        if self._attributes:
            figures['attribute_error'] = float(torch.cat(self._attributes).mean().sqrt())
        return figures

    def _all(self):
        parts = self._dt, self._distance, self._error, self._log_area
        return [torch.cat(part) if part else torch.zeros(0, dtype=torch.float64) for part in parts]
