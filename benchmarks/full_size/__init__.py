"""Real architectures at full width with random weights, on the CPU, through the real ComfyUI."""
