"""Results as pictures, timelines and pages."""
