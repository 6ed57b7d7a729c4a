"""Demonstration material: a model small enough to travel with the extension."""
