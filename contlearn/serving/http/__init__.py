"""The routes of the server, their limits, and the bodies they read and write."""
