"""Immutable versions, the journal of what happened to them, and the one champion that is served."""
