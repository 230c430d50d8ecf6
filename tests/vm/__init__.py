"""
`./run kernels`: what works on which kernel, by runs.

    look    runs on a kernel: tries its features, runs tests/bpf and the demo
    table   what was seen on several kernels, side by side; and into ARCHITECTURE.md
"""
