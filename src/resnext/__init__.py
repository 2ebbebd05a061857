"""ResNeXt."""
