"""Captions that are changed so that they no longer fit their audio, and what can tell so without
hearing it.
"""
