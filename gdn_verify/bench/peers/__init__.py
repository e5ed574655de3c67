"""Other projects' kernels as contenders: one package a file, each found and imported only when it is asked for."""
