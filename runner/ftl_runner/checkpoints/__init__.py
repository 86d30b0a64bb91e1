"""Checkpoints: where they are stored, when one counts as committed, and how a run resumes from the newest.

A checkpoint is committed by our manifest, which is written last; a folder without one does not exist.
"""
