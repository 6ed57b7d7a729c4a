"""Toy Faces: a small latent diffusion model of procedurally drawn cartoon portraits."""
