"""Development tools: make an environment, fetch ComfyUI, start it, talk to it.

Nothing here is part of the installed node pack. Everything except `launch` and `report` uses the
standard library only, so that a fresh clone can start with a bare Python 3.10.
"""
