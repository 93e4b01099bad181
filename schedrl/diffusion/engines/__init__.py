"""The engines that train a population: the CPU kernel and PyTorch."""
