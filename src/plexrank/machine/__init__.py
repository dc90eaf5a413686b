"""What computes here: cores, memory, GPUs, and the processes that share the work."""
