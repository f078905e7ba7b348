"""The operations of ``kernels.step`` as Triton kernels (Tillet et al. 2019).

Importing this package costs nothing; ``ops`` needs Triton, which comes with PyTorch's builds for
CUDA, and a C compiler, with which it builds each kernel's launcher.
"""
