"""Agents compared on sampling problems they have not seen: exact errors, regret to the optimum, what finding it took.

The protocol, in short. Every agent places the same number of sampler steps on the same held-out sources; errors are
exact. Ratios of errors are averaged geometrically, with bootstrap intervals over sources. What a search spent on each
source and what a policy's training spent once are columns beside them.
"""
