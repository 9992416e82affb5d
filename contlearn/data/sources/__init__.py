"""Rows that are fetched: files behind an address, data sets of a hub, SQL queries."""
