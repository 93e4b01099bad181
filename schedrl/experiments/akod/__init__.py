"""Paper B's experiment: a fixed schedule, and AKOD's parts one by one and together.

The kernel over local variance, multi-scale feature integration and β modulation, each against the plain network under a
fixed schedule; a plain network of MSFI's arithmetic; and hand-made schedules in the kernel's place. Under AdamW, which
the paper uses, and under DSC.
"""
