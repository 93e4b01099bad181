"""Who computes a population's training: the CPU kernel or PyTorch."""
