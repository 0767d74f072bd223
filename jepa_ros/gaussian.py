# SPDX-License-Identifier: Apache-2.0
"""The ellipse that covariances are judged by, in figures and in pictures."""

import math

INSIDE = 0.9  # share of a Gaussian in the plane that its ellipse holds
#: Squared Mahalanobis distance of that ellipse: of two dimensions, chi squared has this quantile in closed form.
ELLIPSE = -2 * math.log(1 - INSIDE)
