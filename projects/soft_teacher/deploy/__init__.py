"""Trained detectors in other hands: exported to other formats, converted from other frameworks."""
