"""Before a run: what is to be done, what stands in its way, what it costs."""
