"""What a folder holds, in which format, checked and as training and evaluation want it."""
