#!/usr/bin/python3
"""Writes the small files of tests/data/io with numpy and PyTorch, so that the readers are tested on genuine ones."""
import os
import numpy as np
import torch

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "io")
os.makedirs(out, exist_ok=True)
path = lambda name: os.path.join(out, name)
images = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
labels = np.array([3, 1, 2, 0], dtype=np.int64)

np.save(path("float.npy"), np.arange(6, dtype=np.float32).reshape(2, 3) / 4)
np.save(path("fortran.npy"), np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)))
np.save(path("big_endian.npy"), np.arange(3, dtype=">f4"))
np.savez(path("stored.npz"), images=images, labels=labels)
np.savez_compressed(path("deflated.npz"), images=images, labels=labels)

torch.save(torch.from_numpy(images), path("tensor.pt"))
torch.save({"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}, path("dict.pt"))
torch.save((torch.from_numpy(images), torch.from_numpy(labels)), path("tuple.pt"))
torch.save([torch.from_numpy(images[i : i + 1]) for i in range(4)], path("list.pt"))
torch.save(torch.from_numpy(images), path("legacy.pt"), _use_new_zipfile_serialization=False)
