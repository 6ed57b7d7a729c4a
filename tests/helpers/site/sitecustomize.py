"""Before any program of a test: a torchvision without its compiled operators can be imported."""

from pxpo_dev.launch import import_torchvision

import_torchvision()
