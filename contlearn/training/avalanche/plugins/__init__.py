"""avalanche plugins that keep their state and work on text; loaded only when one is used."""
