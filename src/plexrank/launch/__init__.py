"""A run as a graph of Slurm jobs: profile, scripts, submission, status. Runs on the host, and loads no torch."""
