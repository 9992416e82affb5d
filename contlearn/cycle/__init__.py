"""The update cycle and nothing else: plan, the steps of the child, decide, settle."""
