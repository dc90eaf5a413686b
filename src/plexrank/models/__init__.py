"""Networks as plain modules: they know nothing of files, processes or Slurm."""
