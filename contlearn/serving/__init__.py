"""The server: follows the champion and answers over HTTP. Importing it has no effect."""
