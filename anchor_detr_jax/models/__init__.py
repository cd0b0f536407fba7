"""Detectors: from a batch of images to class logits and boxes."""
