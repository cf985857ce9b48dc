"""CUDA kernels on the CPU: shim.h and shim.cpp run the source, host.py compiles and calls it, launcher.py stands in for
a GPU, cases.py makes inputs that show a wrong access, checks.py holds what is demanded of the kernels."""
