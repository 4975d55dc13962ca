"""One server: `main` is the process, `lifetimes` what runs and in which order, `wiring` who knows whom."""
