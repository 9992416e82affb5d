"""Computing answers: the queue, the workers, and how this machine computes fastest."""
