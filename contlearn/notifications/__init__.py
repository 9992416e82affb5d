"""Telling people and programs what happened: a durable outbox and four kinds of channels."""
