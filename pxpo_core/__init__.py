"""PXPO: pixel-wise policy optimisation of diffusion models (arXiv 2404.04356).

The algorithm as pure functions of tensors and small frozen dataclasses. Nothing here imports
ComfyUI except `pxpo_core.backends.comfy`.
"""
