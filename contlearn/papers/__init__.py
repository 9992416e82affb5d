"""What is written about versions: pointer, manifest, report and decision, parsed here alone."""
