"""From a file in the inbox to records in the catalog: claim, check, decide, commit."""
