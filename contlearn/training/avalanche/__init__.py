"""The only importer of avalanche: text models as its strategies and plugins see them."""
