r"""Laws for the levels of a grid that follow from the spectrum.

The tangent law and what other samplers want instead are formulas (:mod:`~schedrl.sources.gaussian.formulas`), whose
scale can be fitted (:mod:`~schedrl.sources.gaussian.fits`); the geodesic
(:mod:`~schedrl.sources.gaussian.geodesic`) is best for many DDIM steps and any spectrum. This module has them all.
"""

from schedrl.sources.gaussian.fits import Law, best_gamma, best_rho
from schedrl.sources.gaussian.formulas import (
    cube_root_sigmas,
    gamma_star,
    power_sigmas,
    power_time_sigmas,
    sine_sigmas,
    tangent_energies,
    tangent_on_schedule,
    tangent_sigmas,
)
from schedrl.sources.gaussian.geodesic import geodesic_energies, geodesic_sigmas

__all__ = [
    "Law",
    "best_gamma",
    "best_rho",
    "cube_root_sigmas",
    "gamma_star",
    "geodesic_energies",
    "geodesic_sigmas",
    "power_sigmas",
    "power_time_sigmas",
    "sine_sigmas",
    "tangent_energies",
    "tangent_on_schedule",
    "tangent_sigmas",
]
