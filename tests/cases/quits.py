import sys

print("no GPU, leaving")
sys.exit(0)
