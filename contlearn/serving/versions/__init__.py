"""The versions a server holds: followed, loaded, swapped, tried, let go."""
