"""Constants of chips from tables of measured kernels; each script writes them with residuals."""
