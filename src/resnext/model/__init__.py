"""Networks from specifications: three forms of the blocks, construction, conversion."""
