"""Everything that writes HTML: one style, one kit of charts. No script, no network."""
