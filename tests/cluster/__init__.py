"""Tests on a real Slurm with Apptainer, both brought up on this machine; run by ``make cluster-test``."""
