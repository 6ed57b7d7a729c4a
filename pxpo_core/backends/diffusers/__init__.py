"""The algorithm on diffusers pipelines of the SD1.5 and SDXL kinds, without ComfyUI."""
