"""Networks from pixels to feature maps."""
