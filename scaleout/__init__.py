"""Simulate LLM training on many accelerators."""
