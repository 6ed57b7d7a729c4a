"""Rounds of training on a diffusers pipeline, without ComfyUI."""
