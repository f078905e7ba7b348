import torch

# The models here are so small that threads cost more than they give.
torch.set_num_threads(1)
