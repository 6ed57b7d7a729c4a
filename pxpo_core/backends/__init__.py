"""The only place that knows a host: one sub-package per host, behind `pxpo_core.denoiser`."""
