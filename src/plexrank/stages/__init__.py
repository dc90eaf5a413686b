"""The stages: tile, train, attribute, rank, report. Each reads the run directory and writes its own part.

Every stage skips units that are done and says why it works on the others. ``train`` and ``attribute``
may run as several processes; the other stages are for one.
"""
